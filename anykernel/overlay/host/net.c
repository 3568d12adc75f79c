// SPDX-License-Identifier: GPL-2.0
/* The engine: one queue of events, in total order, for all kernels that have joined. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "net.h"
#include "visit.h"

/* Events after which the client is asked for its opinion: it watches the budget. */
#define SLICE 20000

struct net *const net = (struct net *)ARENA_AT;

/* Copies of the arena's used part, one behind the other: of level n from saved_at[n - 1] to
 * saved_at[n]. */
#define SAVED_SIZE (16 * ARENA_SIZE)
static uint8_t *saved;
static uint64_t *saved_at;
static uint32_t saved_levels;
static uint32_t slice;

static unsigned int class_of(size_t size)
{
	unsigned int order = 6;

	while ((1UL << order) < size)
		order++;
	return order;
}

void *net_alloc(size_t size)
{
	unsigned int order = class_of(size);
	void *p = net->free[order];

	if (p) {
		net->free[order] = *(void **)p;
		return p;
	}
	if (net->top + (1UL << order) > ARENA_SIZE) {
		errno = 0;
		die("the network has more than 512 MiB of frames in flight: lower rate * delay, or "
		    "give links a queue limit");
	}
	p = ARENA_AT + net->top;
	net->top += 1UL << order;
	return p;
}

void net_free(void *p, size_t size)
{
	unsigned int order = class_of(size);

	if (!p)
		return;
	*(void **)p = net->free[order];
	net->free[order] = p;
}

void *net_grow(void *array, uint32_t count, uint32_t *room, size_t size)
{
	void *larger;

	if (count < *room)
		return array;
	larger = net_alloc((*room ? 2 * *room : 64) * size);
	if (array)
		memcpy(larger, array, *room * size);
	net_free(array, *room * size);
	*room = *room ? 2 * *room : 64;
	return larger;
}

void flight_drop(struct flight *f)
{
	if (!--f->refs)
		net_free(f, sizeof(*f) + f->length);
}

/* Events: a binary heap. */

static bool earlier(const struct event *a, const struct event *b)
{
	return a->time < b->time || (a->time == b->time && a->number < b->number);
}

void event_add(struct event e)
{
	uint32_t i;

	net->events = net_grow(net->events, net->event_count, &net->event_room, sizeof(e));
	e.number = net->numbers++;
	for (i = net->event_count++; i && earlier(&e, &net->events[(i - 1) / 2]); i = (i - 1) / 2)
		net->events[i] = net->events[(i - 1) / 2];
	net->events[i] = e;
}

static struct event event_take(void)
{
	struct event *heap = net->events, first = heap[0], last = heap[--net->event_count];
	uint32_t i = 0, child;

