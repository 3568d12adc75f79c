// SPDX-License-Identifier: GPL-2.0
/*
 * Before any kernel runs: no address randomisation, death with the parent, no
 * core files.  After start-up: the few system calls that the host still needs; a
 * kernel gone wild that tries another gets SIGSYS, which is a crash report.
 */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host.h"

void sandbox_early(char **argv)
{
	struct rlimit none = { 0, 0 };
	int persona = personality(0xffffffff);

	if (!(persona & ADDR_NO_RANDOMIZE)) {
		/* Some containers forbid it; what a kernel stores lies at fixed
		 * addresses all the same, but for the host's functions. */
		if (personality(persona | ADDR_NO_RANDOMIZE) != -1) {
			execv("/proc/self/exe", argv);
			die("re-exec without address randomisation");
		}
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The parent may have died before the line above. */
	if (options.parent && getppid() != options.parent)
		_exit(0);
	setrlimit(RLIMIT_CORE, &none);
}

#define ALLOW(nr) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##nr, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

void sandbox_close(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(futex),
		ALLOW(mprotect),
		ALLOW(rt_sigreturn),
		ALLOW(clock_gettime),
		ALLOW(clock_nanosleep),
		ALLOW(nanosleep),
		ALLOW(restart_syscall),
		ALLOW(exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
}
