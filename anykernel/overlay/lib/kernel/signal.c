// SPDX-License-Identifier: GPL-2.0
/*
 * Signals.  A handler is host code: the host is told, and the kernel goes on as
 * if the handler had run and returned (no frame is built, the mask is restored
 * at once).
 */
#include <linux/errno.h>
#include <linux/resume_user_mode.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/syscalls.h>
#include <asm/unistd.h>
#include "lib.h"

/* Decides what becomes of an interrupted call; true: it is to be restarted. */
static bool restart_call(struct pt_regs *regs, bool handler, bool sa_restart, bool cancelled)
{
	long ret = regs->ax;

	if ((long)regs->orig_ax < 0)
		return false;
	switch (ret) {
	case -ERESTART_RESTARTBLOCK:
		if (!handler && !cancelled) {
			regs->orig_ax = __NR_restart_syscall;
			return true;
		}
		break;
	case -ERESTARTNOHAND:
		if (!handler && !cancelled)
			return true;
		break;
	case -ERESTARTSYS:
		if ((!handler || sa_restart) && !cancelled)
			return true;
		break;
	case -ERESTARTNOINTR:
		if (!cancelled)
			return true;
		break;
	default:
		return false;
	}
	regs->ax = -EINTR;
	return false;
}

static bool do_signal(struct pt_regs *regs, struct lib_task *task)
{
	bool cancelled = lib_task_cancelled(task);
	struct ksignal ksig;
	bool restart;

	if (!get_signal(&ksig)) {
		restart = restart_call(regs, false, false, cancelled);
		restore_saved_sigmask();
		return restart;
	}
	restart = restart_call(regs, true, ksig.ka.sa.sa_flags & SA_RESTART, cancelled);
	lib_host.signal(lib_host.host, current->thread.slot, ksig.sig,
			(unsigned long)ksig.ka.sa.sa_handler, &ksig.info);
	restore_saved_sigmask();
	return restart;
}

bool lib_exit_work(struct pt_regs *regs, struct lib_task *task)
{
	for (;;) {
		unsigned long flags = READ_ONCE(current_thread_info()->flags);

		if (flags & (_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL)) {
			if (do_signal(regs, task))
				return true;
		} else if (flags & _TIF_NOTIFY_RESUME) {
			resume_user_mode_work(regs);
		} else if (flags & _TIF_NEED_RESCHED) {
			schedule();
		} else {
			return false;
		}
	}
}

/* No frame was built, so there is none to return from. */
SYSCALL_DEFINE0(rt_sigreturn)
{
	return -EINVAL;
}
