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
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"

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
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* A field of the call's data: of arguments, the low half. */
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

#define WRITE_EXEC (PROT_WRITE | PROT_EXEC)

void sandbox_close(int image_fd)
{
	/* Kernels that boot later have to be mapped: the image itself, or memory
	 * that isn't code. */
	uint32_t never = ~0U;
	uint32_t map = options.lazy ? SYS_mmap : never;
	uint32_t advise = options.lazy ? SYS_madvise : never;
	uint32_t load = options.lazy ? SYS_pread64 : never;
	uint32_t heap = engine_heap ? SYS_brk : never;
	struct sock_filter filter[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		ALLOW(SYS_futex),
		ALLOW(SYS_mprotect),
		ALLOW(SYS_rt_sigreturn),
		ALLOW(SYS_clock_gettime),
		ALLOW(SYS_clock_nanosleep),
		ALLOW(SYS_nanosleep),
		ALLOW(SYS_restart_syscall),
		ALLOW(SYS_exit_group),
		ALLOW(advise),
		ALLOW(load),
		ALLOW(heap),
		/* What the host says when it gives up. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 4),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, STDERR_FILENO, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, map, 0, 8),
		LOAD(args[4]),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)image_fd, 0, 3),
		LOAD(args[2]),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, WRITE_EXEC),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, WRITE_EXEC, 3, 2),
		LOAD(args[2]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
}
