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
#include "netdev.h"

static struct lib_netdev *netdevs[LIB_MAX_NETDEVS];
static DECLARE_BITMAP(raised, LIB_MAX_NETDEVS);

static bool has_room(u32 dev)
{
	return !lib_host.netdev_room || lib_host.netdev_room(lib_host.host, dev);
}

u32 lib_packets(void)
{
	return __this_cpu_read(softnet_data.processed);
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

static int lib_netdev_open(struct net_device *netdev)
{
	struct lib_netdev *priv = lib_netdev_priv(netdev);

	napi_enable(&priv->napi);
	netif_start_queue(netdev);
	return 0;
}

static int lib_netdev_stop(struct net_device *netdev)
{
	struct lib_netdev *priv = lib_netdev_priv(netdev);

	netif_stop_queue(netdev);
	napi_disable(&priv->napi);
	return 0;
}

static netdev_tx_t lib_netdev_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct lib_netdev *priv = lib_netdev_priv(netdev);

	lib_netdev_send(priv, skb);
	if (!has_room(priv->dev))
		netif_stop_queue(netdev);
	return NETDEV_TX_OK;
}

static const struct net_device_ops lib_netdev_ops = {
	.ndo_open		= lib_netdev_open,
	.ndo_stop		= lib_netdev_stop,
	.ndo_start_xmit		= lib_netdev_xmit,
	.ndo_features_check	= lib_netdev_check,
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
	priv->super_frames = config.super_frames;
	strscpy(netdev->name, config.name, sizeof(netdev->name));
	netdev->netdev_ops = &lib_netdev_ops;
	netdev->ethtool_ops = &lib_ethtool_ops;
	netdev->min_mtu = ETH_MIN_MTU;
	netdev->max_mtu = ETH_MAX_MTU;
	netdev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
	lib_netdev_features(netdev, config.features);
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
