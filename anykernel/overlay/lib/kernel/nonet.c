// SPDX-License-Identifier: GPL-2.0
/* What stands in for ../net/netdev.c in an image without networking. */
#include <linux/errno.h>
#include "lib.h"

void __weak lib_netdev_irq(uint32_t dev)
{
}

void __weak lib_netdev_interrupt(void)
{
}

u32 __weak lib_packets(void)
{
	return 0;
}

long __weak lib_netdev_add(const struct lib_netdev_config __user *config)
{
	return -EOPNOTSUPP;
}

long __weak lib_netdev_del(unsigned int dev)
{
	return -EOPNOTSUPP;
}

long __weak lib_netdev_carrier(unsigned int dev, bool up)
{
	return -EOPNOTSUPP;
}
