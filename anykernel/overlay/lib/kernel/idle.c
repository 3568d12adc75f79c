// SPDX-License-Identifier: GPL-2.0
/* Nothing to run: tell the host, and when the next timer is due. */
#include <linux/cpu.h>
#include <linux/irqflags.h>
#include "lib.h"

void arch_cpu_idle(void)
{
	lib_to_host(LIB_EVENT_IDLE, 0);
	/* What the host raised meanwhile is taken here. */
	raw_local_irq_enable();
#ifndef LIB_IDLE_RETURNS_IRQS_ON
	raw_local_irq_disable();
#endif
}
