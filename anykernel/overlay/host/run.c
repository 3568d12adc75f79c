// SPDX-License-Identifier: GPL-2.0
/* Letting a kernel run: to the end of a call, to idleness, through time. */
#include <string.h>
#include <time.h>

#include "engine.h"
#include "visit.h"

/* A call that nothing has woken within a day of virtual time ends when no timer is left that may
 * wake somebody: until then the kernel's own chores may. */
#define QUIET (24UL * 3600 * 1000000000)

/* After so many jumps the client hears how far time is: its budget bounds what a kernel does with
 * its time, not how much time passes.  But so much has to pass in them, or a kernel spins. */
#define SLICE 20000
#define SLICE_NS (3600UL * 1000000000)

struct slice {
	uint64_t begin;
	uint32_t jumps;
};

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

/* After a jump: whether the client is to hear of it. */
static bool slice_over(struct slice *s, const struct kernel *k)
{
	if (++s->jumps < SLICE)
		return false;
	if (k->state.now - s->begin >= SLICE_NS)
		return true;
	*s = (struct slice){ .begin = k->state.now };
	return false;
}

/* Visits, and stays until all tasks sleep and no timer is due.  0, or what was refused.  What the
 * kernel left on the desk is used with bounds. */
static int64_t stay_idle(struct visit *v)
{
	struct kernel *k = v->k;
	bool joined = engine_has(k);
	struct lib_event event;

	v->stay = joined ? STAY_EVENT : STAY_IDLE;
	for (;;) {
		int64_t err = visit(v);

		if (err && v->post)
			return err;
		v->post = v->cancel = v->interrupt = v->alone = false;
		event = DESK->event;
		if (event.kind == LIB_EVENT_IDLE && event.deadline > clock_now(k))
			break;
		if (joined && event.kind == LIB_EVENT_USER && event.task < LIB_MAX_TASKS)
			engine_back(k, event.task);
	}
	k->shared->deadline = event.deadline;
	if (joined)
		engine_deadline(k, event.deadline);
	return 0;
}

/* Returns the next deadline. */
uint64_t run_idle(struct kernel *k)
{
	struct visit v = { .k = k };

	stay_idle(&v);
	return k->shared->deadline;
}

void run_interrupt(struct kernel *k, uint32_t dev)
{
	struct visit v = { .k = k, .interrupt = true, .dev = dev };

	stay_idle(&v);
}

