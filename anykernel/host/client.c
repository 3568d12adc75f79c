/* SPDX-License-Identifier: GPL-2.0 */
/*
 * libanykernel-client.so: rings the host's doorbell and waits, called through
 * cffi, which lets other Python threads run meanwhile.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000L + ts.tv_nsec;
}

static void futex_wait(uint32_t *word, uint32_t value, int64_t ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0);
}

/* 0: the host has answered the last ring; 1: not within slice_ns. */
int client_wait(struct hk_header *h, int64_t spin_ns, int64_t slice_ns)
{
	uint32_t want = __atomic_load_n(&h->doorbell, __ATOMIC_RELAXED), seen;
	int64_t start = now_ns(), spent;

	for (;;) {
		for (int i = 0; i < 64; i++) {
			if (__atomic_load_n(&h->done, __ATOMIC_ACQUIRE) == want)
				return 0;
			__builtin_ia32_pause();
		}
		if (now_ns() - start >= spin_ns)
			break;
	}
	__atomic_store_n(&h->client_sleeps, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		seen = __atomic_load_n(&h->done, __ATOMIC_SEQ_CST);
		spent = now_ns() - start;
		if (seen == want || spent >= slice_ns)
			break;
		futex_wait(&h->done, seen, slice_ns - spent);
	}
	__atomic_store_n(&h->client_sleeps, 0, __ATOMIC_SEQ_CST);
	return seen != want;
}

/* Lets the host execute `count` commands; result as client_wait()'s. */
int client_call(struct hk_header *h, uint32_t count, int64_t spin_ns, int64_t slice_ns)
{
	h->count = count;
	__atomic_add_fetch(&h->doorbell, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&h->host_sleeps, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &h->doorbell, FUTEX_WAKE, 1, NULL, NULL, 0);
	return client_wait(h, spin_ns, slice_ns);
}

/* 0: all kernels have booted; 1: not within slice_ns. */
int client_ready(struct hk_header *h, uint32_t kernels, int64_t slice_ns)
{
	uint32_t seen = __atomic_load_n(&h->ready, __ATOMIC_ACQUIRE);

	if (seen < kernels)
		futex_wait(&h->ready, seen, slice_ns);
	return __atomic_load_n(&h->ready, __ATOMIC_ACQUIRE) < kernels;
}