	while ((child = 2 * i + 1) < net->event_count) {
		if (child + 1 < net->event_count && earlier(&heap[child + 1], &heap[child]))
			child++;
		if (!earlier(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

/* Members: a binary heap that knows their places. */

static bool sooner(const struct member *a, const struct member *b)
{
	return a->deadline < b->deadline || (a->deadline == b->deadline && a->kernel < b->kernel);
}

static void place(struct member *m, uint32_t i)
{
	net->queue[i] = m;
	m->place = i;
}

static void reorder(struct member *m)
{
	uint32_t i = m->place, child;

	for (; i && sooner(m, net->queue[(i - 1) / 2]); i = (i - 1) / 2)
		place(net->queue[(i - 1) / 2], i);
	while ((child = 2 * i + 1) < net->queued) {
		if (child + 1 < net->queued && sooner(net->queue[child + 1], net->queue[child]))
			child++;
		if (!sooner(net->queue[child], m))
			break;
		place(net->queue[child], i);
		i = child;
	}
	place(m, i);
}

static void reset(void)
{
	memset(net, 0, sizeof(*net));
	net->top = (sizeof(*net) + PAGE - 1) & ~(PAGE - 1);
	net->now = BOOTED_AT;
	net->members = net_alloc(options.kernels * sizeof(*net->members));
	memset(net->members, 0, options.kernels * sizeof(*net->members));
	net->queue = net_alloc(options.kernels * sizeof(*net->queue));
	net->asked_end = &net->asked;
	header()->asked = 0;
	header()->trace = header()->progress = 0;
	header()->now = net->now;
}

static void *reserve(void *at, size_t size)
{
	void *p = mmap(at, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
		       (at ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	if (p == MAP_FAILED)
		die("mmap for the network");
	return p;
}

void net_prepare(void)
{
	if (options.clock != HK_NETWORK)
		return;
	reserve(ARENA_AT, ARENA_SIZE);
	saved = reserve(NULL, SAVED_SIZE);
	saved_at = reserve(NULL, (MAX_DEPTH + 1) * sizeof(*saved_at));
	reset();
}

uint64_t engine_now(void)
{
	return options.clock == HK_NETWORK ? net->now : 0;
}

bool engine_has(const struct kernel *k)
{
	return options.clock == HK_NETWORK && net->members[k->index];
}

/* Who is killed in the middle of a call doesn't come back from it. */
static void tell_ends(struct kernel *k, struct member *m)
{
	for (uint32_t task = 0; task < m->tasks; task++) {
		uint64_t *gone = &m->gone[task / 64], bit = 1UL << task % 64;

		if (k->table[task].state != LIB_TASK_EXITED) {
			*gone &= ~bit;
		} else if (!(*gone & bit)) {
			*gone |= bit;
			engine_back(k, task);
		}
	}
}

void engine_deadline(struct kernel *k, uint64_t deadline)
{
	struct member *m = net->members[k->index];

	m->deadline = deadline;
	reorder(m);
	tell_ends(k, m);
}

void engine_dead(struct kernel *k)
{
	if (engine_has(k))
		engine_deadline(k, LIB_NEVER);
}

bool engine_pauses(void)
{
	struct hk_header *h = header();

	if (net->asked || h->wire_head - h->wire_taken > HK_WIRE_SIZE / 2 || slice >= SLICE) {
		slice = 0;
		return true;
	}
	return false;
}

/* Frames go round for ever where nodes greet each other: so often they are waited for. */
#define MAX_CHANCES 300

uint64_t engine_wakeup(bool fresh)
{
	uint64_t next = LIB_NEVER;

	for (uint32_t i = 0; i < net->queued; i++) {
		struct kernel *k = &kernels[net->queue[i]->kernel];
		uint64_t due = k->shared->crash ? LIB_NEVER : visit_next_wakeup(k, fresh);

		if (due < next)
			next = due;
	}
	if (fresh)
		net->chances = 0;
	if (net->event_count && net->events[0].time < next && net->chances < MAX_CHANCES) {
		net->chances++;
		next = net->events[0].time;
	}
	return next;
}

bool net_step(uint64_t limit)
{
	struct member *m = net->queued ? net->queue[0] : NULL;
	uint64_t due = m ? m->deadline : LIB_NEVER;
	bool event = net->event_count && net->events[0].time <= due;

	if (event)
		due = net->events[0].time;
	if (due > limit || due == LIB_NEVER) {
		if (limit != LIB_NEVER && limit > net->now)
			net->now = limit;
		return false;
	}
	if (due > net->now)
		net->now = due;
	slice++;
	header()->events++;
	if (event) {
		struct event e = event_take();

		if (e.kind == EVENT_JOB)
			job_event(&e);
		else
			wire_event(&e);
	} else {
		kernel_run(&kernels[m->kernel]);
	}
	return true;
}

bool engine_back(struct kernel *k, uint32_t task)
{
	struct member *m = net->members[k->index];

	if (task >= m->tasks)
		m->tasks = task + 1;
	if (m->jobs[task] && job_back(m, task))
		return true;
	if (!(m->back[task / 64] & (1UL << task % 64))) {
		m->back[task / 64] |= 1UL << task % 64;
		net->backs = net_grow(net->backs, net->back_count, &net->back_room,
				      sizeof(*net->backs));
		net->backs[net->back_count++] = (struct hk_back){ .kernel = k->index, .slot = task };
	}
	return false;
}

static uint32_t join(uint32_t index)
{
	struct member *m;

	if (!kernels[index].booted || net->members[index])
		return HK_BAD;
	m = net_alloc(sizeof(*m));
	memset(m, 0, sizeof(*m));
	m->kernel = index;
	m->deadline = LIB_NEVER;
	m->place = net->queued;
	net->queue[net->queued++] = m;
	net->members[index] = m;
	kernel_run(&kernels[index]);
	return HK_OK;
}

/* Hands the tasks that are back to the client, in the order in which they came. */
static void give_backs(struct hk_command *c)
{
	struct hk_back *out = (struct hk_back *)(shm + HK_OUT_AT);

	c->ret = 0;
	for (uint32_t i = 0; i < net->back_count; i++) {
		struct hk_back b = net->backs[i];
		const struct lib_task *task = &kernels[b.kernel].table[b.slot];

		const struct job *job = net->members[b.kernel]->jobs[b.slot];

		net->members[b.kernel]->back[b.slot / 64] &= ~(1UL << b.slot % 64);
		/* The client knew, and has posted the next, or begun a job. */
		if (task->state == LIB_TASK_POSTED || (job && !job->job.over))
			continue;
		b.state = task->state;
		b.ret = task->state == LIB_TASK_EXITED ? task->exit_code : task->ret;
		out[c->ret++] = b;
	}
	net->back_count = 0;
}

/* Where there are very many, code that only their configuration ran is not kept mapped. */
static void drop_codes(void)
{
	for (uint32_t i = 0; net->queued > HK_FEW && i < net->queued; i++) {
		struct kernel *k = &kernels[net->queue[i]->kernel];

		if (k->configured)
			drop_code(k);
		k->configured = false;
	}
}

static uint32_t net_run(struct hk_command *c)
{
	bool more = true;

	drop_codes();

	while (more && !net->back_count && !interrupted()) {
		if (engine_pauses())
			return HK_AGAIN;
		more = engine_step(c->args[0]);
	}
	give_backs(c);
	return HK_OK;
}

static uint32_t save(struct hk_command *c)
{
	uint64_t level = c->args[0];

	if (level != saved_levels + 1)
		return HK_BAD;
	if (level > MAX_DEPTH || SAVED_SIZE - saved_at[saved_levels] < net->top) {
		c->ret = -EDQUOT;
		return HK_BAD;
	}
	memcpy(saved + saved_at[saved_levels], ARENA_AT, net->top);
	saved_at[level] = saved_at[saved_levels] + net->top;
	saved_levels = level;
	return HK_OK;
}

static uint32_t load(struct hk_command *c)
{
	uint64_t level = c->args[0];

	if (level < 1 || level > saved_levels)
		return HK_BAD;
	memcpy(ARENA_AT, saved + saved_at[level - 1], saved_at[level] - saved_at[level - 1]);
	saved_levels = level;
	header()->trace = net->trace;
	header()->progress = 0;
	header()->asked = 0;
	for (const struct asked *a = net->asked; a; a = a->next)
		header()->asked++;
	return HK_OK;
}

static uint32_t forget(struct hk_command *c)
{
	if (c->args[0] < 1 || c->args[0] > saved_levels)
		return HK_BAD;
	saved_levels = c->args[0] - 1;
	return HK_OK;
}

bool engine_owns(const uint8_t *address)
{
	return options.clock == HK_NETWORK &&
	       ((address >= ARENA_AT && address < ARENA_AT + ARENA_SIZE) ||
		(address >= saved && address < saved + SAVED_SIZE));
}

uint32_t engine_command(struct hk_command *c)
{
	if (options.clock != HK_NETWORK) {
		c->ret = -ENODEV;
		return HK_BAD;
	}
	c->ret = -EINVAL;
	switch (c->op) {
	case HK_JOIN:
		return join(c->kernel);
	case HK_NET_RUN:
		return net_run(c);
	case HK_NET_RESET:
		saved_levels = 0;
		reset();
		return HK_OK;
	case HK_NET_SAVE:
		return save(c);
	case HK_NET_LOAD:
		return load(c);
	case HK_NET_FORGET:
		return forget(c);
	case HK_NET_WAKEUP:
		c->extra = engine_wakeup(c->args[0]);
		return HK_OK;
	case HK_JOB:
	case HK_JOB_STATS:
	case HK_JOB_STOP:
		return job_command(c);
	}
	return wire_command(c);
}
