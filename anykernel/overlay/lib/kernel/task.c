// SPDX-License-Identifier: GPL-2.0
/*
 * Host-owned tasks.  Their user mode is the host: a request in the table is
 * executed like a system call, and the way back goes through the same work
 * (signals, rescheduling) as on any architecture.
 */
#include <linux/export.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/debug.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/signal.h>
#include <linux/syscalls.h>
#include <asm/syscall.h>
#include <asm/unistd.h>
#include "lib.h"

static struct lib_task tasks[LIB_MAX_TASKS];
static struct task_struct *owners[LIB_MAX_TASKS];
static bool cancels[LIB_MAX_TASKS];
static bool parked[LIB_MAX_TASKS];	/* waits in wait_for_request() */
static u32 last_slot;

struct lib_task *lib_tasks(void)
{
	return tasks;
}

/* Gives `task`, which is being created, a slot. */
int lib_task_new(struct task_struct *task)
{
	u32 i;

	for (i = 0; i < LIB_MAX_TASKS; i++) {
		if (tasks[i].state != LIB_TASK_FREE)
			continue;
		memset(&tasks[i], 0, sizeof(tasks[i]));
		/* Not USER before it has run for the first time. */
		tasks[i].state = LIB_TASK_POSTED;
		owners[i] = task;
		cancels[i] = parked[i] = false;
		task->thread.slot = i;
		last_slot = i;
		return 0;
	}
	return -EAGAIN;
}

void exit_thread(struct task_struct *task)
{
	u32 slot = task->thread.slot;

	if (slot == LIB_NO_SLOT)
		return;
	task->thread.slot = LIB_NO_SLOT;
	owners[slot] = NULL;
	/* A clone that failed half-way has not been seen by anybody. */
	if (task != current) {
		tasks[slot].state = LIB_TASK_FREE;
		return;
	}
	tasks[slot].exit_code = task->exit_code;
	tasks[slot].state = LIB_TASK_EXITED;
}

int lib_post(uint32_t slot)
{
	if (slot >= LIB_MAX_TASKS || !owners[slot])
		return -ESRCH;
	if (tasks[slot].state != LIB_TASK_USER)
		return -EBUSY;
	tasks[slot].cancelled = 0;
	cancels[slot] = false;
	tasks[slot].state = LIB_TASK_POSTED;
	/* The task that the host left last goes on by itself. */
	if (owners[slot] != lib_current)
		lib_irq_pending |= LIB_IRQ_TASK;
	return 0;
}

int lib_cancel(uint32_t slot)
{
	if (slot >= LIB_MAX_TASKS || !owners[slot])
		return -ESRCH;
	if (tasks[slot].state == LIB_TASK_POSTED) {
		cancels[slot] = true;
		lib_irq_pending |= LIB_IRQ_TASK;
	}
	return 0;
}

/* Wakes the tasks that wait for a request and have one, or whose request is to
 * end.  One that sleeps within its request is left alone. */
void lib_task_interrupt(void)
{
	u32 i;

	for (i = 0; i < LIB_MAX_TASKS; i++) {
		if (!owners[i] || tasks[i].state != LIB_TASK_POSTED)
			continue;
		if (parked[i])
			wake_up_process(owners[i]);
		else if (cancels[i])
			set_notify_signal(owners[i]);
	}
}

static long spawn(unsigned long flags)
{
	struct kernel_clone_args args = {
		.flags		= (flags & ~CSIGNAL) | CLONE_VM,
		.exit_signal	= flags & CLONE_THREAD ? 0 : SIGCHLD,
	};
	pid_t pid = kernel_clone(&args);

	return pid < 0 ? (long)pid : (long)last_slot;
}

static long execute(u64 nr, const u64 *a)
{
	if (nr < NR_syscalls && sys_call_table[nr])
		return sys_call_table[nr](a[0], a[1], a[2], a[3], a[4], a[5]);
	switch (nr) {
	case LIB_SYS_SPAWN:
		return spawn(a[0]);
	case LIB_SYS_NETDEV_ADD:
		return lib_netdev_add((const void __user *)a[0]);
	case LIB_SYS_NETDEV_DEL:
		return lib_netdev_del(a[0]);
	case LIB_SYS_NETDEV_CARRIER:
		return lib_netdev_carrier(a[0], a[1]);
	case LIB_SYS_SHOW_TASKS:
		show_state();
		return 0;
	case LIB_SYS_CALL:
		return lib_call(a[0], (u64 __user *)a[1]);
	}
	return -ENOSYS;
}

