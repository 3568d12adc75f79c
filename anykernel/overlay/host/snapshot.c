// SPDX-License-Identifier: GPL-2.0
/*
 * Snapshots by hot pages.  Taking one write-protects the kernel's memory; the
 * first write to a page saves it for that level and unprotects it; restoring
 * copies the saved pages back and leaves them writable, so that a test that is
 * repeated faults no more.
 *
 * Levels nest.  A page that level n saved and level m > n didn't holds, in m's
 * view, what it held at n + 1 .. m; so when levels above k are dropped, what
 * they saved and k didn't is also k's content, and the copy moves to k.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host.h"

/* More hot pages than this and a restore protects all again: one wild example
 * must not slow down those that follow. */
#define COOL_DOWN 1024

static size_t page_count(struct kernel *k)
{
	return (k->high - k->low) / PAGE;
}

static void *reserve(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap for snapshots");
	return p;
}

/* All memory is reserved here: the sandbox has no mmap later. */
void snapshot_prepare(struct kernel *k)
{
	size_t pages = page_count(k);

	k->saved_mask = reserve(pages * sizeof(*k->saved_mask));
	k->guard = reserve(pages);
	/* Each level may save each page; the address space costs nothing. */
	k->pool = reserve(pages * PAGE * 2);
	k->free_buffers = reserve(pages * 2 * sizeof(uint32_t));
	for (int i = 0; i <= MAX_DEPTH; i++)
		k->levels[i].saved = reserve(pages * sizeof(struct saved_page));
	k->free_count = 0;
	k->shared->hot_pages = 0;
}

static uint32_t next_buffer(struct kernel *k)
{
	/* free_buffers is a stack of returned ones; beyond it, fresh ones.
	 * The count of fresh ones is what is saved plus what was returned. */
	uint32_t used = 0;

	if (k->free_count)
		return k->free_buffers[--k->free_count];
	for (uint32_t i = 1; i <= k->depth; i++)
		used += k->levels[i].count;
	return used;
}

static void protect_all(struct kernel *k)
{
	mprotect(k->low, k->high - k->low, PROT_READ);
}

int snapshot_take(struct kernel *k)
{
	if (k->depth == MAX_DEPTH)
		return -ENOSPC;
	k->depth++;
	k->levels[k->depth].count = 0;
	k->levels[k->depth].state = k->state;
	protect_all(k);
	k->shared->depth = k->depth;
	return k->depth;
}

int snapshot_restore(struct kernel *k, uint32_t depth)
{
	struct level *keep;

	if (!depth || depth > k->depth)
		return -EINVAL;
	keep = &k->levels[depth];
	restoring = true;
	for (uint32_t d = k->depth; d >= depth; d--) {
		struct level *level = &k->levels[d];

		for (uint32_t i = 0; i < level->count; i++) {
			struct saved_page s = level->saved[i];

			memcpy(k->low + s.page * PAGE, k->pool + s.buffer * PAGE, PAGE);
			if (s.guard) {
				k->guard[s.page] = 1;
				mprotect(k->low + s.page * PAGE, PAGE, PROT_READ);
			}
		}
	}
	for (uint32_t d = k->depth; d > depth; d--) {
		struct level *level = &k->levels[d];

		for (uint32_t i = 0; i < level->count; i++) {
			struct saved_page s = level->saved[i];
			uint16_t mask = k->saved_mask[s.page] & ~(1U << d);

			/* The lowest of the dropped levels that saved it has
			 * the content that `depth` saw. */
			if (!(mask & ((1U << d) - (1U << depth)))) {
				keep->saved[keep->count++] = s;
				mask |= 1U << depth;
			} else {
				k->free_buffers[k->free_count++] = s.buffer;
			}
			k->saved_mask[s.page] = mask;
		}
		level->count = 0;
	}
	k->depth = depth;
	if (keep->count > COOL_DOWN) {
		for (uint32_t i = 0; i < keep->count; i++) {
			k->saved_mask[keep->saved[i].page] &= ~(1U << depth);
			k->free_buffers[k->free_count++] = keep->saved[i].buffer;
		}
		keep->count = 0;
		protect_all(k);
	}
	restoring = false;
	k->state = keep->state;
	k->shared->signals_head = k->state.signals;
	k->shared->depth = depth;
	k->shared->hot_pages = keep->count;
	k->shared->crash = HK_NO_CRASH;
	return 0;
}

/* A write to `address` was refused.  True: it may be repeated.  False: the
 * address is not the kernel's, or in the lowest page of the running stack. */
bool snapshot_fault(struct kernel *k, uint8_t *address)
{
	uint8_t *start;
	uint32_t page;

	if (address < k->low || address >= k->high)
		return false;
	page = (address - k->low) / PAGE;
	start = k->low + page * PAGE;
	if (!restoring && k->guard[page] && k->lib->stack_low == (uint64_t)start)
		return false;
	if (!restoring && k->depth && !(k->saved_mask[page] & (1U << k->depth))) {
		struct level *level = &k->levels[k->depth];
		uint32_t buffer = next_buffer(k);

		memcpy(k->pool + (uint64_t)buffer * PAGE, start, PAGE);
		level->saved[level->count++] = 
				(struct saved_page){ page, buffer, k->guard[page] };
		k->saved_mask[page] |= 1U << k->depth;
	}
	if (!restoring)
		k->guard[page] = 0;
	return mprotect(start, PAGE, PROT_READ | PROT_WRITE) == 0;
}

uint64_t memory_hash(struct kernel *k)
{
	uint64_t h = 0xcbf29ce484222325UL;

	for (const uint64_t *p = (const uint64_t *)k->low; p < (const uint64_t *)k->high; p++) {
		if (*p)
			h = (h ^ *p ^ ((const uint8_t *)p - k->low)) * 0x100000001b3UL;
	}
	return h;
}
