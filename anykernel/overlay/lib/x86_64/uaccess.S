/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/linkage.h>

/*
 * unsigned long lib_copy_user(void *to, const void *from, unsigned long n)
 * unsigned long lib_clear_user(void *to, unsigned long n)
 *
 * Return how many bytes were not reached: on a fault rcx says so.
 */
SYM_FUNC_START(lib_copy_user)
	movq	%rdx, %rcx
1:	rep movsb
2:	movq	%rcx, %rax
	ret
SYM_FUNC_END(lib_copy_user)

SYM_FUNC_START(lib_clear_user)
	movq	%rsi, %rcx
	xorl	%eax, %eax
3:	rep stosb
4:	movq	%rcx, %rax
	ret
SYM_FUNC_END(lib_clear_user)

	.section __ex_table, "aw"
	.balign 8
	.quad	1b, 2b
	.quad	3b, 4b

	.section .note.GNU-stack, "", @progbits
