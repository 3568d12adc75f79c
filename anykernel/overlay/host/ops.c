// SPDX-License-Identifier: GPL-2.0
/* The operations that a kernel calls: clock, console, randomness, frames. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"

uint64_t clock_now(struct kernel *k)
{
	static uint64_t start;

	if (options.clock == HK_REAL) {
		if (!start)
			start = wall_ns();
		k->state.now = wall_ns() - start;
	}
	return k->state.now;
}

/* Who calls an operation: the kernel that runs, whatever it says.  What it left of the
 * processor's state is not for C code. */
static struct kernel *caller(void *host)
{
	(void)host;
	processor_check(running);
	return running;
}

static uint64_t op_clock_read(void *host)
{
	return clock_now(caller(host));
}

static void op_clock_spend(void *host, uint64_t ns)
{
	struct kernel *k = caller(host);

	if (options.clock != HK_REAL)
		k->state.now += ns;
}

#define MAX_FRAME 0x20000	/* longer than any netdev's MTU allows */

static void op_console(void *host, const char *text, uint32_t n)
{
	struct kernel *k = caller(host);
	uint64_t head = k->shared->console_head;

	for (uint32_t i = 0; i < n; i++)
		k->console[(head + i) % HK_CONSOLE_SIZE] = text[i];
	k->shared->console_head = head + n;
	if (head + n - k->shared->console_seen > HK_CONSOLE_SIZE / 2)
		header()->news++;
}

/* After `k` has run: its count goes to where the client sees it. */
void show_warnings(struct kernel *k)
{
	if (!k->lib || k->lib->warnings == k->shared->warnings)
		return;
	k->shared->warnings = k->lib->warnings;
	header()->news++;
}

/* splitmix64: small, and its state is one word of the snapshot. */
uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15UL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
	return z ^ (z >> 31);
}

static void op_entropy(void *host, void *buf, uint32_t n)
{
	struct kernel *k = caller(host);

	for (uint32_t i = 0; i < n; i += 8) {
		uint64_t z = next_random(&k->state.rng);

		memcpy((char *)buf + i, &z, n - i < 8 ? n - i : 8);
	}
}

static uint64_t next_record(const struct ring *ring, uint64_t position)
{
	uint64_t at = position % ring->size, rest = ring->size - at;
	const struct hk_frame *frame = (const struct hk_frame *)(ring->data + at);

	if (rest < sizeof(*frame) || frame->kept == ~0U)
		return position + rest;
	return position + sizeof(*frame) + ((frame->kept + 7UL) & ~7UL);
}

/* In the middle of a command, on a kernel's stack: the client reads a ring. */
static void wait_for_reader(uint32_t ring)
{
	struct hk_header *h = header();

	__atomic_store_n(&h->full, ring, __ATOMIC_SEQ_CST);
	wake_client();
	while (__atomic_load_n(&h->full, __ATOMIC_ACQUIRE) == ring)
		syscall(SYS_futex, &h->full, FUTEX_WAIT, ring, NULL, NULL, 0);
}

struct ring wire_ring(void)
{
	struct hk_header *h = header();

	return (struct ring){ shm + HK_WIRE_AT, HK_WIRE_SIZE, &h->wire_head, &h->wire_tail,
			      &h->wire_taken, h->wire_whole, HK_WIRE_FULL };
}

void ring_add(const struct ring *ring, struct hk_frame about, const void *data)
{
	uint64_t head = *ring->head, tail = *ring->tail;
	uint64_t size = sizeof(about) + ((about.kept + 7UL) & ~7UL);
	uint64_t at = head % ring->size;
	struct hk_frame *frame = (struct hk_frame *)(ring->data + at);
	bool wraps = at + size > ring->size;
	uint64_t end = head + size + (wraps ? ring->size - at : 0);

	if (ring->whole && end - *ring->taken > ring->size)
		wait_for_reader(ring->number);
	while (end - tail > ring->size)
		tail = next_record(ring, tail);
	*ring->tail = tail;
	if (wraps) {
		if (at + sizeof(*frame) <= ring->size)
			frame->kept = ~0U;
		frame = (struct hk_frame *)ring->data;
	}
	*frame = about;
	memcpy(frame + 1, data, about.kept);
	*ring->head = end;
}

static void capture(struct kernel *k, uint32_t dev, bool sent, const void *data, uint32_t length)
{
	struct hk_kernel *s = k->shared;
	struct ring ring = { k->capture, HK_CAPTURE_SIZE, &s->capture_head, &s->capture_tail,
			     &s->capture_taken, s->captures == 2, k->index + 1 };

	if (s->captures)
		ring_add(&ring, (struct hk_frame){ k->state.now, length, length, dev, sent }, data);
}

/* Injected frames lie as [u32 length][data], each padded to 4 bytes. */
static int32_t op_netdev_next(void *host, uint32_t dev)
{
	struct kernel *k = caller(host);
	uint32_t length;

	if (dev != k->rx_dev || k->rx >= k->rx_end)
		return -1;
	memcpy(&length, k->rx, 4);
	return length;
}

