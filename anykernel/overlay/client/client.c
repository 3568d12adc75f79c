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

/* Waits until the host has done what was rung for, `slice_ns` at most.
 * Returns 1 when it has, 0 when not yet. */
int hk_wait(struct hk_header *h, uint64_t slice_ns)
{
	uint32_t want = h->doorbell, done;
	struct timespec slice = { slice_ns / 1000000000, slice_ns % 1000000000 };

	for (int i = 0; i < SPIN_ROUNDS; i++) {
		if (__atomic_load_n(&h->done, __ATOMIC_ACQUIRE) == want)
			return 1;
		__builtin_ia32_pause();
	}
	__atomic_store_n(&h->client_sleeps, 1, __ATOMIC_SEQ_CST);
	done = __atomic_load_n(&h->done, __ATOMIC_SEQ_CST);
	if (done != want)
		syscall(SYS_futex, &h->done, FUTEX_WAIT, done, &slice, NULL, 0);
	__atomic_store_n(&h->client_sleeps, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&h->done, __ATOMIC_ACQUIRE) == want;
}

/* Rings for commands[0..count), then as hk_wait(). */
int hk_call(struct hk_header *h, uint32_t count, uint64_t slice_ns)
{
	h->count = count;
	__atomic_add_fetch(&h->doorbell, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&h->host_sleeps, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &h->doorbell, FUTEX_WAKE, 1, NULL, NULL, 0);
	return hk_wait(h, slice_ns);
}
