// SPDX-License-Identifier: GPL-2.0
/* Stack traces by frame pointer, for printk, lockdep and the host's reports. */
#include <linux/kernel.h>
#include <linux/kallsyms.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/sched/debug.h>
#include <linux/sched/task_stack.h>
#include <linux/stacktrace.h>
#include <asm/sections.h>
#include "lib.h"

static bool on_stack(struct task_struct *task, unsigned long frame)
{
	unsigned long low = (unsigned long)task_stack_page(task);

	return frame >= low && frame <= low + THREAD_SIZE - 16 && !(frame & 7);
}

/* The order of lib_fiber_switch()'s pushes: rbp lies five words above sp. */
static unsigned long first_frame(struct task_struct *task)
{
	if (task == current)
		return (unsigned long)__builtin_frame_address(0);
	return ((unsigned long *)task->thread.sp)[5];
}

void noinline arch_stack_walk(stack_trace_consume_fn consume, void *cookie,
			      struct task_struct *task, struct pt_regs *regs)
{
	unsigned long frame;

	if (!task)
		task = current;
	for (frame = first_frame(task); on_stack(task, frame); ) {
		unsigned long *slot = (unsigned long *)frame;
		unsigned long next = slot[0], ip = slot[1];

		if (!__kernel_text_address(ip) || !consume(cookie, ip))
			return;
		if (next <= frame)
			return;
		frame = next;
	}
}

static bool print_entry(void *level, unsigned long ip)
{
	printk("%s [<%px>] %pS\n", (const char *)level, (void *)ip, (void *)ip);
	return true;
}

void show_stack(struct task_struct *task, unsigned long *sp, const char *loglvl)
{
	if (!task)
		lib_state.warnings++;
	printk("%sCall Trace:\n", loglvl);
	arch_stack_walk(print_entry, (void *)loglvl, task, NULL);
}
