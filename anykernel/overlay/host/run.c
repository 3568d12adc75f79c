// SPDX-License-Identifier: GPL-2.0
/* Letting a kernel run: to the end of a call, to idleness, through time. */
#include <time.h>

#include "host.h"

/* A call that nothing wakes within a day of virtual time never ends: an idle
 * kernel always has some housekeeping timer, so "no deadline" alone is rare. */
#define HORIZON (24UL * 3600 * 1000000000)

static void jump(struct kernel *k, uint64_t to)
{
	if (!options.real_clock) {
		if (to > k->state.now)
			k->state.now = to;
		return;
	}
	while (clock_now(k) < to) {
		uint64_t ns = to - k->state.now;
		struct timespec ts = { ns / 1000000000, ns % 1000000000 };

		nanosleep(&ts, NULL);
	}
}

/* Runs until all tasks sleep and no timer is due; returns the next deadline. */
static uint64_t run_idle(struct kernel *k)
{
	struct lib_event event;

	do
		k->run(&event);
	while (event.kind != LIB_EVENT_IDLE || event.deadline <= clock_now(k));
	k->shared->deadline = event.deadline;
	return event.deadline;
}

/* Runs until `task` is back or time would pass `limit`; false: the latter. */
static bool run_task(struct kernel *k, struct lib_task *task, uint64_t limit)
{
	struct lib_event event;

	for (;;) {
		k->run(&event);
		if (task->state != LIB_TASK_POSTED)
			return true;
		if (event.kind != LIB_EVENT_IDLE)
			continue;
		if (event.deadline > limit)
			return false;
		jump(k, event.deadline);
	}
}

/* Who has learnt of a task's end gives its slot back. */
void task_seen(struct lib_task *task)
{
	if (task->state == LIB_TASK_EXITED)
		task->state = LIB_TASK_FREE;
}

uint32_t run_call(struct kernel *k, struct hk_command *c)
{
	struct lib_task *task = &k->table[c->slot];
	uint64_t now = clock_now(k);
	bool timed = c->timeout && c->timeout < HORIZON;
	uint32_t status = HK_OK;

	if (c->op != HK_POST && !run_task(k, task, now + (timed ? c->timeout : HORIZON))) {
		status = timed ? HK_TIMEOUT : HK_DEADLOCK;
		if (timed)
			jump(k, now + c->timeout);
		/* Who only waits for another's call leaves it alone. */
		if (c->op == HK_WAIT)
			return status;
		k->cancel(c->slot);
		if (!run_task(k, task, clock_now(k) + 1000000000))
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

void run_until(struct kernel *k, uint64_t until)
{
	for (;;) {
		uint64_t deadline = run_idle(k);

		if (!until || deadline > until)
			break;
		jump(k, deadline);
	}
	if (until)
		jump(k, until);
}

uint64_t settle(struct kernel *k, uint64_t within)
{
	uint64_t end = clock_now(k) + within;

	for (;;) {
		uint64_t deadline = run_idle(k);

		if (deadline > end)
			return k->state.now;
		jump(k, deadline);
	}
}
