// SPDX-License-Identifier: GPL-2.0
/*
 * Crash reports, from whatever a kernel left: nothing in its memory is believed, and
 * what else it may have set, the processor's state, is put right first.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "visit.h"

#define MAX_STACK (2 * HK_STACK_COPY)
#define FLAG_TRAP 0x100UL
#define FLAG_DIRECTION 0x400UL
#define FLAG_ALIGNMENT 0x40000UL
#define MXCSR_MASKS 0x1f80U	/* no floating point exception is a signal */
#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE 2
#endif

jmp_buf crash_exit;
volatile bool overdue;

static uint64_t thread_base;	/* of thread-local storage: errno's, printf's */
static bool base_is_free;	/* for programs to change, without a call */
static volatile int reporting;

void processor_prepare(void)
{
	syscall(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &thread_base);
	base_is_free = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
}

/* In a handler, first of all: what C code and the C library rely on. */
void processor_restore(void)
{
	__builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() &
				       ~(FLAG_ALIGNMENT | FLAG_DIRECTION | FLAG_TRAP));
	if (base_is_free)
		__asm__ volatile("wrfsbase %0" : : "r"(thread_base));
}

static const char *processor_wrong(void)
{
	uint64_t flags = __builtin_ia32_readeflags_u64(), self;
	uint32_t mxcsr = __builtin_ia32_stmxcsr();

	/* What lies there begins with its own address, by the ABI; elsewhere lies something
	 * else, or nothing, which is a fault.  To ask for the base would take ten times as long. */
	__asm__ volatile("mov %%fs:0, %0" : "=r"(self));
	if (self != thread_base)
		return "the kernel left the FS base changed";
	if (flags & FLAG_DIRECTION)
		return "the kernel left the direction flag set";
	if (flags & FLAG_ALIGNMENT)
		return "the kernel left alignment checks on";
	if ((mxcsr & MXCSR_MASKS) != MXCSR_MASKS)
		return "the kernel left floating point exceptions on";
	return NULL;
}

/* What runs is the host again, called or returned to by `k`. */
void processor_check(struct kernel *k)
{
	const char *wrong = processor_wrong();

	if (__builtin_expect(wrong != NULL, 0)) {
		processor_restore();
		__builtin_ia32_ldmxcsr(MXCSR_MASKS);
		crash(k, HK_ILLEGAL, wrong);
	}
	if (__builtin_expect(overdue, 0))
		crash(k, HK_LOCKUP, "the kernel ran longer than its budget");
}

/* The bounds of the running stack, if they can be. */
bool stack_bounds(const struct kernel *k, uint64_t *low, uint64_t *high)
{
	*low = k->lib->stack_low;
	*high = k->lib->stack_high;
	return *low % PAGE == 0 && *low >= (uint64_t)k->low && *high <= (uint64_t)k->high &&
	       *low < *high && *high - *low <= MAX_STACK;
}

static void copy_stack(struct kernel *k, uint64_t sp)
{
	struct hk_kernel *s = k->shared;
	bool in_memory = sp >= (uint64_t)k->low && sp < (uint64_t)k->high;
	uint64_t low, high, n;

	s->stack_bytes = 0;
	if (!stack_bounds(k, &low, &high)) {
		if (!in_memory)
			return;
		low = sp & ~7UL;
		high = low + HK_STACK_COPY;
	}
	s->stack_low = low;
	s->stack_high = high;
	/* Of a wild pointer's stack all is there to be looked through. */
	if (!in_memory)
		sp = low;
	/* After an overflow sp lies below the stack; what is there counts, too. */
	s->stack_from = sp & ~7UL;
	n = sp < low || sp >= high ? HK_STACK_COPY : high - s->stack_from;
	if (n > HK_STACK_COPY)
		n = HK_STACK_COPY;
	if (n > (uint64_t)k->high - s->stack_from)
		n = (uint64_t)k->high - s->stack_from;
	memcpy((uint8_t *)s + HK_REPORT_SIZE - HK_STACK_COPY, (void *)s->stack_from, n);
	s->stack_bytes = n;
}

static void report(struct kernel *k, enum hk_crash kind, const char *what)
{
	struct hk_kernel *s = k->shared;

	s->crash = kind;
	s->stack_bytes = 0;
	snprintf(s->what, sizeof(s->what), "%s", what);
	if (k->lib) {
		s->pid = k->lib->pid;
		memcpy(s->comm, k->lib->comm, sizeof(s->comm));
	}
}

static _Noreturn void report_over(void)
{
	reporting = 0;
	overdue = false;
	_longjmp(crash_exit, 1);
}

void crash(struct kernel *k, enum hk_crash kind, const char *what)
{
	struct hk_kernel *s = k->shared;

	host_begin();	/* an operation, or the code at the door, has found it */
	report(k, kind, what);
	s->signal = 0;
	s->fault_address = 0;
	memset(s->regs, 0, sizeof(s->regs));
	s->bp = (uint64_t)__builtin_frame_address(0);
	s->sp = s->bp;
	s->ip = (uint64_t)__builtin_return_address(0);
	copy_stack(k, s->sp);
	report_over();
}

static void report_at(struct kernel *k, const struct crash_context *c)
{
	static const int order[16] = { REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI,
				       REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13,
				       REG_R14, REG_R15, REG_EFL, REG_ERR };
	struct hk_kernel *s = k->shared;

	report(k, c->kind, c->what);
	s->signal = c->signo;
	s->fault_address = c->address;
	for (int i = 0; i < 16; i++)
		s->regs[i] = c->registers[order[i]];
	s->ip = c->registers[REG_RIP];
	s->sp = c->registers[REG_RSP];
	s->bp = c->registers[REG_RBP];
	/* Its bounds are in memory that may be what is wrong. */
	if (k->lib && reporting < 2)
		copy_stack(k, s->sp);
}

void crash_at(struct kernel *k, const struct crash_context *c)
{
	if (++reporting > 2)
		end_host(5);
	report_at(k, c);
	report_over();
}

/* No kernel runs: the host's own bug, or what a kernel has done to it before.  `last`, if
 * there is one, ran last. */
void crash_of_host(struct kernel *last, const struct crash_context *c)
{
	static const char said[] = "anykernel-host: a fault in the host itself\n";

	if (!reporting++ && last)
		report_at(last, c);
	(void)!write(STDERR_FILENO, said, sizeof(said) - 1);
	end_host(5);
}
