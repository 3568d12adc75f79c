// SPDX-License-Identifier: GPL-2.0
/* Interrupts: bits that are set between runs and taken at enable points. */
#include <linux/export.h>
#include <linux/hardirq.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqflags.h>
#include <linux/seq_file.h>
#include <asm/irq_regs.h>
#include "lib.h"

unsigned long lib_irqs_off = ARCH_IRQ_DISABLED;
EXPORT_SYMBOL(lib_irqs_off);
unsigned long lib_irq_pending;
EXPORT_SYMBOL(lib_irq_pending);

/* The tick asks where it struck: in the kernel, always. */
static struct pt_regs interrupted;

void lib_irq_run(void)
{
	/* The boot code enables interrupts before it can take them. */
	if (system_state == SYSTEM_BOOTING && !lib_deadline)
		return;
	while (lib_irq_pending) {
		unsigned long pending = lib_irq_pending;
		bool traced = !IS_ENABLED(CONFIG_PROVE_LOCKING) || lockdep_hardirqs_enabled();
		struct pt_regs *regs;

		lib_irq_pending = 0;
		lib_irqs_off = ARCH_IRQ_DISABLED;
		if (traced)
			trace_hardirqs_off();
		irq_enter();
		regs = set_irq_regs(&interrupted);
		if (pending & LIB_IRQ_TIMER)
			lib_timer_interrupt();
		if (pending & LIB_IRQ_NETDEV)
			lib_netdev_interrupt();
		if (pending & LIB_IRQ_TASK)
			lib_task_interrupt();
		set_irq_regs(regs);
		irq_exit();
		if (traced)
			trace_hardirqs_on();
		lib_irqs_off = ARCH_IRQ_ENABLED;
	}
}
EXPORT_SYMBOL(lib_irq_run);

void __init init_IRQ(void)
{
}

int arch_show_interrupts(struct seq_file *p, int prec)
{
	return 0;
}
