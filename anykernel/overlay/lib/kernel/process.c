// SPDX-License-Identifier: GPL-2.0
/*
 * Fibers: each task is a stack that the one host thread switches between.  The
 * host itself is one more such stack.
 */
#include <linux/export.h>
#include <linux/init_task.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/debug.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/start_kernel.h>
#include <linux/string.h>
#include <asm/switch_to.h>
#include "lib.h"

struct task_struct *lib_current = &init_task;
EXPORT_SYMBOL(lib_current);

static unsigned long host_sp;	/* the host's stack while a fiber runs */
static unsigned long fiber_sp;	/* the fiber that went to the host */
static struct lib_event event;

static void note_running(struct task_struct *task)
{
	lib_state.stack_low = (unsigned long)task_stack_page(task);
	lib_state.stack_high = lib_state.stack_low + THREAD_SIZE;
	lib_state.pid = task->pid;
	memcpy(lib_state.comm, task->comm, sizeof(lib_state.comm));
}

/*
 * Lays a first frame for lib_fiber_switch() below `stack_end`: six registers and
 * the return address.  The ABI wants rsp 16-byte aligned before the trampoline's
 * call, that is after these seven words have been popped.
 */
unsigned long lib_fiber_prepare(void *stack_end, void (*fn)(void *prev, void *arg), void *arg)
{
	unsigned long *sp = (unsigned long *)((unsigned long)stack_end & ~15UL);

	*--sp = 0;
	*--sp = 0;
	*--sp = (unsigned long)lib_fiber_start;
	*--sp = 0;				/* rbp: the end of stack traces */
	*--sp = (unsigned long)fn;		/* rbx */
	*--sp = (unsigned long)arg;		/* r12 */
	*--sp = 0;
	*--sp = 0;
	*--sp = 0;
	return (unsigned long)sp;
}

/* Fiber -> host: lib_init() or lib_run() returns there.  Comes back with the
 * next lib_run(). */
void lib_to_host(u32 kind, u32 task)
{
	event.kind = kind;
	event.task = task;
	event.deadline = lib_deadline;
	lib_state.in_kernel = 0;
	lib_fiber_switch(&fiber_sp, host_sp, NULL);
}

void lib_run(struct lib_event *out)
{
	if (lib_clock_now() >= lib_deadline)
		lib_irq_pending |= LIB_IRQ_TIMER;
	lib_state.in_kernel = 1;
	lib_fiber_switch(&host_sp, fiber_sp, NULL);
	*out = event;
}

static void boot(void *prev, void *arg)
{
	start_kernel();
}

int lib_boot_kernel(void)
{
	unsigned long sp = lib_fiber_prepare(init_task.stack + THREAD_SIZE, boot, NULL);

	note_running(&init_task);
	lib_state.in_kernel = 1;
	lib_fiber_switch(&host_sp, sp, NULL);
	return 0;
}

struct task_struct *__switch_to(struct task_struct *prev, struct task_struct *next)
{
	lib_current = next;
	note_running(next);
	return lib_fiber_switch(&prev->thread.sp, next->thread.sp, prev);
}

/* What copy_thread() leaves at the new stack's end, below its pt_regs. */
struct first_call {
	int (*fn)(void *);	/* NULL: the clone of a host-owned task */
	void *arg;
};

static void first_run(void *prev, void *arg)
{
	struct first_call *first = arg;

	schedule_tail(prev);
	/* A kernel thread's function returns when it has exec'ed. */
	if (first->fn)
		first->fn(first->arg);
	lib_user_loop();
}

int copy_thread(struct task_struct *p, const struct kernel_clone_args *args)
{
	struct pt_regs *regs = task_pt_regs(p);
	struct first_call *first = (struct first_call *)regs - 1;
	int err;

	p->thread.slot = LIB_NO_SLOT;
	if (args->fn) {
		memset(regs, 0, sizeof(*regs));
	} else {
		*regs = *current_pt_regs();
		regs->ax = 0;
		if (args->stack)
			regs->sp = args->stack;
		err = lib_task_new(p);
		if (err)
			return err;
	}
	first->fn = args->fn;
	first->arg = args->fn_arg;
	p->thread.sp = lib_fiber_prepare(first, first_run, first);
	lib_host.stack_guard(lib_host.host, task_stack_page(p));
	return 0;
}

void flush_thread(void)
{
}

/* The frame pointer chain of a task that doesn't run; stack.c walks it. */
unsigned long __get_wchan(struct task_struct *p)
{
	return 0;
}

void show_regs(struct pt_regs *regs)
{
	show_stack(NULL, NULL, KERN_DEFAULT);
}

void ptrace_disable(struct task_struct *child)
{
}

long arch_ptrace(struct task_struct *child, long request, unsigned long addr,
		 unsigned long data)
{
	return -EIO;
}
