// SPDX-License-Identifier: GPL-2.0
/*
 * A host program that lies: it answers the doorbell, mostly, and writes what it
 * likes into the memory that it shares with its client.  All it does follows
 * from the seed; its lowest bits choose how the program as a whole behaves.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol.h"

static uint8_t *shm;
static uint64_t state, size;
static uint32_t kernels;

/* Ways to behave; the rest of the seed says what is random in them. */
enum { GARBAGE, PLAUSIBLE, RINGS, STATUSES, BELL, SLEEPER, SPINNER, QUITTER, FLOODER,
       DOZER, NEVER_READY, ODD_READY, DIES_BOOTING, AGAIN, FULL, TEASER, WAYS };

static uint64_t next(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15UL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
	return z ^ (z >> 31);
}

/* A number that is at somebody's limit more often than not. */
static uint64_t odd(void)
{
	static const uint64_t edges[] = {
		0, 1, 2, 7, 8, 24, 255, 256, 4095, 4096, 65557, 0x7fffffff, 0x80000000, 0xffffffff,
		0x100000000, 1UL << 47, (1UL << 62) - 1, 1UL << 62, 1UL << 63, ~0UL, ~0UL - 7,
		HK_CAPTURE_SIZE, HK_WIRE_SIZE, HK_CONSOLE_SIZE, HK_OUT_SIZE, -1UL, -4UL, -4096UL,
	};
	uint64_t n = next();

	if (n & 7)
		return edges[(n >> 8) % (sizeof(edges) / sizeof(*edges))] + ((n >> 4) & 3) - 1;
	return next() >> (n >> 8) % 64;
}

static struct hk_kernel *kernel(uint32_t i)
{
	return (struct hk_kernel *)(shm + HK_KERNELS_AT + (uint64_t)i * HK_KERNEL_SIZE);
}

/* What a quiet kernel would have there. */
static void plausible(void)
{
	struct hk_header *h = (struct hk_header *)shm;

	h->user_first = 0x201800000;
	h->user_stride = 0x10000000;
	for (uint32_t i = 0; i < kernels; i++) {
		struct hk_kernel *k = kernel(i);

		k->image_base = 0x200000000;
		k->image_end = k->image_base + 0x800000;
		k->ram_end = k->image_end + 0x1000000;
		k->now = 1000000000;
	}
}

static void garbage(uint8_t *at, uint64_t bytes, uint32_t times)
{
	while (times--) {
		uint64_t value = odd(), where = next() % (bytes / 4) * 4;
		uint32_t n = next() & 1 ? 8 : 4;

		memcpy(at + where, &value, bytes - where < n ? 4 : n);
	}
}

static void ring(uint64_t *head, uint64_t *tail, uint8_t *data, uint64_t room)
{
	uint64_t lies = next() % 4;

	*head = lies == 0 ? odd() : *head + next() % 5000 * 8;
	*tail = lies == 1 ? odd() : *head > room ? *head - room : 0;
	for (uint64_t at = *tail; at < *head && *head - *tail <= room; at += 1024 + next() % 8 * 8) {
		struct hk_frame f = { next() % 1000000, 60, 60, 0, next() & 1 };

		if (next() % 50 == 0)
			garbage((uint8_t *)&f, sizeof(f), 1);
		if (at % room + sizeof(f) <= room)
			memcpy(data + at % room, &f, sizeof(f));
	}
}

