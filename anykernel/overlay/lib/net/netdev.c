// SPDX-License-Identifier: GPL-2.0
/*
 * The virtual Ethernet device.  Received frames stay with the host until NAPI
 * asks for them; sent ones are handed over at once.
 */
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/init.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/uaccess.h>
#include "lib.h"

struct lib_netdev {
	struct napi_struct napi;
	struct net_device *netdev;
	u32 dev;
};

static struct lib_netdev *netdevs[LIB_MAX_NETDEVS];
static DECLARE_BITMAP(raised, LIB_MAX_NETDEVS);

static bool has_room(u32 dev)
{
	return !lib_host.netdev_room || lib_host.netdev_room(lib_host.host, dev);
}

void lib_netdev_irq(uint32_t dev)
{
	if (dev >= LIB_MAX_NETDEVS)
		return;
	__set_bit(dev, raised);
	lib_irq_pending |= LIB_IRQ_NETDEV;
}

void lib_netdev_interrupt(void)
{
	unsigned int dev;

	for_each_set_bit(dev, raised, LIB_MAX_NETDEVS) {
		struct lib_netdev *priv = netdevs[dev];

		__clear_bit(dev, raised);
		if (priv && netif_running(priv->netdev)) {
			if (netif_queue_stopped(priv->netdev) && has_room(dev))
				netif_wake_queue(priv->netdev);
			napi_schedule(&priv->napi);
		} else	/* a device that is down hears nothing */
			while (lib_host.netdev_next(lib_host.host, dev) >= 0)
				lib_host.netdev_pull(lib_host.host, dev, NULL, 0);
	}
}

static bool receive_one(struct lib_netdev *priv)
{
	struct net_device *netdev = priv->netdev;
	int len = lib_host.netdev_next(lib_host.host, priv->dev);
	struct sk_buff *skb;

	if (len < 0)
		return false;
	/* What no hardware would hand over: shorter than a header, or longer
	 * than the MTU lets a frame be. */
	if (len < ETH_HLEN || len > netdev->mtu + ETH_HLEN + 2 * 4) {
		netdev->stats.rx_length_errors++;
		netdev->stats.rx_errors++;
		skb = NULL;
	} else {
		skb = napi_alloc_skb(&priv->napi, len);
		if (!skb)
			netdev->stats.rx_dropped++;
	}
	if (!skb) {
		lib_host.netdev_pull(lib_host.host, priv->dev, NULL, 0);
		return true;
	}
	lib_host.netdev_pull(lib_host.host, priv->dev, skb_put(skb, len), len);
	netdev->stats.rx_packets++;
	netdev->stats.rx_bytes += len;
	skb->protocol = eth_type_trans(skb, netdev);
	napi_gro_receive(&priv->napi, skb);
	return true;
}

static int lib_netdev_poll(struct napi_struct *napi, int budget)
{
	struct lib_netdev *priv = container_of(napi, struct lib_netdev, napi);
	int done = 0;

	while (done < budget && receive_one(priv))
		done++;
	if (done < budget)
		napi_complete_done(napi, done);
	return done;
}

static int lib_netdev_open(struct net_device *netdev)
{
	struct lib_netdev *priv = *(struct lib_netdev **)netdev_priv(netdev);

	napi_enable(&priv->napi);
	netif_start_queue(netdev);
	return 0;
}

static int lib_netdev_stop(struct net_device *netdev)
{
	struct lib_netdev *priv = *(struct lib_netdev **)netdev_priv(netdev);

	netif_stop_queue(netdev);
	napi_disable(&priv->napi);
	return 0;
}

