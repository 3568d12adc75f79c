// SPDX-License-Identifier: GPL-2.0
/*
 * What hardware does to a frame before it goes over the wire: the stack may leave
 * it in pieces, without its checksum, without its VLAN tag, and as one that stands
 * for many.
 */
#include <linux/if_vlan.h>
#include <linux/netdevice.h>
#ifdef LIB_HAS_GSO_HEADER
#include <net/gso.h>
#endif
#include "lib.h"
#include "netdev.h"

/* A frame of the longest MTU, with its header and two VLAN tags. */
#define LONGEST (ETH_MAX_MTU + ETH_HLEN + 2 * VLAN_HLEN)

/* What may be sent as one: its headers are those of one large packet. */
#define PLAIN (SKB_GSO_TCPV4 | SKB_GSO_TCPV6 | SKB_GSO_UDP_L4 | SKB_GSO_TCP_ECN | \
	       SKB_GSO_TCP_FIXEDID | SKB_GSO_DODGY)

/* Frames that aren't in one piece, of all devices: nothing runs between the copy and its use. */
static u8 gathered[LONGEST];

/* The frame in one piece, with its checksum; the skb stays as it is. */
static const void *gather(const struct sk_buff *skb)
{
	u8 *sum;

	if (skb->len > LONGEST)
		return NULL;
	skb_copy_and_csum_dev(skb, gathered);
	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		sum = gathered + skb_checksum_start_offset(skb) + skb->csum_offset;
		if (!sum[0] && !sum[1])	/* which is "none" for UDP */
			sum[0] = sum[1] = 0xff;
	}
	return gathered;
}

static const void *whole(struct sk_buff *skb)
{
	if (skb_is_nonlinear(skb) || skb_is_gso(skb))
		return gather(skb);
	if (skb->ip_summed == CHECKSUM_PARTIAL && skb_checksum_help(skb))
		return NULL;
	return skb->data;
}

/* Short ones aren't padded: the host sees what the stack made. */
static void send_one(struct lib_netdev *priv, struct sk_buff *skb)
{
	struct net_device_stats *stats = &priv->netdev->stats;
	const void *frame = whole(skb);

	lib_cost(1);
	if (!frame) {
		stats->tx_dropped++;
		kfree_skb(skb);
		return;
	}
	lib_host.netdev_xmit(lib_host.host, priv->dev, frame, skb->len);
	stats->tx_packets++;
	stats->tx_bytes += skb->len;
	consume_skb(skb);
}

static void send_segments(struct lib_netdev *priv, struct sk_buff *skb)
{
	struct sk_buff *segment, *next, *segments = skb_gso_segment(skb, 0);

	if (IS_ERR(segments)) {
		priv->netdev->stats.tx_dropped++;
		kfree_skb(skb);
		return;
	}
	if (!segments) {	/* it is no longer than one */
		send_one(priv, skb);
		return;
	}
	consume_skb(skb);
	skb_list_walk_safe(segments, segment, next) {
		skb_mark_not_on_list(segment);
		send_one(priv, segment);
	}
}

void lib_netdev_send(struct lib_netdev *priv, struct sk_buff *skb)
{
	skb_tx_timestamp(skb);
	if (skb_vlan_tag_present(skb)) {
		skb = __vlan_hwaccel_push_inside(skb);
		if (!skb) {
			priv->netdev->stats.tx_dropped++;
			return;
		}
	}
	if (skb_is_gso(skb) && !(priv->super_frames && !(skb_shinfo(skb)->gso_type & ~PLAIN)))
		send_segments(priv, skb);
	else
		send_one(priv, skb);
}
