// SPDX-License-Identifier: GPL-2.0
/*
 * The system calls that are left when the sandbox has closed: a table of what each
 * argument has to be, made into a seccomp filter.
 */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "visit.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* Arguments beyond those that a call has: the kernels' wild ones lack them.  How the
 * host ends; and, another one each time, how it makes code writable and back. */
#define EXIT_KEY 0x616e796b65726e65UL
static uint64_t code_key;

/* Where the pages lie that a call is about: from its first argument on, as many bytes
 * as the second says. */
enum place { ANYWHERE, CODE, DATA, WINDOW };

/* `argument & mask` has to be `value`. */
struct check {
	int argument;
	uint64_t value, mask;
};

#define ALL ~0UL
#define INT 0xffffffffUL	/* what the machine reads of an int */
#define MAX_CHECKS 5

/* A way to call: one that passes one row is allowed. */
struct row {
	int nr;
	bool when;
	enum place place;
	struct check checks[MAX_CHECKS];	/* a mask of 0 ends them */
};

#define HEADER(field) (HK_BASE + offsetof(struct hk_header, field))
#define KERNEL_MAP (MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_NORESERVE)

#define MAX_FILTER 1024
static struct sock_filter filter[MAX_FILTER];
static uint32_t length;
static uint32_t failing[64], failing_count;	/* jumps to the row's end */

static void emit(uint16_t code, uint32_t k)
{
	if (length == MAX_FILTER)
		die("the sandbox's filter is too long");
	filter[length++] = (struct sock_filter){ code, 0, 0, k };
}

static void load(uint32_t offset)
{
	emit(BPF_LD | BPF_W | BPF_ABS, offset);
}

static uint32_t low_half(int argument)
{
	return offsetof(struct seccomp_data, args) + argument * 8;
}

/* The accumulator has to compare so with k, or the row's end follows. */
static void need(uint16_t comparison, uint32_t k)
{
	failing[failing_count++] = length;
	emit(BPF_JMP | comparison | BPF_K, k);
}

/* It must not compare so. */
static void refuse(uint16_t comparison, uint32_t k)
{
	emit(BPF_JMP | comparison | BPF_K, k);
	filter[length - 1].jf = 1;
	failing[failing_count++] = length;
	emit(BPF_JMP | BPF_JA, 0);
}

static void need_half(uint32_t offset, uint32_t value, uint32_t mask)
{
	if (!mask)
		return;
	load(offset);
	if (mask != ~0U)
		emit(BPF_ALU | BPF_AND | BPF_K, mask);
	need(BPF_JEQ, value);
}

/* The code that makes the call ends at `ip`. */
static void need_from(uint64_t ip)
{
	uint32_t offset = offsetof(struct seccomp_data, instruction_pointer);

	need_half(offset, ip, ~0U);
	need_half(offset + 4, ip >> 32, ~0U);
}

/* The number of the page in `argument`, of which there may be 2^32. */
static void load_page(int argument)
{
	load(low_half(argument) + 4);
	refuse(BPF_JGE, 1U << 12);
	emit(BPF_ALU | BPF_LSH | BPF_K, 20);
	emit(BPF_MISC | BPF_TAX, 0);
	load(low_half(argument));
	refuse(BPF_JSET, PAGE - 1);
	emit(BPF_ALU | BPF_RSH | BPF_K, 12);
	emit(BPF_ALU | BPF_OR | BPF_X, 0);
}

/* The pages lie in one kernel, all in its code, all in its data and RAM, or all in its user
 * memory behind.  All kernels are laid out alike, at equal distances. */
static void need_place(enum place place, const struct layout *at)
{
	uint32_t base = at->first / PAGE, stride = at->stride / PAGE;
	uint32_t first = (place == CODE ? 0 : place == DATA ? at->low : at->high) / PAGE;
	uint32_t end = (place == CODE ? at->low : place == DATA ? at->high :
			at->high + HK_USER_SIZE) / PAGE;

	load_page(0);
	need(BPF_JGE, base);
	emit(BPF_ALU | BPF_SUB | BPF_K, base);
	refuse(BPF_JGE, options.kernels * stride);
	emit(BPF_ST, 0);
	emit(BPF_ALU | BPF_DIV | BPF_K, stride);
	emit(BPF_ALU | BPF_MUL | BPF_K, stride);
	emit(BPF_MISC | BPF_TAX, 0);
	emit(BPF_LD | BPF_MEM, 0);
	emit(BPF_ALU | BPF_SUB | BPF_X, 0);
	need(BPF_JGE, first);
	refuse(BPF_JGE, end);
	emit(BPF_ST, 0);
	load_page(1);
	refuse(BPF_JGT, end - first);
	emit(BPF_MISC | BPF_TAX, 0);
	emit(BPF_LD | BPF_MEM, 0);
	emit(BPF_ALU | BPF_ADD | BPF_X, 0);
	refuse(BPF_JGT, end);
}

