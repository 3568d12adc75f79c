// SPDX-License-Identifier: GPL-2.0
/* The operations that a kernel calls: clock, console, randomness, frames. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "visit.h"

static uint64_t real_start;

uint64_t clock_read(const struct kernel *k)
{
	return options.clock == HK_REAL ? wall_ns() - real_start : k->state.now;
}

uint64_t clock_now(struct kernel *k)
{
	k->state.now = clock_read(k);
	return k->state.now;
}

/* Operations are called on a kernel's stack, with its rights.  Who calls: the kernel that runs,
 * whatever it says.  Copies of ours go forward; how it left the rest of the processor's state,
 * its return tells. */
static struct kernel *caller(void *host)
{
	(void)host;
	__asm__ volatile("cld");
	if (__builtin_expect(overdue, 0))
		processor_check(running);
	return running;
}

static uint64_t op_clock_read(void *host)
{
	return clock_read(caller(host));
}

static void op_clock_spend(void *host, uint64_t ns)
{
	struct kernel *k = caller(host);

	if (options.clock == HK_REAL)
		return;
	host_begin();
	k->state.now += ns;
	host_end(k);
}

static void op_console(void *host, const char *text, uint32_t n)
{
	struct kernel *k = caller(host);
	uint64_t head = k->shared->console_head;

	host_begin();
	for (uint32_t i = 0; i < n; i++)
		k->console[(head + i) % HK_CONSOLE_SIZE] = text[i];
	k->shared->console_head = head + n;
	if (head + n - k->shared->console_seen > HK_CONSOLE_SIZE / 2)
		header()->news++;
	host_end(k);
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
		uint64_t z;

		host_begin();
		z = next_random(&k->state.rng);
		host_end(k);
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

static void capture(struct kernel *k, uint32_t dev, bool sent, const void *data, uint32_t length,
		    uint64_t time)
{
	struct hk_kernel *s = k->shared;
	struct ring ring = { k->capture, HK_CAPTURE_SIZE, &s->capture_head, &s->capture_tail,
			     &s->capture_taken, s->captures == 2, k->index + 1 };

	if (s->captures)
		ring_add(&ring, (struct hk_frame){ time, length, length, dev, sent }, data);
}

/* What an operation leaves on the desk. */
struct passed {
	uint64_t time;
	uint32_t length, dev;
	uint64_t from;		/* a frame that was pulled: where it lies in kernel.rx; SENT: its
				 * data follows */
};
#define SENT (~0UL)
#define ANSWERED (~1UL)	/* no frame: what follows answers the next that is exchanged */

#define MAX_FRAME 0x20000	/* longer than any netdev's MTU allows */

/* Injected frames lie as [u32 length][data], each padded to 4 bytes.  The frame at `at`; its
 * length, or -1. */
static int32_t frame_at(const struct kernel *k, uint64_t at, const uint8_t **data)
{
	uint64_t size = k->rx_end - k->rx;
	uint32_t length;

	if (at > size || size - at < 4)
		return -1;
	memcpy(&length, k->rx + at, 4);
	if (length > size - at - 4)
		return -1;
	*data = k->rx + at + 4;
	return length;
}

uint64_t frame_end(const struct kernel *k, uint64_t at)
{
	const uint8_t *data;
	int32_t length = frame_at(k, at, &data);

	return length < 0 ? 0 : at + 4 + ((length + 3UL) & ~3UL);
}

/* The next that `dev` may pull, as frame_at(). */
static int32_t frame_next(const struct kernel *k, uint32_t dev, const uint8_t **data)
{
	uint64_t at = DESK->taken;

	return dev == k->rx_dev && at < DESK->arrived ? frame_at(k, at, data) : -1;
}

static int32_t op_netdev_next(void *host, uint32_t dev)
{
	const uint8_t *data;

	return frame_next(caller(host), dev, &data);
}

static uint32_t op_netdev_gso(void *host, uint32_t dev)
{
	(void)dev;
	return caller(host)->rx_gso;
}

/* Room on the desk for `size` bytes of data, or NULL. */
static struct passed *leave(uint32_t size)
{
	uint64_t used = DESK->used;
	struct passed *p = (struct passed *)(DESK->frames + used);

	if (used % 8 || used > DESK_ROOM || DESK_ROOM - used < sizeof(*p) + size + 7UL)
		return NULL;
	DESK->used = used + sizeof(*p) + ((size + 7UL) & ~7UL);
	return p;
}

static struct passed *leave_or_clear(struct kernel *k, uint32_t size)
{
	struct passed *p = leave(size);

	if (p)
		return p;
	host_begin();
	if (!desk_clear(k))
		crash(k, HK_FAULT, DESK_DAMAGED);
	host_end(k);
	return leave(size);
}

void desk_answered(struct kernel *k)
{
	*leave_or_clear(k, 0) = (struct passed){ .from = ANSWERED };
}

static void op_netdev_pull(void *host, uint32_t dev, void *to, uint32_t len)
{
	struct kernel *k = caller(host);
	uint64_t at = DESK->taken;
	const uint8_t *data;
	int32_t length = frame_next(k, dev, &data);
	struct passed *p;

	if (length < 0)
		return;
	if (to && len > (uint32_t)length)
		crash(k, HK_FAULT, "the kernel takes more of a frame than there is");
	if (to)
		memcpy(to, data, len);
	p = k->shared->captures ? leave_or_clear(k, 0) : NULL;
	if (p)
		*p = (struct passed){ clock_read(k), length, dev, at };
	DESK->taken = at + 4 + ((length + 3UL) & ~3UL);
}

/* Room for what an exchange gives back, or NULL. */
static uint8_t *answer_room(struct kernel *k, size_t size)
{
	uint8_t *at = k->tx;

	k->tx_full |= (size_t)(k->tx_end - at) < size;
	if (k->tx_full)
		return NULL;
	k->tx += size;
	return at;
}

/* A frame that nothing carries on. */
static void sent(struct kernel *k, uint32_t dev, const void *frame, uint32_t len)
{
	uint8_t *at;

	if (!k->tx || dev != k->rx_dev)
		return;
	at = answer_room(k, 4 + ((len + 3UL) & ~3UL));
	if (!at)
		return;
	memcpy(at, &len, 4);
	memcpy(at + 4, frame, len);
	k->tx_count++;
}

void answers_begin(struct kernel *k)
{
	k->tx_counted = answer_room(k, 4);
	k->tx_count = 0;
}

void answers_end(struct kernel *k)
{
	if (!k->tx)
		return;
	if (k->tx_counted)
		memcpy(k->tx_counted, &k->tx_count, 4);
	k->tx_answered++;
	if (k->tx_answered < k->tx_wanted)
		answers_begin(k);
}

static void op_netdev_xmit(void *host, uint32_t dev, const void *frame, uint32_t len)
{
	struct kernel *k = caller(host);
	struct passed *p;

	if (len > MAX_FRAME || dev >= LIB_MAX_NETDEVS)
		crash(k, HK_FAULT, "the kernel sends a frame, or by a netdev, that can't be");
	if (engine_plugged(k, dev)) {
		host_begin();
		if (!desk_clear(k))
			crash(k, HK_FAULT, DESK_DAMAGED);
		capture(k, dev, true, frame, len, k->state.now);
		engine_transmit(k, dev, frame, len);
		host_end(k);
		return;
	}
	p = k->tx || k->shared->captures ? leave_or_clear(k, len) : NULL;
	if (!p)
		return;
	*p = (struct passed){ clock_read(k), len, dev, SENT };
	memcpy(p + 1, frame, len);
}

/* The kernel may have written anything there. */
bool desk_clear(struct kernel *k)
{
	uint64_t end = DESK->used, at = 0;

	DESK->used = 0;
	if (end > DESK_ROOM)
		return false;
	while (end - at >= sizeof(struct passed)) {
		/* Word by word, as they were written a moment ago: the CPU forwards such. */
		const volatile struct passed *left = (const struct passed *)(DESK->frames + at);
		struct passed p = { left->time, left->length, left->dev, left->from };
		const uint8_t *data = DESK->frames + at + sizeof(p);

		at += sizeof(p);
		if (p.from == ANSWERED) {
			answers_end(k);
			continue;
		}
		if (p.from == SENT) {
			if (p.length > MAX_FRAME || ((p.length + 7UL) & ~7UL) > end - at)
				return false;
			at += (p.length + 7UL) & ~7UL;
		} else if (frame_at(k, p.from, &data) != (int32_t)p.length) {
			return false;
		}
		capture(k, p.dev, p.from == SENT, data, p.length, p.time);
		if (p.from == SENT)
			sent(k, p.dev, data, p.length);
	}
	return at == end;
}

static uint32_t op_netdev_room(void *host, uint32_t dev)
{
	struct kernel *k = caller(host);
	uint32_t room;

	if (!engine_plugged(k, dev))
		return 1;
	host_begin();
	room = engine_room(k, dev);
	host_end(k);
	return room;
}

static void op_stack_guard(void *host, void *low)
{
	struct kernel *k = caller(host);
	uint8_t *at = low;

	if (at < k->low || at >= k->high || (uintptr_t)at % PAGE)
		crash(k, HK_FAULT, "the kernel makes a stack of what isn't its memory");
	host_begin();
	snapshot_guard(k, at);
	host_end(k);
}

static void op_signal(void *host, uint32_t task, int32_t signo, uint64_t handler, const void *info)
{
	struct kernel *k = caller(host);

	(void)info;
	host_begin();
	k->shared->signals[k->state.signals++ % HK_SIGNALS] = (struct hk_signal){
		.time = k->state.now, .handler = handler, .slot = task, .signo = signo,
	};
	k->shared->signals_head = k->state.signals;
	host_end(k);
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

	host_begin();
	if (number < HK_STUBS)
		k->shared->stubs[number]++;
	if (granted || k->shared->stubs_pass) {
		host_end(k);
		return;
	}
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
		.netdev_room = op_netdev_room, .netdev_gso = op_netdev_gso,
	};
	struct lib_boot boot = {
		.version = LIB_ABI_VERSION, .size = sizeof(boot),
		.memory = k->high - options.memory, .memory_size = options.memory,
		.epoch_ns = options.epoch_ns, .cmdline = options.cmdline,
		.user_low = k->user, .user_high = k->user + HK_USER_SIZE,
		.cost_ns = options.cost_ns,
	};
	int err;

	k->state.now = BOOTED_AT - TICKING;
	/* No two kernels of a network guess each other's sequence numbers. */
	k->state.rng = options.seed * 0x9e3779b97f4a7c15UL + 1 + k->index * 0xda942042e4dd58b5UL;
	k->lib = k->get_state();
	k->table = k->tasks();
	real_start = real_start ? real_start : wall_ns();
	running = k;
	err = visit_init(k, &ops, &boot);
	if (err) {
		fprintf(stderr, "anykernel-host: lib_init: %s\n", strerror(-err));
		die("the kernel refused to boot");
	}
	/* The first tick makes timers exact: high resolution begins with it. */
	run_until(k, options.clock == HK_REAL ? 0 : BOOTED_AT);
	running = NULL;
}
