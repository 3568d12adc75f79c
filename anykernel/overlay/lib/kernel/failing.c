// SPDX-License-Identifier: GPL-2.0
/*
 * Allocations that fail on purpose.  The host puts jumps to the last two functions
 * over those of the kernel's own fault injection that they are named after: that
 * one can't fail "all from the Nth on", and counts only one task's.
 */
#include <linux/gfp.h>
#include <linux/slab.h>
#include <linux/stacktrace.h>
#include "lib.h"

struct lib_failing {
	u64 seen;		/* allocations since the counting began */
	u64 from, to;		/* those that fail; from == 0: none is counted */
	u64 failed;
	u64 depth;		/* of the stack of the last that failed */
	unsigned long stack[16];
};

struct lib_failing lib_failing;

static bool fails(gfp_t gfp)
{
	struct lib_failing *f = &lib_failing;

	if (!f->from || gfp & __GFP_NOFAIL)
		return false;
	f->seen++;
	if (f->seen < f->from || f->seen > f->to)
		return false;
	f->failed++;
	f->depth = stack_trace_save(f->stack, ARRAY_SIZE(f->stack), 0);
	return true;
}

int lib_should_failslab(struct kmem_cache *cache, gfp_t gfp);
int lib_should_failslab(struct kmem_cache *cache, gfp_t gfp)
{
	return fails(gfp) ? -ENOMEM : 0;
}

bool lib_should_fail_alloc_page(gfp_t gfp, unsigned int order);
bool lib_should_fail_alloc_page(gfp_t gfp, unsigned int order)
{
	return fails(gfp);
}
