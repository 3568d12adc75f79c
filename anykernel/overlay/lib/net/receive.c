// SPDX-License-Identifier: GPL-2.0
/*
 * Frames from the host: as hardware does, the driver looks at their checksums, takes
 * VLAN tags out, and says of which segments a frame was put together.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip.h>
#include "lib.h"
#include "netdev.h"

/* A TCP segment or UDP datagram that is whole, behind no other header than IP's. */
struct transport {
	u8 protocol;
	u8 version;		/* of IP */
	u16 at, len;		/* from skb->data on, with its header */
	__wsum pseudo;		/* sum of the pseudo header */
};

static bool find_transport(const struct sk_buff *skb, struct transport *t)
{
	const struct iphdr *ip4 = (const void *)skb->data;
	const struct ipv6hdr *ip6 = (const void *)skb->data;
	unsigned int end;

	if (skb->protocol == htons(ETH_P_IP) && skb->len >= sizeof(*ip4)) {
		t->version = 4;
		t->protocol = ip4->protocol;
		t->at = ip4->ihl * 4;
		end = ntohs(ip4->tot_len);
		if (ip4->version != 4 || t->at < sizeof(*ip4) || ip_is_fragment(ip4))
			return false;
	} else if (skb->protocol == htons(ETH_P_IPV6) && skb->len >= sizeof(*ip6)) {
		t->version = 6;
		t->protocol = ip6->nexthdr;
		t->at = sizeof(*ip6);
		end = sizeof(*ip6) + ntohs(ip6->payload_len);
		if (ip6->version != 6)
			return false;
	} else {
		return false;
	}
	if (end > skb->len || end < t->at)
		return false;
	t->len = end - t->at;
	if (t->protocol == IPPROTO_TCP)
		return t->len >= sizeof(struct tcphdr);
	return t->protocol == IPPROTO_UDP && t->len >= sizeof(struct udphdr) &&
	       ((const struct udphdr *)(skb->data + t->at))->len == htons(t->len) &&
	       ((const struct udphdr *)(skb->data + t->at))->check;
}

/* Whether the checksum of what find_transport() found is right. */
static bool sums_up(const struct sk_buff *skb, struct transport *t)
{
	const void *addresses = t->version == 4 ? &((const struct iphdr *)skb->data)->saddr :
				(const void *)&((const struct ipv6hdr *)skb->data)->saddr;

	t->pseudo = csum_partial(addresses, t->version == 4 ? 8 : 32,
				 (__force __wsum)htonl(t->protocol + t->len));
	return !csum_fold(csum_partial(skb->data + t->at, t->len, t->pseudo));
}

/* The frame is one of segments with `size` bytes of payload: gives it the form in which GRO
 * would leave it.  False: it can't be. */
static bool set_gso(struct sk_buff *skb, const struct transport *t, u32 size)
{
	struct skb_shared_info *info = skb_shinfo(skb);
	unsigned int header, field, type;
	__sum16 *check;

	if (t->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (void *)(skb->data + t->at);

		header = tcp->doff * 4;
		if (header < sizeof(*tcp))
			return false;
		type = (t->version == 4 ? SKB_GSO_TCPV4 : SKB_GSO_TCPV6) |
		       (tcp->cwr ? SKB_GSO_TCP_ECN : 0);
		check = &tcp->check;
	} else {
		header = sizeof(struct udphdr);
		type = SKB_GSO_UDP_L4;
		check = &((struct udphdr *)(skb->data + t->at))->check;
	}
	field = (u8 *)check - (skb->data + t->at);
	if (size >= GSO_BY_FRAGS || t->len <= header + size || skb->len != t->at + t->len ||
	    !skb_partial_csum_set(skb, t->at, field))
		return false;
	*check = ~csum_fold(t->pseudo);
	info->gso_size = size;
	info->gso_type = type;
	info->gso_segs = DIV_ROUND_UP(t->len - header, size);
	return true;
}

/* False: the frame is longer than the wire allows. */
static bool check_frame(struct sk_buff *skb, netdev_features_t features, u32 gso, bool oversized)
{
	struct transport t;

	if (features & NETIF_F_RXCSUM && find_transport(skb, &t) && sums_up(skb, &t)) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
		if (gso && features & NETIF_F_GRO_HW && set_gso(skb, &t, gso))
			return true;
	}
	return !oversized;
}

/* A tag that the stack would drop the frame for is left to it. */
static struct sk_buff *take_tag(struct sk_buff *skb)
{
	if (skb->protocol == htons(ETH_P_8021Q) && skb->len >= VLAN_HLEN + sizeof(u16))
		skb = skb_vlan_untag(skb);
	return skb;
}

static bool receive_one(struct lib_netdev *priv)
{
	struct net_device *netdev = priv->netdev;
	struct net_device_stats *stats = &netdev->stats;
	int len = lib_host.netdev_next(lib_host.host, priv->dev);
	u32 gso = 0;
	struct sk_buff *skb = NULL;
	bool oversized;

	if (len < 0)
		return false;
	if (lib_host.netdev_gso)
		gso = lib_host.netdev_gso(lib_host.host, priv->dev);
	/* What no hardware would hand over: shorter than a header, or longer
	 * than the MTU lets a frame be. */
	oversized = len > netdev->mtu + ETH_HLEN + 2 * VLAN_HLEN;
	if (len >= ETH_HLEN && (!oversized || gso)) {
		skb = napi_alloc_skb(&priv->napi, len);
		if (!skb)
			stats->rx_dropped++;
	} else {
		stats->rx_length_errors++;
		stats->rx_errors++;
	}
	if (!skb) {
		lib_host.netdev_pull(lib_host.host, priv->dev, NULL, 0);
		return true;
	}
	lib_host.netdev_pull(lib_host.host, priv->dev, skb_put(skb, len), len);
	skb->protocol = eth_type_trans(skb, netdev);
	if (netdev->features & NETIF_F_HW_VLAN_CTAG_RX)
		skb = take_tag(skb);
	if (!skb) {
		stats->rx_dropped++;
		return true;
	}
	if (!check_frame(skb, netdev->features, gso, oversized)) {
		stats->rx_length_errors++;
		stats->rx_errors++;
		kfree_skb(skb);
		return true;
	}
	stats->rx_packets++;
	stats->rx_bytes += len;
	napi_gro_receive(&priv->napi, skb);
	return true;
}

int lib_netdev_poll(struct napi_struct *napi, int budget)
{
	struct lib_netdev *priv = container_of(napi, struct lib_netdev, napi);
	int done = 0;

	while (done < budget && receive_one(priv))
		done++;
	if (done < budget)
		napi_complete_done(napi, done);
	return done;
}
