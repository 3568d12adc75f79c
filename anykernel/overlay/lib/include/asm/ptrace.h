/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_PTRACE_H
#define _ASM_LIB_PTRACE_H

#ifndef __ASSEMBLY__
#include <linux/types.h>

/* In the order of the host's struct user_regs_struct (x86-64). */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx;
	unsigned long r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di;
	unsigned long orig_ax;		/* system call number, or -1 */
	unsigned long ip, cs, flags, sp, ss;
};

#define user_mode(regs)			((regs)->cs != 0)
#define instruction_pointer(regs)	((regs)->ip)
#define user_stack_pointer(regs)	((regs)->sp)
#define kernel_stack_pointer(regs)	((regs)->sp)
#define frame_pointer(regs)		((regs)->bp)
#define profile_pc(regs)		instruction_pointer(regs)

static inline void instruction_pointer_set(struct pt_regs *regs, unsigned long val)
{
	regs->ip = val;
}

static inline void user_stack_pointer_set(struct pt_regs *regs, unsigned long val)
{
	regs->sp = val;
}

static inline unsigned long regs_return_value(struct pt_regs *regs)
{
	return regs->ax;
}

static inline bool is_syscall_success(struct pt_regs *regs)
{
	return regs->ax < (unsigned long)-4095L;
}


#endif
#endif
