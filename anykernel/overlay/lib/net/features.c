// SPDX-License-Identifier: GPL-2.0
/* What the virtual Ethernet device can, in the kernel's terms. */
#include <linux/bitops.h>
#include <linux/if_vlan.h>
#include "lib.h"
#include "netdev.h"

static const struct {
	u32 ours;
	netdev_features_t theirs;
} table[] = {
	{ LIB_NETDEV_SG, NETIF_F_SG },
	{ LIB_NETDEV_CSUM, NETIF_F_HW_CSUM },
	{ LIB_NETDEV_TSO, NETIF_F_TSO },
	{ LIB_NETDEV_TSO6, NETIF_F_TSO6 },
	{ LIB_NETDEV_TSO_ECN, NETIF_F_TSO_ECN },
	{ LIB_NETDEV_USO, NETIF_F_GSO_UDP_L4 },
	{ LIB_NETDEV_GSO_PARTIAL, NETIF_F_GSO_PARTIAL },
	{ LIB_NETDEV_GRE, NETIF_F_GSO_GRE },
	{ LIB_NETDEV_GRE_CSUM, NETIF_F_GSO_GRE_CSUM },
	{ LIB_NETDEV_IPXIP4, NETIF_F_GSO_IPXIP4 },
	{ LIB_NETDEV_IPXIP6, NETIF_F_GSO_IPXIP6 },
	{ LIB_NETDEV_UDP_TUNNEL, NETIF_F_GSO_UDP_TUNNEL },
	{ LIB_NETDEV_UDP_TUNNEL_CSUM, NETIF_F_GSO_UDP_TUNNEL_CSUM },
	{ LIB_NETDEV_RXCSUM, NETIF_F_RXCSUM },
	{ LIB_NETDEV_GRO_HW, NETIF_F_GRO_HW },
	{ LIB_NETDEV_VLAN_TX, NETIF_F_HW_VLAN_CTAG_TX },
	{ LIB_NETDEV_VLAN_RX, NETIF_F_HW_VLAN_CTAG_RX },
};

#define TUNNELS (SKB_GSO_GRE | SKB_GSO_GRE_CSUM | SKB_GSO_IPXIP4 | SKB_GSO_IPXIP6 | \
		 SKB_GSO_UDP_TUNNEL | SKB_GSO_UDP_TUNNEL_CSUM)

#define OF_FRAMES (NETIF_F_RXCSUM | NETIF_F_GRO_HW | NETIF_F_HW_VLAN_CTAG_TX | \
		   NETIF_F_HW_VLAN_CTAG_RX)

void lib_netdev_features(struct net_device *netdev, u32 features)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(table); i++)
		if (features & table[i].ours)
			netdev->hw_features |= table[i].theirs;
	netdev->features |= netdev->hw_features;
	/* Inside of tags and tunnels, too. */
	netdev->vlan_features = netdev->hw_features & ~OF_FRAMES;
	netdev->hw_enc_features = netdev->vlan_features;
	if (features & LIB_NETDEV_GSO_PARTIAL)
		netdev->gso_partial_features = NETIF_F_GSO_GRE_CSUM;
}

/* A tunnel is known, tunnels in tunnels are left to the stack. */
netdev_features_t lib_netdev_check(struct sk_buff *skb, struct net_device *netdev,
				   netdev_features_t features)
{
	features = vlan_features_check(skb, features);
	if (skb_is_gso(skb) && hweight32(skb_shinfo(skb)->gso_type & TUNNELS) > 1)
		features &= ~NETIF_F_GSO_MASK;
	return features;
}
