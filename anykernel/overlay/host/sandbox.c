// SPDX-License-Identifier: GPL-2.0
/*
 * Before any kernel runs: no address randomisation, death with the parent, no
 * privileges, limits, and a table of the few system calls that the host still needs,
 * argument by argument (calls.c).  A kernel gone wild that tries another gets
 * SIGSYS, which is a crash report.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "visit.h"

/* What the host may say, bytes. */
#define STDERR_LIMIT (1UL << 20)
/* More than the address space of a kernel and of its snapshots, in its memory's size. */
#define TIMES_MEMORY 32
/* Address space that an engine's heap may grow by. */
#define HEAP_LIMIT (16UL << 30)
/* How often a host looks whether its parent lives, where no signal tells. */
#define WATCH_NS 250000000

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
	/* Where only ancestors may debug (Yama), the user's gdb may all the same. */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	/* It comes when the thread that made us ends. */
	if (!options.thread)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The parent may have died before the line above. */
	if (options.parent && getppid() != options.parent)
		_exit(0);
	setrlimit(RLIMIT_CORE, &none);
}

/* On the signal stack; touches nothing of a kernel's. */
void on_watch(void)
{
	if (getppid() != options.parent)
		end_host(0);
}

/* A thread of the parent made us, and may end long before the process does. */
static void watch_parent(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG };
	struct itimerspec often = { { 0, WATCH_NS }, { 0, WATCH_NS } };
	int timer;

	signal_take(SIGURG, SA_RESTART);
	if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) ||
	    syscall(SYS_timer_settime, timer, 0, &often, NULL))
		die("a timer that looks after the parent");
}

/* Where the host has none, what would need one fails: there is nothing to drop. */
static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		prctl(PR_CAPBSET_DROP, capability);
	prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
	      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
	      SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none))
		die("dropping capabilities");
}

static void limit(int resource, uint64_t most)
{
	struct rlimit both;

	if (getrlimit(resource, &both))
		die("getrlimit");
	if (both.rlim_max > most)
		both.rlim_max = most;
	both.rlim_cur = both.rlim_max;
	if (setrlimit(resource, &both))
		die("setrlimit");
}

/* What is mapped now, and what may follow. */
static void limit_memory(const struct layout *layout)
{
	uint64_t pages, most;
	FILE *sizes = fopen("/proc/self/statm", "re");

	if (!sizes)
		return;		/* a machine without /proc */
	if (fscanf(sizes, "%lu", &pages) != 1)
		die("/proc/self/statm");
	fclose(sizes);
	most = pages * PAGE;
	if (options.lazy)
		most += options.kernels * layout->high * TIMES_MEMORY;
	if (engine_heap)
		most += HEAP_LIMIT;
	limit(RLIMIT_AS, most);
}

void sandbox_close(const struct layout *layout, int image_fd)
{
	if (options.thread)
		watch_parent();
	drop_capabilities();
	limit_memory(layout);
	/* Who writes more gets an error, not a signal. */
	signal(SIGXFSZ, SIG_IGN);
	limit(RLIMIT_FSIZE, STDERR_LIMIT);
	limit(RLIMIT_NPROC, 0);
	limit(RLIMIT_NOFILE, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("no_new_privs");
	calls_filter(layout, image_fd);
}
