/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_THREAD_INFO_H
#define _ASM_LIB_THREAD_INFO_H

#include <asm/page.h>

/* Interrupts and host callbacks run on the same stack, and its lowest page is a
 * guard (see stack_guard in liblinux.h): 28 KiB are for use. */
#define THREAD_SIZE_ORDER	3
#define THREAD_SIZE		(PAGE_SIZE << THREAD_SIZE_ORDER)

#ifndef __ASSEMBLY__
struct thread_info {
	unsigned long flags;
	int preempt_count;
	u32 cpu;
};

#define INIT_THREAD_INFO(tsk)	{ .preempt_count = INIT_PREEMPT_COUNT }
#endif

#define TIF_NEED_RESCHED	0
#define TIF_NOTIFY_RESUME	1
#define TIF_SIGPENDING		2
#define TIF_NOTIFY_SIGNAL	3
#define TIF_RESTORE_SIGMASK	4
#define TIF_MEMDIE		5
#define TIF_SYSCALL_TRACE	6
#define TIF_SYSCALL_AUDIT	7
#define TIF_SECCOMP		8
#define TIF_SYSCALL_TRACEPOINT	9

#define _TIF_NEED_RESCHED	(1 << TIF_NEED_RESCHED)
#define _TIF_NOTIFY_RESUME	(1 << TIF_NOTIFY_RESUME)
#define _TIF_SIGPENDING		(1 << TIF_SIGPENDING)
#define _TIF_NOTIFY_SIGNAL	(1 << TIF_NOTIFY_SIGNAL)
#define _TIF_SYSCALL_TRACE	(1 << TIF_SYSCALL_TRACE)

#endif