static void answer(struct hk_command *c, uint32_t way)
{
	struct hk_header *h = (struct hk_header *)shm;
	struct hk_kernel *k = kernel(c->kernel < kernels ? c->kernel : 0);

	c->status = HK_OK;
	switch (way) {
	case GARBAGE:
		garbage((uint8_t *)h + 16, sizeof(*h) - 16, next() % 3);
		garbage((uint8_t *)c, sizeof(*c), 1 + next() % 4);
		garbage((uint8_t *)k, sizeof(*k), next() % 40);
		garbage(shm + HK_OUT_AT, 256, next() % 30);
		h->full = 0;
		break;
	case PLAUSIBLE:
		c->ret = next() & 1 ? (int64_t)odd() : 0;
		c->extra = next() & 1 ? odd() : 2;
		garbage(shm + HK_OUT_AT, 128, next() % 20);
		break;
	case RINGS:
		ring(&k->capture_head, &k->capture_tail, (uint8_t *)k + HK_CAPTURE_AT,
		     HK_CAPTURE_SIZE);
		ring(&h->wire_head, &h->wire_tail, shm + HK_WIRE_AT, HK_WIRE_SIZE);
		k->console_head = next() & 1 ? odd() : k->console_head + next() % 1000000;
		k->signals_head = odd();
		break;
	case STATUSES:
		c->status = next() % 12;
		c->ret = next() & 1 ? -(int64_t)(next() % 100) : (int64_t)odd();
		h->crashed = next() & 1 ? 1 : odd();
		k->crash = next() & 1 ? next() % 10 : odd();
		k->stack_bytes = next() & 1 ? 4096 : odd();
		k->stack_from = k->bp = odd();
		k->ip = next() & 1 ? k->image_base + next() % 100000 : odd();
		memset(k->what, 'x', sizeof(k->what));
		memset(k->comm, 0xff, sizeof(k->comm));
		break;
	case AGAIN:
		c->status = HK_AGAIN;
		h->asked = next() & 1;
		h->events++;
		break;
	}
}

static void wait_for(uint32_t *word, uint32_t value)
{
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
		syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void nap(uint32_t microseconds)
{
	usleep(microseconds);
}

/* In the middle of a request. */
static void behave(uint32_t way, uint32_t turn)
{
	struct hk_header *h = (struct hk_header *)shm;

	if (turn < 3 && way != TEASER)
		return;
	switch (way) {
	case BELL:
		*(next() & 1 ? &h->doorbell : &h->done) = odd();
		break;
	case SLEEPER:
		for (;;)
			pause();
	case SPINNER:
		for (;;)
			__builtin_ia32_pause();
	case DOZER:	/* uses next to no CPU time, but some */
		for (;;)
			nap(3000);
	case QUITTER:
		_exit(next() % 3);
	case FLOODER:
		for (;;) {
			static char text[4096];

			memset(text, 'f', sizeof(text));
			if (write(2, text, sizeof(text)) < 0)
				_exit(1);
		}
	case FULL:
		__atomic_store_n(&h->full, next() & 1 ? odd() : 1, __ATOMIC_SEQ_CST);
		break;
	case TEASER:	/* done before it has answered */
		__atomic_store_n(&h->done, h->doorbell, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &h->done, FUTEX_WAKE, 1, NULL, NULL, 0);
		nap(200000);
		break;
	}
}

int main(int argc, char **argv)
{
	struct hk_header *h;
	struct stat about;
	uint32_t way, last = 0;

	if (argc < 7 || fstat(atoi(argv[2]), &about))
		return 2;
	size = about.st_size;
	shm = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[2]), 0);
	if (shm == MAP_FAILED)
		return 2;
	kernels = (size - HK_KERNELS_AT) / HK_KERNEL_SIZE;
	state = strtoull(argv[6], NULL, 0);
	way = state % WAYS;
	h = (struct hk_header *)shm;
	plausible();
	h->host_sleeps = 1;
	switch (way) {
	case NEVER_READY:
		for (;;)
			pause();
	case DIES_BOOTING:
		garbage((uint8_t *)kernel(0), sizeof(struct hk_kernel), next() % 100);
		return 1;
	case ODD_READY:
		garbage((uint8_t *)kernel(0), sizeof(struct hk_kernel), 100);
		h->ready = next() & 1 ? kernels : odd();
		break;
	default:
		h->ready = kernels;
	}
	for (uint32_t turn = 0;; turn++) {
		wait_for(&h->doorbell, last);
		last = h->doorbell;
		behave(way, turn);
		for (uint32_t i = 0; i < h->count && i < HK_MAX_COMMANDS; i++)
			answer((struct hk_command *)(shm + HK_COMMANDS_AT) + i, way);
		__atomic_store_n(&h->done, last, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &h->done, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}
