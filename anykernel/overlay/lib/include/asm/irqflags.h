/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interrupts are flags that the host raises between runs (and cpu_relax() when
 * virtual time passes a deadline); they are taken where the kernel enables
 * interrupts, never in the middle of anything.
 */
#ifndef _ASM_LIB_IRQFLAGS_H
#define _ASM_LIB_IRQFLAGS_H

#include <linux/compiler.h>

extern unsigned long lib_irqs_off;
extern unsigned long lib_irq_pending;
void lib_irq_run(void);

#define ARCH_IRQ_DISABLED	1UL
#define ARCH_IRQ_ENABLED	0UL

static __always_inline unsigned long arch_local_save_flags(void)
{
	return READ_ONCE(lib_irqs_off);
}

static __always_inline void arch_local_irq_restore(unsigned long flags)
{
	barrier();
	WRITE_ONCE(lib_irqs_off, flags);
	barrier();
	if (!flags && unlikely(READ_ONCE(lib_irq_pending)))
		lib_irq_run();
}

static __always_inline void arch_local_irq_disable(void)
{
	WRITE_ONCE(lib_irqs_off, ARCH_IRQ_DISABLED);
	barrier();
}

static __always_inline void arch_local_irq_enable(void)
{
	arch_local_irq_restore(ARCH_IRQ_ENABLED);
}

static __always_inline unsigned long arch_local_irq_save(void)
{
	unsigned long flags = READ_ONCE(lib_irqs_off);

	arch_local_irq_disable();
	return flags;
}

static __always_inline bool arch_irqs_disabled_flags(unsigned long flags)
{
	return flags != ARCH_IRQ_ENABLED;
}

static __always_inline bool arch_irqs_disabled(void)
{
	return arch_irqs_disabled_flags(arch_local_save_flags());
}

#endif
