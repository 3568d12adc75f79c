/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User memory is the host's memory: plain accesses with an exception table
 * entry each, so that a bad pointer is EFAULT.  access_ok() keeps system calls
 * out of the kernel's own memory.
 */
#ifndef _ASM_LIB_UACCESS_H
#define _ASM_LIB_UACCESS_H

#include <linux/string.h>
#include <asm/page.h>

bool lib_access_ok(unsigned long addr, unsigned long size);
#define __access_ok(ptr, size)	lib_access_ok((unsigned long)(ptr), (size))

/* Both return the number of bytes not copied (x86_64/uaccess.S). */
unsigned long lib_copy_user(void *to, const void *from, unsigned long n);
unsigned long lib_clear_user(void *to, unsigned long n);

/* The error is set beforehand and cleared by the instruction after the access. */
#define LIB_LOAD(type, mov, reg, x, ptr, err)				\
do {									\
	type __lv = 0;							\
	asm volatile("1:	" mov " %2, %" reg "0\n"		\
		     "	xorl %1, %1\n"					\
		     "2:\n"						\
		     ".pushsection __ex_table, \"aw\"\n"			\
		     "	.balign 8\n"					\
		     "	.quad 1b, 2b\n"					\
		     ".popsection\n"					\
		     : "+r" (__lv), "+r" (err)				\
		     : "m" (*(const type *)(ptr)));			\
	*(type *)(x) = __lv;						\
} while (0)

#define LIB_STORE(type, mov, reg, x, ptr, err)				\
	asm volatile("1:	" mov " %" reg "2, %1\n"		\
		     "	xorl %0, %0\n"					\
		     "2:\n"						\
		     ".pushsection __ex_table, \"aw\"\n"			\
		     "	.balign 8\n"					\
		     "	.quad 1b, 2b\n"					\
		     ".popsection\n"					\
		     : "+r" (err), "=m" (*(type *)(ptr))		\
		     : "r" (*(const type *)(x)))

static __always_inline int lib_load(unsigned long size, const void *from, void *x)
{
	int err = -EFAULT;

	switch (size) {
	case 1: LIB_LOAD(u8, "movb", "b", x, from, err); return err;
	case 2: LIB_LOAD(u16, "movw", "w", x, from, err); return err;
	case 4: LIB_LOAD(u32, "movl", "k", x, from, err); return err;
	case 8: LIB_LOAD(u64, "movq", "q", x, from, err); return err;
	default: return lib_copy_user(x, from, size) ? -EFAULT : 0;
	}
}

static __always_inline int lib_store(unsigned long size, void *to, const void *x)
{
	int err = -EFAULT;

	switch (size) {
	case 1: LIB_STORE(u8, "movb", "b", x, to, err); return err;
	case 2: LIB_STORE(u16, "movw", "w", x, to, err); return err;
	case 4: LIB_STORE(u32, "movl", "k", x, to, err); return err;
	case 8: LIB_STORE(u64, "movq", "q", x, to, err); return err;
	default: return lib_copy_user(to, x, size) ? -EFAULT : 0;
	}
}

#define __get_user_fn(size, ptr, x)	lib_load((size), (__force const void *)(ptr), (x))
#define __put_user_fn(size, ptr, x)	lib_store((size), (__force void *)(ptr), (x))

static inline unsigned long raw_copy_from_user(void *to, const void __user *from,
					       unsigned long n)
{
	return lib_copy_user(to, (__force const void *)from, n);
}

static inline unsigned long raw_copy_to_user(void __user *to, const void *from,
					     unsigned long n)
{
	return lib_copy_user((__force void *)to, from, n);
}

static inline unsigned long __clear_user(void __user *to, unsigned long n)
{
	return lib_clear_user((__force void *)to, n);
}
#define __clear_user __clear_user

#define __get_kernel_nofault(dst, src, type, label)			\
do {									\
	if (lib_load(sizeof(type), (src), (dst)))			\
		goto label;						\
} while (0)

#define __put_kernel_nofault(dst, src, type, label)			\
do {									\
	if (lib_store(sizeof(type), (dst), (src)))			\
		goto label;						\
} while (0)

#include <asm-generic/uaccess.h>

#endif
