/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Plain C: one host thread, and interrupts come only where they are enabled,
 * so a read-modify-write can't be torn.
 */
#ifndef _ASM_LIB_ATOMIC_H
#define _ASM_LIB_ATOMIC_H

#include <linux/types.h>
#include <asm/cmpxchg.h>
#include <asm/barrier.h>

#ifndef ATOMIC64_INIT
#define ATOMIC64_INIT(i)	{ (i) }
#endif

#define LIB_ATOMIC_OP(pfx, type, val, op, c_op)					\
static __always_inline void arch_##pfx##_##op(val i, type *v)			\
{										\
	WRITE_ONCE(v->counter, READ_ONCE(v->counter) c_op i);			\
}										\
static __always_inline val arch_##pfx##_fetch_##op(val i, type *v)		\
{										\
	val old = READ_ONCE(v->counter);					\
										\
	WRITE_ONCE(v->counter, old c_op i);					\
	return old;								\
}

#define LIB_ATOMIC_RETURN(pfx, type, val, op, c_op)				\
static __always_inline val arch_##pfx##_##op##_return(val i, type *v)		\
{										\
	val new = READ_ONCE(v->counter) c_op i;					\
										\
	WRITE_ONCE(v->counter, new);						\
	return new;								\
}

#define LIB_ATOMIC(pfx, type, val)						\
static __always_inline val arch_##pfx##_read(const type *v)			\
{										\
	return READ_ONCE(v->counter);						\
}										\
static __always_inline void arch_##pfx##_set(type *v, val i)			\
{										\
	WRITE_ONCE(v->counter, i);						\
}										\
LIB_ATOMIC_OP(pfx, type, val, add, +)						\
LIB_ATOMIC_OP(pfx, type, val, sub, -)						\
LIB_ATOMIC_OP(pfx, type, val, and, &)						\
LIB_ATOMIC_OP(pfx, type, val, andnot, & ~)					\
LIB_ATOMIC_OP(pfx, type, val, or, |)						\
LIB_ATOMIC_OP(pfx, type, val, xor, ^)						\
LIB_ATOMIC_RETURN(pfx, type, val, add, +)					\
LIB_ATOMIC_RETURN(pfx, type, val, sub, -)					\
static __always_inline val arch_##pfx##_xchg(type *v, val new)			\
{										\
	val old = READ_ONCE(v->counter);					\
										\
	WRITE_ONCE(v->counter, new);						\
	return old;								\
}										\
static __always_inline val arch_##pfx##_cmpxchg(type *v, val old, val new)	\
{										\
	val was = READ_ONCE(v->counter);					\
										\
	if (was == old)								\
		WRITE_ONCE(v->counter, new);					\
	return was;								\
}

LIB_ATOMIC(atomic, atomic_t, int)
LIB_ATOMIC(atomic64, atomic64_t, s64)

#define arch_atomic_read		arch_atomic_read
#define arch_atomic_set			arch_atomic_set
#define arch_atomic_andnot		arch_atomic_andnot
#define arch_atomic_fetch_add		arch_atomic_fetch_add
#define arch_atomic_fetch_sub		arch_atomic_fetch_sub
#define arch_atomic_fetch_and		arch_atomic_fetch_and
#define arch_atomic_fetch_andnot	arch_atomic_fetch_andnot
#define arch_atomic_fetch_or		arch_atomic_fetch_or
#define arch_atomic_fetch_xor		arch_atomic_fetch_xor
#define arch_atomic_add_return		arch_atomic_add_return
#define arch_atomic_sub_return		arch_atomic_sub_return
#define arch_atomic_xchg		arch_atomic_xchg
#define arch_atomic_cmpxchg		arch_atomic_cmpxchg

#define arch_atomic64_read		arch_atomic64_read
#define arch_atomic64_set		arch_atomic64_set
#define arch_atomic64_andnot		arch_atomic64_andnot
#define arch_atomic64_fetch_add		arch_atomic64_fetch_add
#define arch_atomic64_fetch_sub		arch_atomic64_fetch_sub
#define arch_atomic64_fetch_and		arch_atomic64_fetch_and
#define arch_atomic64_fetch_andnot	arch_atomic64_fetch_andnot
#define arch_atomic64_fetch_or		arch_atomic64_fetch_or
#define arch_atomic64_fetch_xor		arch_atomic64_fetch_xor
#define arch_atomic64_add_return	arch_atomic64_add_return
#define arch_atomic64_sub_return	arch_atomic64_sub_return
#define arch_atomic64_xchg		arch_atomic64_xchg
#define arch_atomic64_cmpxchg		arch_atomic64_cmpxchg

#endif
