/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/linkage.h>

/*
 * void *lib_fiber_switch(unsigned long *save, unsigned long sp, void *pass)
 *
 * Leaves this stack (its pointer goes to *save) for the one at sp, where the
 * same function returns `pass`.  Only what the C ABI wants kept is kept.
 */
SYM_FUNC_START(lib_fiber_switch)
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, (%rdi)
	movq	%rsi, %rsp
	movq	%rdx, %rax
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
SYM_FUNC_END(lib_fiber_switch)

/*
 * Where a new fiber begins: lib_fiber_prepare() laid its function in rbx and its
 * argument in r12.  rbp is 0, which ends stack traces.
 */
SYM_FUNC_START(lib_fiber_start)
	movq	%rax, %rdi
	movq	%r12, %rsi
	call	*%rbx
	ud2
SYM_FUNC_END(lib_fiber_start)

	.section .note.GNU-stack, "", @progbits
