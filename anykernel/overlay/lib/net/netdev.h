/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of the virtual Ethernet device tell each other. */
#ifndef _LIB_NETDEV_H
#define _LIB_NETDEV_H

#include <linux/netdevice.h>

struct lib_netdev {
	struct napi_struct napi;
	struct net_device *netdev;
	u32 dev;		/* the host's number for it */
	bool super_frames;
};

static inline struct lib_netdev *lib_netdev_priv(const struct net_device *netdev)
{
	return *(struct lib_netdev **)netdev_priv(netdev);
}

/* transmit.c: sends what a skb holds, as hardware with the device's features would: tags,
 * segments, checksums. */
void lib_netdev_send(struct lib_netdev *priv, struct sk_buff *skb);

/* receive.c */
int lib_netdev_poll(struct napi_struct *napi, int budget);

/* features.c: those that the device has and that are on. */
void lib_netdev_features(struct net_device *netdev, u32 features);
netdev_features_t lib_netdev_check(struct sk_buff *skb, struct net_device *netdev,
				   netdev_features_t features);

#endif
