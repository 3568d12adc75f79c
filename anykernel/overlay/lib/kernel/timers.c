// SPDX-License-Identifier: GPL-2.0
/*
 * When a timer is next due that may wake somebody.
 *
 * An idle kernel always has timers: those of its chores, which it had when it had
 * booted (collecting old neighbours and fragments, checking addresses' lifetimes) and
 * which set themselves again for ever.  A chore is known by its function, or by the
 * kernel thread that sleeps until it is due.  Other timers, too, may set themselves
 * again for ever and wake nobody: those of a bridge, a keepalive that is answered.
 * They are given up when they have been due more often than any protocol tries again.
 */
#include <linux/hrtimer.h>
#include <linux/init.h>
#include <linux/kallsyms.h>
#include <linux/percpu.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#ifdef LIB_HAS_HRTIMER_BASES
#include <linux/hrtimer_bases.h>
#endif
#include "lib.h"

/* LVL_SIZE, LVL_DEPTH and LVL_CLK_SHIFT of kernel/time/timer.c. */
#define LEVEL_LISTS	64
#define LEVELS		(HZ > 100 ? 9 : 8)
#define LEVEL_SHIFT	3

#define MAX_CHORES	128
#define MAX_COUNTED	64
/* tcp_retries2, TCP_KEEPCNT and their like are at most 255. */
#define MAX_CHANCES	300

/* kernel/time/tick-internal.h */
DECLARE_PER_CPU(struct hrtimer_cpu_base, hrtimer_bases);

static struct hlist_head *wheels[2];
static void *chores[MAX_CHORES];
static unsigned int chore_count;
static pid_t last_pid;		/* of the threads that boot has made */

/* Timers that were the next, and how often. */
static struct {
	const void *timer;
	unsigned int chances;
} counted[MAX_COUNTED];
static unsigned int counted_count;

struct due {
	const void *timer;
	void *function;		/* what it does */
	u64 ns;			/* on the host's clock */
};

/* Whose stack `address` lies on: a timer there is that of its sleep. */
static const struct task_struct *sleeper(const void *address)
{
	struct task_struct *process, *thread;

	/* Not the macros of RCU, which isn't watching: all are idle. */
	list_for_each_entry(process, &init_task.tasks, tasks)
		list_for_each_entry(thread, &process->signal->thread_head, thread_node) {
			const void *low = task_stack_page(thread);

			if (low && address >= low && address < low + THREAD_SIZE)
				return thread;
		}
	return NULL;
}

static bool is_chore(const struct due *due)
{
	const struct task_struct *task = sleeper(due->timer);

	if (task)
		return (task->flags & PF_KTHREAD) && task->pid <= last_pid;
	for (unsigned int i = 0; i < chore_count; i++)
		if (chores[i] == due->function)
			return true;
	return false;
}

static unsigned int *chances_of(const void *timer)
{
	unsigned int i = 0;

	while (i < counted_count && counted[i].timer != timer)
		i++;
	if (i == counted_count) {
		/* More than that many at once have one count together. */
		if (i == MAX_COUNTED)
			return &counted[i - 1].chances;
		counted[i].timer = timer;
		counted[i].chances = 0;
		counted_count++;
	}
	return &counted[i].chances;
}

/* A list of a level of the wheel fires when the last timer that can be in it is due. */
static struct due of_timer(struct timer_list *timer, unsigned int level)
{
	long left = timer->expires - jiffies + (1UL << LEVEL_SHIFT * level);
	struct due due = { .timer = timer, .function = timer->function };

	if (timer->function == delayed_work_timer_fn)
		due.function = container_of(timer, struct delayed_work, timer)->work.func;
	due.ns = lib_clock_now() + (left > 0 ? (u64)left * TICK_NSEC : 0);
	return due;
}

static struct due of_hrtimer(struct hrtimer *timer)
{
	ktime_t left = ktime_sub(hrtimer_get_expires(timer), hrtimer_cb_get_time(timer));
	struct due due = { .timer = timer, .function = ACCESS_PRIVATE(timer, function) };

	due.ns = lib_clock_now() + (left > 0 ? left : 0);
	return due;
}

/* All timers that are pending, but for deferrable ones: those alone wake nobody. */
static void each(void (*take)(const struct due *due, struct due *to), struct due *to)
{
	struct hrtimer_cpu_base *bases = this_cpu_ptr(&hrtimer_bases);
	struct due due;

	for (int wheel = 0; wheel < (wheels[0] == wheels[1] ? 1 : 2); wheel++)
		for (int i = 0; i < LEVEL_LISTS * LEVELS; i++) {
			struct timer_list *timer;

			hlist_for_each_entry(timer, &wheels[wheel][i], entry) {
				due = of_timer(timer, i / LEVEL_LISTS);
				take(&due, to);
			}
		}
	BUILD_BUG_ON(offsetof(struct hrtimer, node));
	for (int i = 0; i < HRTIMER_MAX_CLOCK_BASES; i++) {
		struct rb_node *node = rb_first(&bases->clock_base[i].active.rb_root.rb_root);

		for (; node; node = rb_next(node)) {
			due = of_hrtimer((struct hrtimer *)node);
			take(&due, to);
		}
	}
}

static void learn(const struct due *due, struct due *unused)
{
	if (!sleeper(due->timer) && !is_chore(due) && chore_count < MAX_CHORES)
		chores[chore_count++] = due->function;
}

/* Begun later than at boot, for a device, and never given up: routers are solicited for
 * ever (RFC 7559). */
static const char *const endless[] = { "addrconf_rs_timer" };

void lib_timers_booted(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(endless); i++) {
		unsigned long function = kallsyms_lookup_name(endless[i]);

		if (function)
			chores[chore_count++] = (void *)function;
	}
	last_pid = idr_get_cursor(&init_pid_ns.idr) - 1;
	each(learn, NULL);
}

static void earliest(const struct due *due, struct due *first)
{
	if (due->ns < first->ns && !is_chore(due) && *chances_of(due->timer) < MAX_CHANCES)
		*first = *due;
}

uint64_t lib_next_wakeup(uint32_t fresh)
{
	struct due first = { .ns = LIB_NEVER };

	if (fresh)
		counted_count = 0;
	each(earliest, &first);
	if (first.timer)
		++*chances_of(first.timer);
	return first.ns;
}

static void nothing(struct timer_list *timer)
{
}

/* Where the wheel lies, which nothing tells: a timer that is put into it is the first
 * of its list, whose number it notes in its flags. */
static int __init find_wheels(void)
{
	static struct timer_list found[2];

	for (int i = 0; i < 2; i++) {
		timer_setup(&found[i], nothing, i ? TIMER_PINNED : 0);
		mod_timer(&found[i], jiffies + 1);
		wheels[i] = (struct hlist_head *)found[i].entry.pprev -
			    (found[i].flags >> TIMER_ARRAYSHIFT);
	}
	return 0;
}
late_initcall(find_wheels);
