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
 *
 * A page with a protection of its own is a mapping of its own, and a process may
 * have only so many (vm.max_map_count, 65,530).  A kernel that can't get one more
 * has all its pages saved and made writable at once: see expose().
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
/* From index HK_FEW on, a kernel's stacks have no guard pages.  Each page is two
 * mappings, and a kernel has some forty stacks: of a thousand kernels none would be
 * left for snapshots.  Of those kernels, hot pages that are no farther apart than this become one
 * mapping; what lies between is saved, too. */
#define BRIDGE 16
/* The buffer of a page that held nothing. */
#define ZEROES 0x7fffffff

/* Restore writes; a page is being saved, and SIGALRM has to wait. */
bool restoring, saving;

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
	k->pool = reserve(pages * PAGE * MAX_DEPTH);
	k->free_buffers = reserve(pages * MAX_DEPTH * sizeof(uint32_t));
	for (int i = 0; i <= MAX_DEPTH; i++)
		k->levels[i].saved = reserve(pages * sizeof(struct saved_page));
	k->pool_used = k->free_count = 0;
	k->shared->hot_pages = 0;
}

static bool is_zero(const uint8_t *page)
{
	const uint64_t *word = (const uint64_t *)page;

	for (size_t i = 0; i < PAGE / 8; i += 4)
		if (word[i] | word[i + 1] | word[i + 2] | word[i + 3])
			return false;
	return true;
}

/* free_buffers is a stack of returned ones; when it is empty, a fresh one. */
static uint32_t take_buffer(struct kernel *k)
{
	return k->free_count ? k->free_buffers[--k->free_count] : k->pool_used++;
}

static void return_buffer(struct kernel *k, uint32_t buffer)
{
	if (buffer != ZEROES)
		k->free_buffers[k->free_count++] = buffer;
}

static bool is_saved(struct kernel *k, uint32_t page)
{
	return k->saved_mask[page] & (1U << k->depth);
}

/* Notes what `page` holds for the current level. */
static void save(struct kernel *k, uint32_t page, bool zero)
{
	struct level *level = &k->levels[k->depth];
	uint32_t buffer = zero ? ZEROES : take_buffer(k);

	if (!zero)
		memcpy(k->pool + (uint64_t)buffer * PAGE, k->low + page * PAGE, PAGE);
	level->saved[level->count++] = (struct saved_page){ page, buffer, k->guard[page] };
	k->saved_mask[page] |= 1U << k->depth;
}

static void copy_back(struct kernel *k, struct saved_page s)
{
	uint8_t *page = k->low + s.page * PAGE;

	if (s.buffer != ZEROES)
		memcpy(page, k->pool + (uint64_t)s.buffer * PAGE, PAGE);
	else if (!is_zero(page))
		memset(page, 0, PAGE);
}

/* One protection for all is one mapping: there is always room for that. */
static bool protect_all(struct kernel *k, int protection)
{
	return mprotect(k->low, k->high - k->low, protection) == 0;
}

/*
 * There is no room for another mapping: makes all pages writable.  What the
 * current level hasn't saved is saved first.  While restoring, memory is no
 * level's content: then restore protects all when it has finished.
 */
static bool expose(struct kernel *k)
{
	if (restoring) {
		k->exposed = true;
	} else {
		for (uint32_t page = 0; k->depth && page < page_count(k); page++)
			if (!is_saved(k, page))
				save(k, page, is_zero(k->low + page * PAGE));
		memset(k->guard, 0, page_count(k));
	}
	return protect_all(k, PROT_READ | PROT_WRITE);
}

/* `stack` is the lowest page of a stack: a write there is to fault.  When there
 * is no room for that, the stack does without. */
void snapshot_guard(struct kernel *k, uint8_t *stack)
{
	k->guard[(stack - k->low) / PAGE] =
		k->index < HK_FEW && mprotect(stack, PAGE, PROT_READ) == 0;
}

int snapshot_take(struct kernel *k)
{
	if (k->depth == MAX_DEPTH)
		return -ENOSPC;
	if (!protect_all(k, PROT_READ))
		return -ENOMEM;
	/* What only set-up ran need not stay mapped in each of very many kernels. */
	if (options.lazy && k->index >= HK_FEW)
		madvise(k->base, k->low - k->base, MADV_DONTNEED);
	k->depth++;
	k->levels[k->depth].count = 0;
	k->levels[k->depth].state = k->state;
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

			copy_back(k, s);
			k->guard[s.page] = 0;
			if (s.guard)
				snapshot_guard(k, k->low + s.page * PAGE);
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
				return_buffer(k, s.buffer);
			}
			k->saved_mask[s.page] = mask;
		}
		level->count = 0;
	}
	k->depth = depth;
	restoring = false;
	if (keep->count > COOL_DOWN || k->exposed) {
		if (!protect_all(k, PROT_READ))
			return -ENOMEM;
		for (uint32_t i = 0; i < keep->count; i++) {
			k->saved_mask[keep->saved[i].page] &= ~(1U << depth);
			return_buffer(k, keep->saved[i].buffer);
		}
		keep->count = 0;
		k->exposed = false;
	}
	k->state = keep->state;
	k->shared->signals_head = k->state.signals;
	k->shared->depth = depth;
	k->shared->hot_pages = keep->count;
	k->shared->crash = HK_NO_CRASH;
	return 0;
}

/* Saves a page that is written to and those that join it to hot ones. */
static void heat(struct kernel *k, uint32_t page, uint32_t *first, uint32_t *last)
{
	uint32_t reach = k->index >= HK_FEW ? BRIDGE : 0, pages = page_count(k);

	for (uint32_t i = 1; i <= reach && i <= page && *first == page; i++)
		if (is_saved(k, page - i))
			*first = page - i + 1;
	for (uint32_t i = 1; i <= reach && page + i < pages && *last == page; i++)
		if (is_saved(k, page + i))
			*last = page + i - 1;
	for (uint32_t i = *first; i <= *last; i++)
		if (!is_saved(k, i))
			save(k, i, i != page && is_zero(k->low + i * PAGE));
}

/* A write to `address` was refused.  True: it may be repeated.  False: the
 * address is not the kernel's, or in the lowest page of the running stack. */
bool snapshot_fault(struct kernel *k, uint8_t *address)
{
	uint32_t page, first, last;
	bool done;

	if (address < k->low || address >= k->high)
		return false;
	first = last = page = (address - k->low) / PAGE;
	if (!restoring && k->guard[page] && k->lib->stack_low == (uint64_t)(k->low + page * PAGE))
		return false;
	saving = true;
	if (!restoring && k->depth && !is_saved(k, page))
		heat(k, page, &first, &last);
	done = mprotect(k->low + first * PAGE, (last - first + 1) * PAGE,
			PROT_READ | PROT_WRITE) == 0;
	if (done && !restoring)
		k->guard[page] = 0;
	if (!done && errno == ENOMEM)
		done = expose(k);
	saving = false;
	return done;
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
