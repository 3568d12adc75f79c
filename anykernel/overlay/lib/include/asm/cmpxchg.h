/* SPDX-License-Identifier: GPL-2.0 */
/* Plain C, for the reason that atomic.h gives. */
#ifndef _ASM_LIB_CMPXCHG_H
#define _ASM_LIB_CMPXCHG_H

#include <linux/compiler.h>

#define arch_xchg(ptr, x)						\
({									\
	__typeof__(ptr) __xp = (ptr);					\
	__typeof__(*__xp) __xnew = (__typeof__(*__xp))(x);		\
	__typeof__(*__xp) __xold = *(volatile __typeof__(*__xp) *)__xp;	\
	*(volatile __typeof__(*__xp) *)__xp = __xnew;			\
	__xold;								\
})

#define arch_cmpxchg(ptr, old, new)					\
({									\
	__typeof__(ptr) __cp = (ptr);					\
	__typeof__(*__cp) __cexp = (__typeof__(*__cp))(old);		\
	__typeof__(*__cp) __cnew = (__typeof__(*__cp))(new);		\
	__typeof__(*__cp) __cwas = *(volatile __typeof__(*__cp) *)__cp;	\
	if (__cwas == __cexp)						\
		*(volatile __typeof__(*__cp) *)__cp = __cnew;		\
	__cwas;								\
})

#define arch_cmpxchg_local	arch_cmpxchg
#define arch_cmpxchg64		arch_cmpxchg
#define arch_cmpxchg64_local	arch_cmpxchg

#endif
