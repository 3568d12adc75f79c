/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_ARCHRANDOM_H
#define _ASM_LIB_ARCHRANDOM_H

#include <linux/types.h>

size_t lib_entropy_longs(unsigned long *v, size_t max_longs);

static inline size_t __must_check arch_get_random_longs(unsigned long *v, size_t max_longs)
{
	return 0;
}

static inline size_t __must_check arch_get_random_seed_longs(unsigned long *v, size_t max_longs)
{
	return lib_entropy_longs(v, max_longs);
}

#endif
