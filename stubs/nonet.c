// SPDX-License-Identifier: GPL-2.0
/* The one network namespace of a kernel without networking: held, and empty. */
#include <linux/init.h>
#include <linux/user_namespace.h>
#include <net/net_namespace.h>

void __init net_ns_init(void)
{
	init_net.user_ns = &init_user_ns;
#ifdef ns_common_init	/* newer trees count references there */
	if (ns_common_init(&init_net))
		panic("no network namespace");
#else
	refcount_set(&init_net.ns.count, 1);
#endif
}

/* Of all namespaces there is the first; what the operations make for it is used. */
int register_pernet_subsys(struct pernet_operations *ops)
{
	return ops->init ? ops->init(&init_net) : 0;
}
