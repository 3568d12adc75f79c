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
 * Code and read-only data are fixed: the kernel can't write there.  What the
 * client changes there is saved before, too, and is as it was after a restore.
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

#include "snapshot.h"
#include "visit.h"

/* More hot pages than this and a restore protects all again: one wild example
 * must not slow down those that follow. */
#define COOL_DOWN 1024
/* Room for page copies is reserved, as address space that costs nothing: so many times
 * the kernel's memory. */
#define TIMES 15
/* From index HK_FEW on, a kernel's stacks have no guard pages.  Each page is two
 * mappings, and a kernel has some forty stacks: of a thousand kernels none would be
 * left for snapshots.  Of those kernels, hot pages that are no farther apart than this become one
 * mapping; what lies between is saved, too. */
#define BRIDGE 16
/* Restore writes; a page is being saved, and SIGALRM has to wait. */
bool restoring, saving;

static uint32_t page_of(struct kernel *k, const uint8_t *address)
{
	return (address - k->base) / PAGE;
}

static bool is_code(struct kernel *k, uint32_t page)
{
	return page_at(k, page) < k->low;
}

static bool is_fixed(struct kernel *k, uint32_t page)
{
	uint8_t *at = page_at(k, page);

	return at < k->low || (at >= k->constant && at < k->constant_end);
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

	k->saved_room = pages * TIMES;
	k->levels = reserve((MAX_DEPTH + 1) * sizeof(*k->levels));
	k->saved = reserve(k->saved_room * sizeof(*k->saved));
	k->newest = reserve(pages * sizeof(*k->newest));
	k->guard = reserve(pages);
	k->pool = reserve(k->saved_room * PAGE);
	k->free_buffers = reserve(k->saved_room * sizeof(*k->free_buffers));
	k->shared->hot_pages = 0;
	seal(k);
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

/* A copy isn't needed any more. */
static void release(struct kernel *k, struct saved_page s)
{
	if (s.buffer != ZEROES)
		k->free_buffers[k->free_count++] = s.buffer;
	if (is_fixed(k, s.page))
		k->saved_fixed--;
}

static bool is_saved(struct kernel *k, uint32_t page)
{
	return k->newest[page] == k->depth;
}

/* Notes what `page` holds for the current level. */
static void save(struct kernel *k, uint32_t page, bool zero)
{
	struct saved_page s = { page, zero ? ZEROES : take_buffer(k), k->guard[page],
				k->newest[page], 0 };

	if (!zero)
		memcpy(copy_of(k, s), page_at(k, page), PAGE);
	s.sum = saved_sum(s, copy_of(k, s));
	k->saved[k->saved_count++] = s;
	k->newest[page] = k->depth;
	if (is_fixed(k, page))
		k->saved_fixed++;
}

static bool protect_fixed(struct kernel *k, uint32_t page, int protection)
{
	if (is_code(k, page))
		return protect_code(page_at(k, page), PAGE, protection) == 0;
	return mprotect(page_at(k, page), PAGE, protection) == 0;
}

/* A fixed page may be written to for a moment, or no more. */
static bool open_fixed(struct kernel *k, uint32_t page)
{
	return protect_fixed(k, page, PROT_READ | PROT_WRITE);
}

static bool close_fixed(struct kernel *k, uint32_t page)
{
	return protect_fixed(k, page, PROT_READ | (is_code(k, page) ? PROT_EXEC : 0));
}

static void copy_back(struct kernel *k, struct saved_page s)
{
	uint8_t *page = page_at(k, s.page);
	bool fixed = is_fixed(k, s.page);

	if (fixed && !open_fixed(k, s.page))
		die("a changed page of code can't be restored");
	if (s.buffer != ZEROES)
		memcpy(page, copy_of(k, s), PAGE);
	else if (!is_zero(page))
		memset(page, 0, PAGE);
	if (fixed && !close_fixed(k, s.page))
		die("a changed page of code can't be protected again");
}

bool snapshot_protect_constants(struct kernel *k)
{
	return k->constant == k->constant_end ||
	       mprotect(k->constant, k->constant_end - k->constant, PROT_READ) == 0;
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
	uint32_t first = page_of(k, k->low);

	if (restoring) {
		k->exposed = true;
	} else {
		for (uint32_t page = first; k->depth && page < page_count(k); page++)
			if (!is_saved(k, page))
				save(k, page, is_zero(page_at(k, page)));
		memset(k->guard, 0, page_count(k));
	}
	/* Now there is: all the others were given up. */
	return protect_all(k, PROT_READ | PROT_WRITE) && snapshot_protect_constants(k);
}

/* `stack` is the lowest page of a stack: a write there is to fault.  When there
 * is no room for that, the stack does without. */
void snapshot_guard(struct kernel *k, uint8_t *stack)
{
	k->guard[page_of(k, stack)] =
		k->index < HK_FEW && mprotect(stack, PAGE, PROT_READ) == 0;
}

bool snapshot_in_stack(struct kernel *k, const uint8_t *sp, uint64_t size)
{
	uint32_t page = page_of(k, sp);

	if (k->index >= HK_FEW)
		return true;	/* nobody knows */
	for (uint32_t i = 0; i < size / PAGE && i <= page; i++)
		if (k->guard[page - i])
			return true;
	return false;
}

int snapshot_take(struct kernel *k)
{
	check_books(k);
	if (k->depth == MAX_DEPTH || k->saved_room - k->saved_count < page_count(k))
		return -EDQUOT;
	if (!protect_all(k, PROT_READ))
		return -ENOMEM;
	/* What only set-up ran need not stay mapped in each of very many kernels. */
	if (options.lazy && k->index >= HK_FEW)
		drop_code(k);
	k->depth++;
	k->levels[k->depth] = (struct level){ k->saved_count, k->state, 0 };
	k->levels[k->depth].sum = level_sum(&k->levels[k->depth]);
	k->shared->depth = k->depth;
	seal(k);
	return k->depth;
}

/* Levels above `depth` are no more: what they saved and it didn't is its content, too. */
static void merge(struct kernel *k, uint32_t depth)
{
	uint32_t end = k->saved_count;

	if (depth == k->depth)
		return;
	k->saved_count = k->levels[depth + 1].first;
	for (uint32_t i = k->saved_count; i < end; i++) {
		struct saved_page s = k->saved[i];

		k->newest[s.page] = depth;
		if (depth && s.previous < depth) {
			k->saved[k->saved_count++] = s;
			continue;
		}
		k->patched |= !depth && is_fixed(k, s.page);
		release(k, s);
	}
	k->depth = depth;
	k->shared->depth = depth;
}

/* The present level holds what memory does: its pages, or only the fixed ones among them,
 * are as protected as if they had never been written to. */
static void cool(struct kernel *k, bool all)
{
	uint32_t end = k->saved_count;

	k->saved_count = k->levels[k->depth].first;
	for (uint32_t i = k->saved_count; i < end; i++) {
		struct saved_page s = k->saved[i];

		if (all || is_fixed(k, s.page)) {
			k->newest[s.page] = s.previous;
			release(k, s);
		} else {
			k->saved[k->saved_count++] = s;
		}
	}
}

int snapshot_restore(struct kernel *k, uint64_t depth)
{
	uint32_t first;

	check_books(k);
	if (!depth || depth > k->depth)
		return -EINVAL;
	first = k->levels[depth].first;
	if (k->levels[depth].sum != level_sum(&k->levels[depth]))
		damaged(k, "the state of a snapshot");
	restoring = true;
	for (uint32_t i = first; i < k->saved_count; i++) {
		struct saved_page s = k->saved[i];

		/* The lowest level that saved it has the content that `depth` saw. */
		if (s.previous >= depth)
			continue;
		if (!keys_on)
			check_saved(k, s);
		copy_back(k, s);
		k->guard[s.page] = 0;
		if (s.guard)
			snapshot_guard(k, page_at(k, s.page));
	}
	merge(k, depth);
	restoring = false;
	if (k->saved_count - first > COOL_DOWN || k->exposed) {
		if (!protect_all(k, PROT_READ)) {
			seal(k);
			return -ENOMEM;
		}
		cool(k, true);
		k->exposed = false;
	} else if (k->saved_fixed) {
		cool(k, false);
	}
	check_sample(k);
	seal(k);
	k->state = k->levels[depth].state;
	k->shared->signals_head = k->state.signals;
	k->shared->hot_pages = k->saved_count - first;
	k->shared->crash = HK_NO_CRASH;
	return 0;
}

int snapshot_forget(struct kernel *k, uint64_t depth)
{
	if (!depth || depth > k->depth)
		return -EINVAL;
	check_books(k);
	merge(k, depth - 1);
	seal(k);
	return depth - 1;
}

/* Saves a page that is written to and those that join it to hot ones. */
static void heat(struct kernel *k, uint32_t page, uint32_t *first, uint32_t *last)
{
	uint32_t reach = k->index >= HK_FEW ? BRIDGE : 0, pages = page_count(k);

	for (uint32_t i = 1; i <= reach && i <= page && !is_fixed(k, page - i); i++)
		if (is_saved(k, page - i)) {
			*first = page - i + 1;
			break;
		}
	for (uint32_t i = 1; i <= reach && page + i < pages && !is_fixed(k, page + i); i++)
		if (is_saved(k, page + i)) {
			*last = page + i - 1;
			break;
		}
	for (uint32_t i = *first; i <= *last; i++)
		if (!is_saved(k, i))
			save(k, i, i != page && is_zero(page_at(k, i)));
}

/* A write to `address` was refused.  True: it may be repeated.  False: the
 * address is not the kernel's, or in the lowest page of the running stack, or fixed. */
bool snapshot_fault(struct kernel *k, uint8_t *address)
{
	uint32_t page, first, last;
	bool done;

	if (address < k->low || address >= k->high)
		return false;
	first = last = page = page_of(k, address);
	if (is_fixed(k, page))
		return false;
	if (!restoring && k->guard[page] && k->lib->stack_low == (uint64_t)page_at(k, page))
		return false;
	saving = true;
	if (!restoring && k->depth && !is_saved(k, page))
		heat(k, page, &first, &last);
	done = mprotect(page_at(k, first), (last - first + 1) * PAGE, PROT_READ | PROT_WRITE) == 0;
	if (done && !restoring)
		k->guard[page] = 0;
	if (!done && errno == ENOMEM)
		done = expose(k);
	seal(k);
	saving = false;
	return done;
}

/* The client writes, who may change code and read-only data, too.  0 or -errno. */
int snapshot_write(struct kernel *k, uint8_t *to, const void *from, uint64_t size)
{
	uint32_t first = page_of(k, to), last = page_of(k, to + size - 1);
	int err = 0;

	if (!size)
		return 0;
	for (uint32_t page = first; page <= last; page++) {
		if (!is_fixed(k, page))
			continue;
		if (!k->depth)
			k->patched = true;
		else if (!is_saved(k, page))
			save(k, page, false);
		if (!open_fixed(k, page))
			err = -errno;
	}
	seal(k);
	if (!err)
		memcpy(to, from, size);
	for (uint32_t page = first; page <= last; page++)
		if (is_fixed(k, page) && !close_fixed(k, page))
			err = -errno;
	return err;
}

struct kernel *snapshot_owner(const uint8_t *address)
{
	for (uint32_t i = 0; i < options.kernels; i++) {
		struct kernel *k = &kernels[i];
		struct { const void *at; uint64_t size; } parts[] = {
			{ k->pool, (uint64_t)k->saved_room * PAGE },
			{ k->saved, k->saved_room * sizeof(*k->saved) },
			{ k->free_buffers, k->saved_room * sizeof(*k->free_buffers) },
			{ k->levels, (MAX_DEPTH + 1) * sizeof(*k->levels) },
			{ k->newest, page_count(k) * sizeof(*k->newest) },
			{ k->guard, page_count(k) },
		};

		for (size_t j = 0; k->pool && j < sizeof(parts) / sizeof(*parts); j++)
			if (address >= (const uint8_t *)parts[j].at &&
			    address < (const uint8_t *)parts[j].at + parts[j].size)
				return k;
	}
	return NULL;
}

uint64_t memory_hash(struct kernel *k)
{
	uint64_t h = 0xcbf29ce484222325UL;

	for (const uint64_t *p = (const uint64_t *)k->base; p < (const uint64_t *)k->high; p++) {
		if (*p)
			h = (h ^ *p ^ ((const uint8_t *)p - k->base)) * 0x100000001b3UL;
	}
	return h;
}