static void add_row(const struct row *row, const struct layout *layout)
{
	failing_count = 0;
	load(offsetof(struct seccomp_data, nr));
	need(BPF_JEQ, row->nr);
	for (int i = 0; i < MAX_CHECKS && row->checks[i].mask; i++) {
		const struct check *c = &row->checks[i];
		uint64_t value = c->value & c->mask;

		need_half(low_half(c->argument), value, c->mask);
		need_half(low_half(c->argument) + 4, value >> 32, c->mask >> 32);
	}
	if (row->nr == SYS_rt_sigreturn)
		need_from((uint64_t)after_sigaction_end);
	if (row->place != ANYWHERE)
		need_place(row->place, layout);
	emit(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	for (uint32_t i = 0; i < failing_count; i++) {
		struct sock_filter *jump = &filter[failing[i]];
		uint32_t distance = length - failing[i] - 1;

		if (distance > 255)
			die("a row of the sandbox's filter is too long");
		if (jump->code == (BPF_JMP | BPF_JA))
			jump->k = distance;
		else
			jump->jf = distance;
	}
}

static void build(const struct layout *at, int image_fd)
{
	bool lazy = options.lazy, file = image_fd >= 0, real = options.clock == HK_REAL;
	const struct row rows[] = {
		/* Waiting for the client, and waking it. */
		{ SYS_futex, true, ANYWHERE,
		  { { 0, HEADER(doorbell), ALL }, { 1, FUTEX_WAIT, INT }, { 3, 0, ALL } } },
		{ SYS_futex, true, ANYWHERE,
		  { { 0, HEADER(full), ALL }, { 1, FUTEX_WAIT, INT }, { 3, 0, ALL } } },
		{ SYS_futex, true, ANYWHERE,
		  { { 0, HEADER(done), ALL }, { 1, FUTEX_WAKE, INT } } },
		{ SYS_futex, true, ANYWHERE,
		  { { 0, HEADER(ready), ALL }, { 1, FUTEX_WAKE, INT } } },
		/* Snapshots: data becomes read-only and writable, never code. */
		{ SYS_mprotect, true, DATA, { { 2, PROT_READ, ~(uint64_t)PROT_WRITE } } },
		/* Code that the client writes becomes data and code again. */
		{ SYS_mprotect, true, CODE,
		  { { 2, PROT_READ | PROT_WRITE, ALL }, { 3, code_key, ALL } } },
		{ SYS_mprotect, true, CODE,
		  { { 2, PROT_READ | PROT_EXEC, ALL }, { 3, code_key, ALL } } },
		/* The end of a signal's handler. */
		{ SYS_rt_sigreturn, true, ANYWHERE, {} },
		/* Where the machine's clock can't be read without a call. */
		{ SYS_clock_gettime, true, ANYWHERE, { { 0, CLOCK_MONOTONIC, INT } } },
		{ SYS_getppid, options.thread, ANYWHERE, {} },
		{ SYS_write, true, ANYWHERE, { { 0, STDERR_FILENO, INT } } },
		{ SYS_exit_group, true, ANYWHERE, { { 1, EXIT_KEY, ALL } } },
		/* Code that only booting runs need not stay; what booting writes to comes at once. */
		{ SYS_madvise, true, CODE, { { 2, MADV_DONTNEED, INT } } },
		{ SYS_madvise, file, DATA, { { 2, MADV_POPULATE_WRITE, INT } } },
		{ SYS_pread64, file, ANYWHERE, { { 0, image_fd, INT } } },
		/* Time passes by itself. */
		{ SYS_clock_nanosleep, real, ANYWHERE, {} },
		{ SYS_nanosleep, real, ANYWHERE, {} },
		{ SYS_restart_syscall, real, ANYWHERE, {} },
		/* Kernels that boot later: the image's code, its data, RAM, user
		 * memory, room for snapshots. */
		{ SYS_mmap, lazy, CODE,
		  { { 2, PROT_READ | PROT_EXEC, ALL }, { 3, KERNEL_MAP, ALL },
		    { 4, image_fd, INT }, { 5, at->code_offset, ALL } } },
		{ SYS_mmap, lazy, DATA,
		  { { 2, PROT_READ | PROT_WRITE, ALL }, { 3, KERNEL_MAP, ALL },
		    { 4, image_fd, INT } } },
		{ SYS_mmap, lazy, DATA,
		  { { 2, PROT_READ | PROT_WRITE, ALL }, { 3, KERNEL_MAP | MAP_ANONYMOUS, ALL } } },
		{ SYS_mmap, lazy, WINDOW,
		  { { 2, PROT_READ | PROT_WRITE, ALL },
		    { 3, MAP_SHARED | MAP_FIXED_NOREPLACE, ALL }, { 4, options.shm_fd, INT } } },
		{ SYS_mmap, lazy, ANYWHERE,
		  { { 0, 0, ALL }, { 2, PROT_READ | PROT_WRITE, ALL },
		    { 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ALL } } },
		/* And their memory gets a protection key (visit.c). */
		{ SYS_pkey_mprotect, lazy && keys_on, DATA,
		  { { 2, PROT_READ | PROT_WRITE, ALL }, { 3, 0, ~15UL } } },
		{ SYS_pkey_mprotect, lazy && keys_on, WINDOW,
		  { { 2, PROT_READ | PROT_WRITE, ALL }, { 3, 0, ~15UL } } },
		/* An engine's heap. */
		{ SYS_brk, engine_heap, ANYWHERE, {} },
	};

	load(offsetof(struct seccomp_data, arch));
	emit(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64);
	filter[length - 1].jt = 1;
	emit(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (rows[i].when)
			add_row(&rows[i], at);
	emit(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
}

void calls_filter(const struct layout *layout, int image_fd)
{
	struct sock_fprog program = { 0, filter };

	if (getrandom(&code_key, sizeof(code_key), 0) != sizeof(code_key))
		die("getrandom");
	build(layout, image_fd);
	program.len = length;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
	memset(filter, 0, sizeof(filter));	/* the key is not for kernels that look for it */
}

/* Of pages of a kernel's code.  0, or -1 and errno. */
int protect_code(void *at, size_t size, int protection)
{
	return syscall(SYS_mprotect, at, size, protection, code_key);
}

/* As _exit(), which the sandbox takes for a kernel's. */
void end_host(int code)
{
	for (;;)
		syscall(SYS_exit_group, code, EXIT_KEY);
}
