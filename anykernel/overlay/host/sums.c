// SPDX-License-Identifier: GPL-2.0
/*
 * Sums tell of damage to what snapshots have saved, where no protection key keeps kernels
 * from writing there: those of all pages that are copied back, and of one of them after each
 * restore; with keys, of one after each sixteenth.
 */
#include <errno.h>
#include <stdio.h>

#include "snapshot.h"
#include "visit.h"

static uint64_t mix(uint64_t sum, uint64_t word)
{
	return (sum ^ word) * 0x9fb21c651e98df25UL ^ sum >> 29;
}

static uint64_t page_sum(const uint8_t *page)
{
	const uint64_t *word = (const uint64_t *)page;
	uint64_t a = 1, b = 2, c = 3, d = 4;

	for (size_t i = 0; i < PAGE / 8; i += 4) {
		a = (a ^ word[i]) * 0x9e3779b97f4a7c15UL;
		b = (b ^ word[i + 1]) * 0xbf58476d1ce4e5b9UL;
		c = (c ^ word[i + 2]) * 0x94d049bb133111ebUL;
		d = (d ^ word[i + 3]) * 0x9fb21c651e98df25UL;
	}
	return mix(mix(a ^ a >> 32, b ^ b >> 32), mix(c ^ c >> 32, d ^ d >> 32));
}

/* `content`: the saved copy, or what it was made from; of no meaning for ZEROES. */
uint64_t saved_sum(struct saved_page s, const uint8_t *content)
{
	uint64_t sum = mix(mix(1, s.page), (uint64_t)s.buffer << 1 | s.guard);

	return mix(mix(sum, s.previous), s.buffer == ZEROES ? 0 : page_sum(content));
}

uint64_t level_sum(const struct level *level)
{
	return mix(mix(mix(level->first + 1, level->state.now), level->state.rng),
		   level->state.signals);
}

static uint64_t books(const struct kernel *k)
{
	uint64_t sum = mix(mix(k->depth + 1, k->saved_count), k->saved_fixed);

	sum = mix(mix(sum, k->pool_used), k->free_count);
	sum = mix(mix(sum, (uint64_t)k->pool), (uint64_t)k->saved);
	return mix(mix(sum, (uint64_t)k->levels), (uint64_t)k->newest);
}

void seal(struct kernel *k)
{
	k->sealed = books(k);
}

_Noreturn void damaged(struct kernel *k, const char *what)
{
	char text[128];

	errno = 0;
	snprintf(text, sizeof(text), "snapshot damaged: %s of kernel %u; something has written "
		 "there, and this host is given up", what, k->index);
	die(text);
}

/* That nobody has changed what snapshots are kept by. */
void check_books(struct kernel *k)
{
	if (k->sealed != books(k))
		damaged(k, "the list of saved pages");
}

void check_saved(struct kernel *k, struct saved_page s)
{
	if (s.page >= page_count(k) || (s.buffer != ZEROES && s.buffer >= k->pool_used) ||
	    s.sum != saved_sum(s, copy_of(k, s)))
		damaged(k, "a saved page");
}

void check_sample(struct kernel *k)
{
	uint32_t first = k->levels[k->depth].first, count = k->saved_count - first;
	struct saved_page s;

	k->sample++;
	if (!count || (keys_on && k->sample % 16))
		return;
	s = k->saved[first + k->sample / (keys_on ? 16 : 1) % count];
	if (s.page >= page_count(k) || s.sum != saved_sum(s, page_at(k, s.page)))
		damaged(k, "a restored page");
}
