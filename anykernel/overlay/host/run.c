// SPDX-License-Identifier: GPL-2.0
/* Letting a kernel run: to the end of a call, to idleness, through time. */
#include <string.h>
#include <time.h>

#include "engine.h"

/* A call that nothing wakes within a day of virtual time never ends: an idle
 * kernel always has some housekeeping timer, so "no deadline" alone is rare. */
#define HORIZON (24UL * 3600 * 1000000000)

/* How long a real clock's sleep may keep the client from being heard. */
#define NAP 20000000UL

bool interrupted(void)
{
	return __atomic_load_n(&header()->interrupt, __ATOMIC_RELAXED);
}

static void jump(struct kernel *k, uint64_t to)
{
	if (options.clock != HK_REAL) {
		if (to > k->state.now)
			k->state.now = to;
		return;
	}
	while (clock_now(k) < to && !interrupted()) {
		uint64_t ns = to - k->state.now < NAP ? to - k->state.now : NAP;
		struct timespec ts = { ns / 1000000000, ns % 1000000000 };

		nanosleep(&ts, NULL);
	}
}

/* Kernel code runs, until it has something to say that can be. */
static void enter_kernel(struct kernel *k, struct lib_event *event)
{
	k->run(event);
	processor_check(k);
	if ((event->kind != LIB_EVENT_IDLE && event->kind != LIB_EVENT_USER) ||
	    (event->kind == LIB_EVENT_USER && event->task >= LIB_MAX_TASKS))
		crash(k, HK_FAULT, "the kernel came back with an event that can't be");
}

/* Runs until all tasks sleep and no timer is due; returns the next deadline. */
uint64_t run_idle(struct kernel *k)
{
	struct lib_event event;
	bool joined = engine_has(k);

	do {
		enter_kernel(k, &event);
		if (joined && event.kind == LIB_EVENT_USER)
			engine_back(k, event.task);
	} while (event.kind != LIB_EVENT_IDLE || event.deadline <= clock_now(k));
	k->shared->deadline = event.deadline;
	if (joined)
		engine_deadline(k, event.deadline);
	return event.deadline;
}

/* The clock of `k`, which has joined, is the engine's. */
void catch_up(struct kernel *k)
{
	if (k->state.now < engine_now())
		k->state.now = engine_now();
}

/* Makes `k` the running kernel, at the engine's time; returns who ran before. */
static struct kernel *enter(struct kernel *k)
{
	struct kernel *before = running;

	running = k;
	header()->running = k->index + 1;
	catch_up(k);
	return before;
}

static void leave(struct kernel *before)
{
	running = before;
	header()->running = before ? before->index + 1 : 0;
}

void kernel_run(struct kernel *k)
{
	struct kernel *before = enter(k);

	run_idle(k);
	show_warnings(k);
	leave(before);
}

void kernel_interrupt(struct kernel *k, uint32_t dev)
{
	k->netdev_irq(dev);
	kernel_run(k);
}

void kernel_receive(struct kernel *k, uint32_t dev, const uint8_t *frame)
{
	uint32_t length;

	memcpy(&length, frame, 4);
	k->rx = frame;
	k->rx_end = frame + 4 + length;
	k->rx_dev = dev;
	kernel_interrupt(k, dev);
	k->rx = k->rx_end = NULL;
}

void kernel_post(struct kernel *k, uint32_t task)
{
	k->post(task);
	kernel_run(k);
}

/* How letting time pass came out. */
enum passed {
	BACK,	/* what was waited for is there */
	OVER,	/* the limit is reached first */
	ENDED,	/* the client has interrupted it */
	PAUSE	/* the client is asked for something */
};

/* Runs until `task` is back or time would pass `limit`; `heeds`: or the client interrupts. */
static enum passed run_task(struct kernel *k, struct lib_task *task, uint64_t limit, bool heeds)
{
	struct lib_event event;

	if (engine_has(k)) {
		kernel_run(k);
		while (task->state == LIB_TASK_POSTED) {
			if (engine_pauses())
				return PAUSE;
			if (heeds && interrupted())
				return ENDED;
			if (!engine_step(limit))
				return OVER;
		}
		return BACK;
	}
	for (;;) {
		enter_kernel(k, &event);
		if (task->state != LIB_TASK_POSTED)
			return BACK;
		if (event.kind != LIB_EVENT_IDLE)
			continue;
		if (event.deadline > limit)
			return OVER;
		if (heeds && interrupted())
			return ENDED;
		jump(k, event.deadline);
	}
}

/* Who has learnt of a task's end gives its slot back. */
void task_seen(struct lib_task *task)
{
	if (task->state == LIB_TASK_EXITED)
		task->state = LIB_TASK_FREE;
}

/* A call, or the wait for one that was posted, from its beginning or after HK_AGAIN. */
uint32_t run_call(struct kernel *k, struct hk_command *c)
{
	struct lib_task *task = &k->table[c->slot];
	bool timed = c->timeout && c->timeout < HORIZON;
	bool resumed = c->op == HK_RESUME;
	uint64_t limit = resumed ? c->args[0] : clock_now(k) + (timed ? c->timeout : HORIZON);
	bool waits = c->op == HK_WAIT || (resumed && c->args[1]);
	enum passed passed = c->op == HK_POST ? BACK : run_task(k, task, limit, true);
	uint32_t status = HK_OK;

	if (passed == PAUSE) {
		c->extra = limit;
		return HK_AGAIN;
	}
	if (passed != BACK) {
		status = timed || passed == ENDED ? HK_TIMEOUT : HK_DEADLOCK;
		if (timed && passed == OVER)
			jump(k, limit);
		/* Who only waits for another's call leaves it alone. */
		if (waits)
			return status;
		k->cancel(c->slot);
		if (run_task(k, task, clock_now(k) + 1000000000, false) != BACK)
			return HK_STUCK;
		/* It may have ended by itself at the last moment. */
		if (!task->cancelled)
			status = HK_OK;
	}
	run_idle(k);
	c->extra = task->state;
	c->ret = task->state == LIB_TASK_EXITED ? task->exit_code : task->ret;
	if (c->op != HK_POST)
		task_seen(task);
	return status;
}

bool run_until(struct kernel *k, uint64_t until)
{
	if (until && engine_has(k)) {
		run_idle(k);
		do
			if (engine_pauses())
				return false;
		while (!interrupted() && engine_step(until));
		return true;
	}
	for (;;) {
		uint64_t deadline = run_idle(k);

		if (!until || deadline > until || interrupted())
			break;
		jump(k, deadline);
	}
	if (until && !interrupted())
		jump(k, until);
	return true;
}

/* As run_until(), but time stops at the last timer before `until`. */
bool settle(struct kernel *k, uint64_t until)
{
	if (engine_has(k))
		return run_until(k, until);
	for (;;) {
		uint64_t deadline = run_idle(k);

		if (deadline > until || interrupted())
			return true;
		jump(k, deadline);
	}
}
