// SPDX-License-Identifier: GPL-2.0
/* Signals: page protection at work, bad user pointers, and crashes. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "host.h"

#define ALT_STACK (256 * 1024)
#define WRITE_FAULT 2	/* page fault error code, bit 1 */

jmp_buf crash_exit;

static void copy_stack(struct kernel *k, uint64_t sp)
{
	struct hk_kernel *s = k->shared;
	uint64_t low = k->lib->stack_low, high = k->lib->stack_high;
	uint64_t n;

	s->stack_low = low;
	s->stack_high = high;
	s->stack_bytes = 0;
	if (sp < (uint64_t)k->low || sp >= (uint64_t)k->high)
		sp = low;
	/* After an overflow sp lies below the stack; what is there counts, too. */
	s->stack_from = sp & ~7UL;
	n = (sp < low ? (uint64_t)k->high : high) - s->stack_from;
	if (n > HK_STACK_COPY)
		n = HK_STACK_COPY;
	memcpy((uint8_t *)s + HK_REPORT_SIZE - HK_STACK_COPY, (void *)s->stack_from, n);
	s->stack_bytes = n;
}

static void report(struct kernel *k, enum hk_crash kind, const char *what)
{
	struct hk_kernel *s = k->shared;

	s->crash = kind;
	s->pid = k->lib->pid;
	memcpy(s->comm, k->lib->comm, sizeof(s->comm));
	snprintf(s->what, sizeof(s->what), "%s", what);
}

void crash(struct kernel *k, enum hk_crash kind, const char *what)
{
	struct hk_kernel *s = k->shared;

	report(k, kind, what);
	s->signal = 0;
	s->fault_address = 0;
	memset(s->regs, 0, sizeof(s->regs));
	s->bp = (uint64_t)__builtin_frame_address(0);
	s->sp = s->bp;
	s->ip = (uint64_t)__builtin_return_address(0);
	copy_stack(k, s->sp);
	_longjmp(crash_exit, 1);
}

static void crash_at(struct kernel *k, enum hk_crash kind, const char *what, int signo,
		     uint64_t address, const greg_t *g)
{
	static const int order[16] = { REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
				       REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13,
				       REG_R14, REG_R15, REG_EFL, REG_ERR };
	struct hk_kernel *s = k->shared;

	report(k, kind, what);
	s->signal = signo;
	s->fault_address = address;
	for (int i = 0; i < 16; i++)
		s->regs[i] = g[order[i]];
	s->ip = g[REG_RIP];
	s->sp = g[REG_RSP];
	s->bp = g[REG_RBP];
	copy_stack(k, s->sp);
	_longjmp(crash_exit, 1);
}

static struct kernel *owner(uint8_t *address)
{
	if (running && address >= running->low && address < running->high)
		return running;
	for (uint32_t i = 0; i < options.kernels; i++)
		if (address >= kernels[i].low && address < kernels[i].high)
			return &kernels[i];
	return NULL;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	uint8_t *address = info->si_addr;
	struct kernel *k = running;
	bool memory = signo == SIGSEGV || signo == SIGBUS;
	struct kernel *of = memory && (g[REG_ERR] & WRITE_FAULT) ? owner(address) : NULL;
	uint64_t sp = g[REG_RSP], next;

	/* A write into another kernel's memory is wild, not a page to unprotect. */
	if (of && (of == k || !k) && snapshot_fault(of, address))
		return;
	if (signo == SIGALRM && (!k || !k->lib->in_kernel || saving))
		return;	/* too late, or in the middle of a page fault: another follows */
	if (!k) {
		/* The host's own bug; raise() is beyond the sandbox. */
		end_host(5);
	}
	if (memory) {
		next = k->fixup(g[REG_RIP]);
		if (next) {
			g[REG_RIP] = next;
			return;
		}
		if (sp < k->lib->stack_low + PAGE || sp > k->lib->stack_high ||
		    (uint64_t)address - k->lib->stack_low < PAGE)
			crash_at(k, HK_OVERFLOW, "kernel stack overflow", signo,
				 (uint64_t)address, g);
		crash_at(k, HK_FAULT, "bad memory access", signo, (uint64_t)address, g);
	}
	if (signo == SIGALRM)
		crash_at(k, HK_LOCKUP, "the kernel ran longer than its budget", signo, 0, g);
	if (signo == SIGSYS)
		crash_at(k, HK_SANDBOX, "system call forbidden by the sandbox", signo,
			 (uint64_t)info->si_syscall, g);
	crash_at(k, HK_ILLEGAL, signo == SIGFPE ? "division error" : "illegal instruction",
		 signo, (uint64_t)address, g);
}

void faults_install(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM, SIGSYS, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_fault,
				.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t stack = { .ss_size = ALT_STACK };

	stack.ss_sp = mmap(NULL, ALT_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL))
		die("signal stack");
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &sa, NULL);
}
