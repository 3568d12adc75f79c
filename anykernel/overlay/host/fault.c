// SPDX-License-Identifier: GPL-2.0
/* Signals: page protection at work, bad user pointers, and crashes. */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine.h"
#include "visit.h"

#define WRITE_FAULT 2	/* page fault error code, bit 1 */
/* How far below its stack a kernel's pointer still counts as an overflow. */
#define BELOW (1UL << 20)

static struct kernel *owner(uint8_t *address)
{
	if (running && address >= running->low && address < running->high)
		return running;
	for (uint32_t i = 0; i < options.kernels; i++)
		if (address >= kernels[i].base && address < kernels[i].high)
			return &kernels[i];
	return NULL;
}

/* The kernel in whose user memory it lies, or NULL. */
static struct kernel *user_of(const uint8_t *address)
{
	for (uint32_t i = 0; i < options.kernels; i++) {
		const uint8_t *user = kernels[i].user;

		if (user && address >= user && address < user + HK_USER_SIZE)
			return &kernels[i];
	}
	return NULL;
}

/* Whose memory a refused write was for, in words. */
static const char *victim(struct kernel *k, const siginfo_t *info)
{
	uint8_t *address = info->si_addr;
	const char *unknown = info->si_code == SEGV_PKUERR ?
		"a write into the memory of the host program" : "bad memory access";
	static char text[128];
	struct kernel *of = owner(address), *saved;
	uint64_t part = address - (shm + HK_KERNELS_AT);

	if (of == k)
		return address < k->low || (address >= k->constant && address < k->constant_end) ?
		       "a write into its own code or read-only data" : unknown;
	if (of) {
		snprintf(text, sizeof(text), "a write into the memory of kernel %u", of->index);
		return text;
	}
	of = user_of(address);
	if (of) {
		snprintf(text, sizeof(text), "a write into the user memory of kernel %u", of->index);
		return text;
	}
	saved = snapshot_owner(address);
	if (saved) {
		snprintf(text, sizeof(text), "a write into the saved pages of kernel %u",
			 saved->index);
		return text;
	}
	if (engine_owns(address))
		return "a write into the network's state";
	if (address < shm || address >= shm + HK_KERNELS_AT +
			     (uint64_t)options.kernels * HK_KERNEL_SIZE)
		return unknown;
	if (address < shm + HK_KERNELS_AT)
		return "a write into the memory that the host shares with Python";
	snprintf(text, sizeof(text), part % HK_KERNEL_SIZE >= HK_USER_AT ?
		 "a write into the user memory of kernel %lu" :
		 "a write into the memory that kernel %lu's host shares with Python",
		 part / HK_KERNEL_SIZE);
	return text;
}

/* The kernel whose code runs; a wild write may have changed the pointer. */
static struct kernel *running_kernel(void)
{
	uint64_t offset = (uint64_t)running - (uint64_t)kernels;

	return running && offset / sizeof(*kernels) < options.kernels &&
	       offset % sizeof(*kernels) == 0 ? running : NULL;
}

static const char *of_memory(struct kernel *k, const siginfo_t *info, const greg_t *g,
			     enum hk_crash *kind)
{
	uint64_t address = (uint64_t)info->si_addr, sp = g[REG_RSP], low, high;

	if (info->si_code == SI_KERNEL) {
		*kind = HK_ILLEGAL;
		return "general protection fault: a privileged instruction, or an address that can't be";
	}
	if (info->si_signo == SIGBUS && info->si_code == BUS_ADRALN)
		return "unaligned access, with alignment checks on";
	if (!k->lib || !stack_bounds(k, &low, &high))
		return "bad memory access";
	if ((sp < low + PAGE && sp >= low - BELOW) ||
	    (address < low + PAGE && address >= low && sp < high && sp >= low - BELOW)) {
		*kind = HK_OVERFLOW;
		return "kernel stack overflow";
	}
	if (sp < low || sp > high)
		return in_host(sp) ? "bad memory access in the host" :
				     "bad memory access, and the stack pointer is wild";
	return g[REG_ERR] & WRITE_FAULT ? victim(k, info) : "bad memory access";
}

/* A frame of more than a page may leave out the guard page below the stack.  What it then writes
 * to is no stack: where no page of the next 32 KiB is a stack's lowest, and what faults is code of
 * the kernel.  (In a switch of stacks the pointer is another's than the kernel says, and the
 * idle task's is in the image.) */