/* As far as somebody counts. */
static int locks_held(void)
{
#ifdef CONFIG_LOCKDEP
	return current->lockdep_depth;
#else
	return 0;
#endif
}

/*
 * A call is to leave behind what it found: interrupts on, and nothing counted in
 * preempt_count() (softirqs off; spinlocks, where the configuration counts them);
 * a system call no lock beyond the `held` ones, while a function that a test calls by
 * itself may well take a mutex for the next one.  Said once, and put right.
 */
static void check_left(u64 nr, u64 function, int held)
{
	bool call = nr == LIB_SYS_CALL;
	int count = preempt_count();
	bool irqs = irqs_disabled();
	bool locks = !call && locks_held() > held;
	void *name;

	if (likely(!irqs && !count && !locks))
		return;
	name = call ? (void *)function : nr < NR_syscalls ? (void *)sys_call_table[nr] : NULL;
	lib_state.warnings++;
	add_taint(TAINT_WARN, LOCKDEP_STILL_OK);
	pr_warn("WARNING: %s %ps left behind:%s%s%s%s%s (preempt_count %#x)\n",
		call ? "the function" : "the system call", name,
		irqs ? " interrupts off," : "",
		count & SOFTIRQ_MASK ? " softirqs off," : "",
		count & PREEMPT_MASK ? " preemption off or a spinlock held," : "",
		count & ~(SOFTIRQ_MASK | PREEMPT_MASK) ? " an interrupt's context," : "",
		locks ? " a lock held," : "", count);
	if (locks)
		lockdep_sys_exit();
	preempt_count_set(0);
	local_irq_enable();
}

/* Whether the call that is over with `ret` ended because the host wanted it to.  What
 * it had done before, such as half a write, counts as done.  A function's result is
 * not known to be one. */
static bool was_cancelled(u32 slot, u64 nr, unsigned long ret)
{
	return cancels[slot] && (nr == LIB_SYS_CALL || IS_ERR_VALUE(ret));
}

/* Sleeps until the host has a request, while others run. */
static void wait_for_request(struct lib_task *task)
{
	parked[task - tasks] = true;
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (task->state == LIB_TASK_POSTED || signal_pending(current))
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	parked[task - tasks] = false;
}

/* The end of each host-owned task's fiber, entered as "return to user mode". */
void lib_user_loop(void)
{
	struct pt_regs *regs = current_pt_regs();
	struct lib_task *task;
	int held = 0;
	u32 slot;

	if (current->thread.slot == LIB_NO_SLOT && lib_task_new(current))
		do_exit(SIGKILL);
	slot = current->thread.slot;
	task = &tasks[slot];
	task->pid = task_pid_nr(current);
	task->tgid = task_tgid_nr(current);
	if (!slot)
		lib_timers_booted();
	regs->cs = 1;		/* user mode, for whoever asks */
	regs->orig_ax = -1;

	for (;;) {
		bool restart;

		do {
			restart = lib_exit_work(regs, task);
			if (!restart && was_cancelled(slot, task->nr, regs->ax))
				task->cancelled = 1;
			if (restart) {
				regs->ax = execute(regs->orig_ax, task->args);
				check_left(task->nr, task->args[0], held);
			}
		} while (restart);

		if (task->state == LIB_TASK_POSTED) {
			task->ret = regs->ax;
			task->state = LIB_TASK_USER;
			lib_to_host(LIB_EVENT_USER, slot);
			if (lib_irq_pending)
				lib_irq_run();
		}
		if (task->state != LIB_TASK_POSTED) {
			wait_for_request(task);
			regs->orig_ax = -1;
			/* Woken for a signal: deal with it, then wait on. */
			if (task->state != LIB_TASK_POSTED)
				continue;
		}
		regs->orig_ax = task->nr;
		held = locks_held();
		lib_cost(1);
		regs->ax = execute(task->nr, task->args);
		check_left(task->nr, task->args[0], held);
	}
}

/* The host's cancellation looks like a signal that has no handler. */
bool lib_task_cancelled(const struct lib_task *task)
{
	return cancels[task - tasks];
}