static netdev_tx_t lib_netdev_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct lib_netdev *priv = *(struct lib_netdev **)netdev_priv(netdev);

	/* What a device with checksum offload does before it sends. */
	if (skb->ip_summed == CHECKSUM_PARTIAL && skb_checksum_help(skb)) {
		netdev->stats.tx_dropped++;
		kfree_skb(skb);
		return NETDEV_TX_OK;
	}
	/* No SG feature: frames are linear.  Short ones aren't padded:
	 * the host sees what the stack made. */
	skb_tx_timestamp(skb);
	lib_host.netdev_xmit(lib_host.host, priv->dev, skb->data, skb->len);
	netdev->stats.tx_packets++;
	netdev->stats.tx_bytes += skb->len;
	consume_skb(skb);
	if (!has_room(priv->dev))
		netif_stop_queue(netdev);
	return NETDEV_TX_OK;
}

static const struct net_device_ops lib_netdev_ops = {
	.ndo_open		= lib_netdev_open,
	.ndo_stop		= lib_netdev_stop,
	.ndo_start_xmit		= lib_netdev_xmit,
	.ndo_set_mac_address	= eth_mac_addr,
	.ndo_validate_addr	= eth_validate_addr,
};

static const struct ethtool_ops lib_ethtool_ops = {
	.get_link	= ethtool_op_get_link,
	.get_ts_info	= ethtool_op_get_ts_info,
};

long lib_netdev_add(const struct lib_netdev_config __user *user_config)
{
	struct lib_netdev_config config;
	struct lib_netdev *priv;
	struct net_device *netdev;
	int err;

	if (copy_from_user(&config, user_config, sizeof(config)))
		return -EFAULT;
	if (config.version != LIB_ABI_VERSION)
		return -EPROTO;
	if (config.size < sizeof(config) || config.dev >= LIB_MAX_NETDEVS)
		return -EINVAL;
	if (netdevs[config.dev])
		return -EEXIST;
	config.name[sizeof(config.name) - 1] = 0;

	/* The NAPI context outlives the netdev's own memory in no kernel; a
	 * pointer in netdev_priv() keeps both lives apart. */
	priv = kzalloc(sizeof(*priv), GFP_KERNEL);
	netdev = alloc_etherdev(sizeof(struct lib_netdev *));
	if (!priv || !netdev) {
		err = -ENOMEM;
		goto free;
	}
	*(struct lib_netdev **)netdev_priv(netdev) = priv;
	priv->netdev = netdev;
	priv->dev = config.dev;
	strscpy(netdev->name, config.name, sizeof(netdev->name));
	netdev->netdev_ops = &lib_netdev_ops;
	netdev->ethtool_ops = &lib_ethtool_ops;
	netdev->min_mtu = ETH_MIN_MTU;
	netdev->max_mtu = ETH_MAX_MTU;
	netdev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
	netdev->hw_features = NETIF_F_HW_CSUM;
	netdev->features |= netdev->hw_features;
	if (config.mtu)
		netdev->mtu = config.mtu;
	eth_hw_addr_set(netdev, config.mac);
	netif_napi_add(netdev, &priv->napi, lib_netdev_poll);
	if (!config.carrier)
		netif_carrier_off(netdev);

	err = register_netdev(netdev);
	if (err)
		goto free;
	netdevs[config.dev] = priv;
	return netdev->ifindex;
free:
	if (netdev)
		free_netdev(netdev);
	kfree(priv);
	return err;
}

long lib_netdev_del(unsigned int dev)
{
	struct lib_netdev *priv = dev < LIB_MAX_NETDEVS ? netdevs[dev] : NULL;

	if (!priv)
		return -ENODEV;
	netdevs[dev] = NULL;
	unregister_netdev(priv->netdev);
	free_netdev(priv->netdev);
	kfree(priv);
	return 0;
}

long lib_netdev_carrier(unsigned int dev, bool up)
{
	struct lib_netdev *priv = dev < LIB_MAX_NETDEVS ? netdevs[dev] : NULL;

	if (!priv)
		return -ENODEV;
	if (up)
		netif_carrier_on(priv->netdev);
	else
		netif_carrier_off(priv->netdev);
	return 0;
}
