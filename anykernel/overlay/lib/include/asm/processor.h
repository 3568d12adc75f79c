/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_PROCESSOR_H
#define _ASM_LIB_PROCESSOR_H

#include <asm/page.h>
#include <asm/ptrace.h>

/* "User" addresses are the host's. */
#define TASK_SIZE		0x7ffffffff000UL
#define TASK_SIZE_MAX		TASK_SIZE
#define STACK_TOP		TASK_SIZE
#define STACK_TOP_MAX		STACK_TOP
#define TASK_UNMAPPED_BASE	0

#ifndef __ASSEMBLY__

struct task_struct;

#define LIB_NO_SLOT	(~0U)

struct thread_struct {
	unsigned long sp;	/* of the fiber while it doesn't run */
	unsigned int slot;	/* in the table of host-owned tasks, or LIB_NO_SLOT */
};

#define INIT_THREAD	{ .slot = LIB_NO_SLOT }

void lib_cpu_relax(void);
#define cpu_relax()	lib_cpu_relax()

unsigned long __get_wchan(struct task_struct *p);

#define task_pt_regs(tsk) \
	((struct pt_regs *)((unsigned long)task_stack_page(tsk) + THREAD_SIZE) - 1)
#define KSTK_EIP(tsk)	(task_pt_regs(tsk)->ip)
#define KSTK_ESP(tsk)	(task_pt_regs(tsk)->sp)

static inline void start_thread(struct pt_regs *regs, unsigned long ip, unsigned long sp)
{
	regs->ip = ip;
	regs->sp = sp;
}

#endif
#endif