static bool beyond_stack(struct kernel *k, const greg_t *g)
{
	uint64_t sp = g[REG_RSP], ip = g[REG_RIP], low, high;

	return k->lib && ip >= (uint64_t)k->base && ip < (uint64_t)k->low &&
	       stack_bounds(k, &low, &high) && sp < low && sp >= low - BELOW &&
	       sp >= (uint64_t)k->high - options.memory && !snapshot_in_stack(k, (uint8_t *)sp, high - low);
}

static const char *of_instruction(const siginfo_t *info)
{
	switch (info->si_signo) {
	case SIGFPE:
		return info->si_code == FPE_INTDIV ? "division error" :
						     "floating point exception";
	case SIGTRAP:
		return info->si_code == TRAP_TRACE ? "single step: the trap flag is set" :
						     "breakpoint instruction";
	}
	return "illegal instruction";
}

static const char *of_call(const siginfo_t *info, char *room, size_t size)
{
	snprintf(room, size, "system call %d%s forbidden by the sandbox", info->si_syscall,
		 info->si_arch == AUDIT_ARCH_X86_64 ? "" : " of the 32-bit table");
	return room;
}

/* Asks the kernel, whose tables may be what is wrong. */
static bool fix_up(struct kernel *k, struct crash_context *c, greg_t *g)
{
	static struct crash_context first;
	static volatile bool asking;
	uint64_t next;

	if (asking) {
		asking = false;
		crash_at(k, &first);
	}
	first = *c;
	asking = true;
	host_end(k);
	next = k->fixup(g[REG_RIP]);
	host_begin();
	asking = false;
	if (next)
		g[REG_RIP] = next;
	return next != 0;
}

void on_signal(int signo, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	uint8_t *address = info->si_addr, *ip = (uint8_t *)g[REG_RIP];
	struct crash_context c = { .kind = HK_ILLEGAL, .signo = signo, .registers = g,
				   .address = (uint64_t)address };
	struct kernel *k = running_kernel(), *of;
	bool memory = signo == SIGSEGV || signo == SIGBUS;
	char room[64];

	processor_restore();
	if (signo == SIGURG) {
		on_watch();
		return;
	}
	of = memory && (g[REG_ERR] & WRITE_FAULT) ? owner(address) : NULL;
	/* A write into another kernel's memory is wild, not a page to unprotect. */
	if (of && (of == k || !k) && !(k && beyond_stack(k, g)) && snapshot_fault(of, address))
		return;
	if (signo == SIGALRM) {
		/* In the host's code, called by the kernel or not, at the next border. */
		if (!k || ip < k->base || ip >= k->low) {
			overdue = k != NULL;
			return;
		}
		c.kind = HK_LOCKUP;
		c.what = "the kernel ran longer than its budget";
		c.address = 0;
	} else if (memory) {
		c.kind = HK_FAULT;
		c.what = k ? of_memory(k, info, g, &c.kind) : "bad memory access in the host";
		if (k && k->lib && fix_up(k, &c, g))
			return;
	} else if (signo == SIGSYS) {
		c.kind = HK_SANDBOX;
		c.address = info->si_syscall;
		c.what = of_call(info, room, sizeof(room));
	} else {
		c.what = of_instruction(info);
	}
	if (!k)
		crash_of_host(last_run, &c);
	crash_at(k, &c);
}

/* Where handlers return to: the one place from which they may (calls.c).  Debuggers know it by
 * its bytes, and ask for a name like this one. */
__asm__(
	".text\n"
	".globl after_sigaction; .hidden after_sigaction; .type after_sigaction, @function\n"
	"after_sigaction:\n"
	"	mov $15, %rax\n"
	"	syscall\n"
	".globl after_sigaction_end; .hidden after_sigaction_end\n"
	"after_sigaction_end:\n"
	".size after_sigaction, . - after_sigaction\n");

#define SA_RESTORER 0x04000000UL

/* As sigaction() without libc, which has its own way back. */
void signal_take(int signo, unsigned long flags)
{
	struct {
		void (*handler)(int, siginfo_t *, void *);
		unsigned long flags;
		const char *restorer;
		uint64_t mask;
	} action = { signal_door, flags | SA_SIGINFO | SA_ONSTACK | SA_RESTORER, after_sigaction, 0 };

	if (syscall(SYS_rt_sigaction, signo, &action, NULL, sizeof(action.mask)))
		die("rt_sigaction");
}

void faults_install(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM, SIGSYS, SIGTRAP };
	stack_t stack = { .ss_sp = (void *)SIGNALS_AT, .ss_size = SIGNALS_SIZE };

	if (sigaltstack(&stack, NULL))
		die("signal stack");
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		signal_take(signals[i], SA_NODEFER);
}