static void op_netdev_pull(void *host, uint32_t dev, void *to, uint32_t len)
{
	struct kernel *k = caller(host);
	int32_t length = op_netdev_next(host, dev);

	if (length < 0)
		return;
	if (to && len > (uint32_t)length)
		crash(k, HK_FAULT, "the kernel takes more of a frame than there is");
	if (to)
		memcpy(to, k->rx + 4, len);
	capture(k, dev, false, k->rx + 4, length);
	k->rx += 4 + ((length + 3UL) & ~3UL);
}

static void op_netdev_xmit(void *host, uint32_t dev, const void *frame, uint32_t len)
{
	struct kernel *k = caller(host);
	size_t size = 4 + ((len + 3UL) & ~3UL);

	if (len > MAX_FRAME || dev >= LIB_MAX_NETDEVS)
		crash(k, HK_FAULT, "the kernel sends a frame, or by a netdev, that can't be");
	capture(k, dev, true, frame, len);
	if (engine_plugged(k, dev)) {
		engine_transmit(k, dev, frame, len);
		return;
	}
	if (k->tx && dev == k->rx_dev && (size_t)(k->tx_end - k->tx) >= size) {
		memcpy(k->tx, &len, 4);
		memcpy(k->tx + 4, frame, len);
		k->tx += size;
		k->tx_count++;
	}
}

static uint32_t op_netdev_room(void *host, uint32_t dev)
{
	struct kernel *k = caller(host);

	return engine_plugged(k, dev) ? engine_room(k, dev) : 1;
}

static void op_stack_guard(void *host, void *low)
{
	struct kernel *k = caller(host);
	uint8_t *page = low;

	if (page < k->low || page >= k->high || (uintptr_t)page % PAGE)
		crash(k, HK_FAULT, "the kernel makes a stack of what isn't its memory");
	snapshot_guard(k, page);
}

static void op_signal(void *host, uint32_t task, int32_t signo, uint64_t handler, const void *info)
{
	struct kernel *k = caller(host);

	(void)info;
	k->shared->signals[k->state.signals++ % HK_SIGNALS] = (struct hk_signal){
		.time = k->state.now, .handler = handler, .slot = task, .signo = signo,
	};
	k->shared->signals_head = k->state.signals;
}

static void op_crash(void *host, uint32_t kind, const char *what)
{
	crash(caller(host), kind == LIB_CRASH_HALT ? HK_HALT : HK_PANIC, what);
}

static void op_stub(void *host, uint32_t number, const char *name, uint32_t granted,
		    uint32_t count, const uint64_t *args)
{
	struct kernel *k = caller(host);
	char what[128];
	int n;

	if (number < HK_STUBS)
		k->shared->stubs[number]++;
	if (granted || k->shared->stubs_pass)
		return;
	n = snprintf(what, sizeof(what), "stub reached: %s(", name);
	for (uint32_t i = 0; i < count && n < (int)sizeof(what); i++)
		n += snprintf(what + n, sizeof(what) - n, "%s%#lx", i ? ", " : "", args[i]);
	if (n < (int)sizeof(what))
		snprintf(what + n, sizeof(what) - n, ")");
	crash(k, HK_STUB, what);
}

#define TICKING 20000000UL	/* two ticks at the slowest rate, HZ=100 */

void kernel_start(struct kernel *k)
{
	struct lib_host_ops ops = {
		.version = LIB_ABI_VERSION, .size = sizeof(ops), .host = k,
		.clock_read = op_clock_read, .clock_spend = op_clock_spend,
		.console = op_console, .entropy = op_entropy,
		.netdev_next = op_netdev_next, .netdev_pull = op_netdev_pull,
		.netdev_xmit = op_netdev_xmit, .stack_guard = op_stack_guard,
		.signal = op_signal, .crash = op_crash, .stub = op_stub,
		.netdev_room = op_netdev_room,
	};
	uint8_t *user = (uint8_t *)k->shared + HK_USER_AT;
	struct lib_boot boot = {
		.version = LIB_ABI_VERSION, .size = sizeof(boot),
		.memory = k->high - options.memory, .memory_size = options.memory,
		.epoch_ns = options.epoch_ns, .cmdline = options.cmdline,
		.user_low = user, .user_high = user + HK_USER_SIZE,
	};
	int err;

	k->state.now = BOOTED_AT - TICKING;
	/* No two kernels of a network guess each other's sequence numbers. */
	k->state.rng = options.seed * 0x9e3779b97f4a7c15UL + 1 + k->index * 0xda942042e4dd58b5UL;
	k->lib = k->get_state();
	k->table = k->tasks();
	running = k;
	err = k->init(&ops, &boot);
	if (err) {
		fprintf(stderr, "anykernel-host: lib_init: %s\n", strerror(-err));
		die("the kernel refused to boot");
	}
	/* The first tick makes timers exact: high resolution begins with it. */
	run_until(k, options.clock == HK_REAL ? 0 : BOOTED_AT);
	running = NULL;
}