void run_frames(struct kernel *k, uint32_t dev)
{
	struct visit v = { .k = k, .alone = true, .dev = dev };

	stay_idle(&v);
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

/* At the engine's time. */
static int64_t engine_visit(struct visit *v)
{
	struct kernel *before = enter(v->k);
	int64_t err = stay_idle(v);

	show_warnings(v->k);
	leave(before);
	return err;
}

void kernel_run(struct kernel *k)
{
	struct visit v = { .k = k };

	engine_visit(&v);
}

void kernel_interrupt(struct kernel *k, uint32_t dev)
{
	struct visit v = { .k = k, .interrupt = true, .dev = dev };

	engine_visit(&v);
}

void kernel_post(struct kernel *k, uint32_t task)
{
	struct visit v = { .k = k, .post = true, .task = task };

	engine_visit(&v);
}

void kernel_request(struct kernel *k, uint32_t task)
{
	visit(&(struct visit){ .k = k, .post = true, .task = task });
}

int64_t kernel_cancel(struct kernel *k, uint32_t task)
{
	return visit(&(struct visit){ .k = k, .cancel = true, .task = task });
}

void kernel_receive(struct kernel *k, uint32_t dev, const uint8_t *frame)
{
	uint32_t length;

	memcpy(&length, frame, 4);
	k->rx = frame;
	k->rx_end = frame + 4 + length;
	k->rx_dev = dev;
	k->rx_gso = 0;
	DESK->taken = 0;
	DESK->arrived = 4 + length;
	kernel_interrupt(k, dev);
	k->rx = k->rx_end = NULL;
}

/* How letting time pass came out. */
enum passed {
	BACK,	/* what was waited for is there */
	OVER,	/* the limit is reached first */
	ENDED,	/* the client has interrupted it */
	PAUSE	/* the client is asked for something */
};

/* Runs until `v->task` is back or time would pass `limit`; outside a network, until idle then;
 * `heeds`: or the client interrupts.  *err: what was refused. */
static enum passed run_task(struct visit *v, uint64_t limit, bool heeds, int64_t *err)
{
	struct kernel *k = v->k;
	struct lib_task *task = &k->table[v->task];
	struct slice slice = { 0 };

	if (engine_has(k)) {
		*err = engine_visit(v);
		while (!*err && task->state == LIB_TASK_POSTED) {
			if (engine_pauses())
				return PAUSE;
			if (heeds && interrupted())
				return ENDED;
			if (!engine_step(limit))
				return OVER;
		}
		return BACK;
	}
	v->stay = STAY_CALL;
	slice.begin = k->state.now;
	for (;;) {
		uint64_t deadline;

		*err = visit(v);
		v->post = false;
		deadline = DESK->event.deadline;
		if (*err || task->state != LIB_TASK_POSTED) {
			k->shared->deadline = deadline;
			return BACK;
		}
		if (deadline > limit)
			return OVER;
		if (heeds && interrupted())
			return ENDED;
		jump(k, deadline);
		if (slice_over(&slice, k))
			return PAUSE;
	}
}

/* As run_task(), without a limit of the caller's, from *limit on as long as something may still
 * wake somebody; *limit: until when. */
static enum passed run_on(struct visit *v, uint64_t *limit, int64_t *err)
{
	struct kernel *k = v->k;

	for (;;) {
		enum passed passed = run_task(v, *limit, true, err);
		uint64_t next;

		if (*err || passed != OVER)
			return passed;
		next = engine_has(k) ? engine_wakeup(k->asks_anew) :
				       visit_next_wakeup(k, k->asks_anew);
		k->asks_anew = false;
		if (next == LIB_NEVER)
			return OVER;
		if (next > *limit)
			*limit = next;
	}
}

/* Who has learnt of a task's end gives its slot back. */
void task_seen(struct lib_task *task)
{
	if (task->state == LIB_TASK_EXITED)
		task->state = LIB_TASK_FREE;
}

/* A call, or the wait for one that was posted, from its beginning (fresh: it is to be posted) or
 * after HK_AGAIN. */
uint32_t run_call(struct kernel *k, struct hk_command *c, bool fresh)
{
	struct visit v = { .k = k, .post = fresh, .task = c->slot };
	struct lib_task *task = &k->table[c->slot];
	bool timed = c->timeout;
	bool resumed = c->op == HK_RESUME;
	uint64_t limit = resumed ? c->args[0] : clock_now(k) + (timed ? c->timeout : QUIET);
	bool waits = c->op == HK_WAIT || (resumed && c->args[1]);
	enum passed passed = BACK;
	uint32_t status = HK_OK;
	int64_t err;

	if (!resumed)
		k->asks_anew = true;
	if (c->op == HK_POST)
		err = stay_idle(&v);
	else if (timed)
		passed = run_task(&v, limit, true, &err);
	else
		passed = run_on(&v, &limit, &err);
	if (err) {
		c->ret = err;
		return HK_BAD;
	}
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
		kernel_cancel(k, c->slot);
		if (run_task(&v, clock_now(k) + 1000000000, false, &err) != BACK)
			return HK_STUCK;
		/* It may have ended by itself at the last moment. */
		if (!task->cancelled)
			status = HK_OK;
	}
	if (engine_has(k))
		run_idle(k);
	c->extra = task->state;
	c->ret = task->state == LIB_TASK_EXITED ? task->exit_code : task->ret;
	if (c->op != HK_POST)
		task_seen(task);
	return status;
}

bool run_until(struct kernel *k, uint64_t until)
{
	struct slice slice = { .begin = k->state.now };

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
		if (slice_over(&slice, k))
			return false;
	}
	if (until && !interrupted())
		jump(k, until);
	return true;
}

/* As run_until(), but time stops at the last timer before `until`. */
bool settle(struct kernel *k, uint64_t until)
{
	struct slice slice = { .begin = k->state.now };

	if (engine_has(k))
		return run_until(k, until);
	for (;;) {
		uint64_t deadline = run_idle(k);

		if (deadline > until || interrupted())
			return true;
		jump(k, deadline);
		if (slice_over(&slice, k))
			return false;
	}
}
