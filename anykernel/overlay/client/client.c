// SPDX-License-Identifier: GPL-2.0
/*
 * Python's end of the doorbell, for cffi: rings, spins briefly, sleeps.  Called
 * without the interpreter's lock.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

/* Rounds before sleeping: some 50 us, longer than most batches take. */
#define SPIN_ROUNDS 2000

static int outcome(const struct hk_header *h, struct hk_client *c)
{
	uint32_t done = __atomic_load_n(&h->done, __ATOMIC_ACQUIRE);

	if (__atomic_load_n(&h->doorbell, __ATOMIC_RELAXED) != (uint32_t)c->rung)
		return HK_CALL_LIES;
	if (done == (uint32_t)c->rung) {
		uint64_t news = __atomic_load_n(&h->news, __ATOMIC_RELAXED);

		if (news == c->news)
			return HK_CALL_DONE;
		c->news = news;
		return HK_CALL_NEWS;
	}
	return __atomic_load_n(&h->full, __ATOMIC_ACQUIRE) ? HK_CALL_FULL : HK_CALL_LATER;
}

/* Waits until the host has done what was rung for last, or wants a ring read,
 * `slice_ns` at most: enum hk_call. */
int hk_wait(struct hk_header *h, struct hk_client *c, uint64_t slice_ns)
{
	struct timespec slice = { slice_ns / 1000000000, slice_ns % 1000000000 };
	uint32_t done;
	int found;

	for (int i = 0; i < SPIN_ROUNDS; i++) {
		found = outcome(h, c);
		if (found != HK_CALL_LATER)
			return found;
		__builtin_ia32_pause();
	}
	__atomic_store_n(&h->client_sleeps, 1, __ATOMIC_SEQ_CST);
	done = __atomic_load_n(&h->done, __ATOMIC_SEQ_CST);
	if (outcome(h, c) == HK_CALL_LATER)
		syscall(SYS_futex, &h->done, FUTEX_WAIT, done, &slice, NULL, 0);
	__atomic_store_n(&h->client_sleeps, 0, __ATOMIC_SEQ_CST);
	return outcome(h, c);
}

/* Rings for commands[0..count), then as hk_wait(). */
int hk_call(struct hk_header *h, struct hk_client *c, uint32_t count, uint64_t slice_ns)
{
	struct hk_command *commands = (struct hk_command *)((char *)h + HK_COMMANDS_AT);

	if (h->doorbell != (uint32_t)c->rung || h->done != (uint32_t)c->rung)
		return HK_CALL_LIES;
	for (uint32_t i = 0; i < count; i++) {
		commands[i].status = HK_PENDING;
		commands[i].ret = 0;
	}
	h->count = count;
	__atomic_store_n(&h->doorbell, (uint32_t)++c->rung, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&h->host_sleeps, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &h->doorbell, FUTEX_WAKE, 1, NULL, NULL, 0);
	return hk_wait(h, c, slice_ns);
}

/* The ring that header.full names has been read. */
void hk_go_on(struct hk_header *h)
{
	__atomic_store_n(&h->full, 0, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &h->full, FUTEX_WAKE, 1, NULL, NULL, 0);
}
