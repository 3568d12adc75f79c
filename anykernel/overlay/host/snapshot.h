/* SPDX-License-Identifier: GPL-2.0 */
/* What snapshots (snapshot.c) and the sums that watch over them (sums.c) share. */
#ifndef HOST_SNAPSHOT_H
#define HOST_SNAPSHOT_H

#include "host.h"

/* The buffer of a page that held nothing. */
#define ZEROES 0x7fffffff

static inline uint32_t page_count(struct kernel *k)
{
	return (k->high - k->base) / PAGE;
}

static inline uint8_t *page_at(struct kernel *k, uint32_t page)
{
	return k->base + (uint64_t)page * PAGE;
}

static inline uint8_t *copy_of(struct kernel *k, struct saved_page s)
{
	return k->pool + (uint64_t)s.buffer * PAGE;
}

uint64_t saved_sum(struct saved_page s, const uint8_t *content);
uint64_t level_sum(const struct level *level);
/* The books are right now; check_books() compares. */
void seal(struct kernel *k);
/* Each ends the host when something is not as it was left. */
_Noreturn void damaged(struct kernel *k, const char *what);
void check_books(struct kernel *k);
void check_saved(struct kernel *k, struct saved_page s);
/* One page of those that were copied back, another one each time. */
void check_sample(struct kernel *k);

#endif
