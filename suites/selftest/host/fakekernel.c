// SPDX-License-Identifier: GPL-2.0
/*
 * A library with the kernel's interface and no kernel in it: what the host does
 * about faults, snapshots and time is tested in milliseconds.  One task, on a
 * stack of its own in RAM, as kernel code has it.
 */
#include "liblinux.h"

#define STACK_SIZE 32768
#define ENOSYS 38
#define EFAULT 14
#define EINTR 4

/* Requests; a and b are args[0] and args[1]. */
enum {
	FAKE_READ = 1,		/* 8 bytes at a, through a user pointer */
	FAKE_POKE = 2,		/* the bug: b to address a, whatever that is */
	FAKE_PEEK = 3,
	FAKE_RAM = 4,		/* the address of RAM page a */
	FAKE_RECURSE = 5,
	FAKE_SPIN = 6,
	FAKE_MACHINE = 7,	/* system call a(b, args[2], args[3]) of the machine */
	FAKE_SLEEP = 8,		/* a ns */
	FAKE_BLOCK = 9,		/* for ever */
	FAKE_PANIC = 10,
	FAKE_ILLEGAL = 11,
	FAKE_DIVIDE = 12,
	FAKE_JUMP = 13,
	FAKE_HALT = 14,
	FAKE_STICKY = 15,	/* for ever, and can't be cancelled */
	FAKE_RANDOM = 16,
	FAKE_PRINT = 17,	/* a bytes */
	FAKE_GLOBAL = 18,	/* adds a to a counter in the image's data: its new value */
	FAKE_STRIPE = 19,	/* args[2] into RAM pages a, a + 2, ... below b */
};

static struct lib_host_ops ops;
static struct lib_boot boot;
static struct lib_task tasks[LIB_MAX_TASKS];
static struct lib_state state = { .version = LIB_ABI_VERSION, .size = sizeof(state) };
static uint64_t host_sp, fiber_sp, deadline, counter = 1;
static uint32_t frames_due, cancelled;

void fake_switch(uint64_t *save, uint64_t to);
extern const char fake_access[], fake_fixed[];
uint64_t fake_read_user(uint64_t address, int64_t *failed);

__asm__(
	".text\n"
	"fake_switch:\n"
	"	push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, (%rdi); mov %rsi, %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	"	ret\n"
	"fake_read_user:\n"
	"	movq $1, (%rsi)\n"
	".globl fake_access; .hidden fake_access\n"
	"fake_access:\n"
	"	mov (%rdi), %rax\n"
	"	movq $0, (%rsi)\n"
	".globl fake_fixed; .hidden fake_fixed\n"
	"fake_fixed:\n"
	"	ret\n");

static void to_host(void)
{
	state.in_kernel = 0;
	fake_switch(&fiber_sp, host_sp);
}

static int64_t recurse(volatile uint64_t depth)
{
	volatile char room[256];

	room[depth % 256] = 1;
	return depth ? depth + recurse(depth + 1) + room[0] : 0;
}

static int64_t machine(uint64_t nr, uint64_t a, uint64_t b, uint64_t c)
{
	int64_t ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

static int64_t sleep_until(uint64_t when, int can_cancel)
{
	for (deadline = when; ops.clock_read(ops.host) < when;) {
		if (cancelled && can_cancel) {
			deadline = LIB_NEVER;
			tasks[0].cancelled = 1;
			return -EINTR;
		}
		to_host();
	}
	deadline = LIB_NEVER;
	return 0;
}

static int64_t read_user(uint64_t address)
{
	int64_t failed;
	uint64_t value;

	if (address < (uint64_t)boot.user_low || address + 8 > (uint64_t)boot.user_high)
		return -EFAULT;
	value = fake_read_user(address, &failed);
	return failed ? -EFAULT : (int64_t)value;
}

static int64_t print(uint64_t n)
{
	for (uint64_t i = 0; i < n; i += 8)
		ops.console(ops.host, "printed\n", n - i < 8 ? n - i : 8);
	return n;
}

static int64_t stripe(uint64_t first, uint64_t end, uint64_t value)
{
	for (; first < end; first += 2)
		*(volatile uint64_t *)((uint8_t *)boot.memory + first * 4096 + 8) = value;
	return 0;
}

static __attribute__((noipa)) int64_t execute(uint64_t nr, const uint64_t *a)
{
	uint64_t now = ops.clock_read(ops.host), value;

	switch (nr) {
	case FAKE_READ: return read_user(a[0]);
	case FAKE_POKE: *(volatile uint64_t *)a[0] = a[1]; return 0;
	case FAKE_PEEK: return *(volatile uint64_t *)a[0];
	case FAKE_RAM: return (uint64_t)boot.memory + a[0] * 4096;
	case FAKE_RECURSE: return recurse(1);
	case FAKE_SPIN: for (;;) __asm__ volatile("pause");
	case FAKE_MACHINE: return machine(a[0], a[1], a[2], a[3]);
	case FAKE_SLEEP: return sleep_until(now + a[0], 1);
	case FAKE_BLOCK: return sleep_until(LIB_NEVER, 1);
	case FAKE_STICKY: return sleep_until(LIB_NEVER, 0);
	case FAKE_PANIC: ops.crash(ops.host, LIB_CRASH_PANIC, "fake panic"); return 0;
	case FAKE_HALT: ops.crash(ops.host, LIB_CRASH_HALT, "power off"); return 0;
	case FAKE_ILLEGAL: __builtin_trap();
	case FAKE_DIVIDE: return (int64_t)now / *(volatile int64_t *)&a[5];
	case FAKE_JUMP: ((void (*)(void))a[0])(); return 0;
	case FAKE_RANDOM: ops.entropy(ops.host, &value, sizeof(value)); return value >> 1;
	case FAKE_PRINT: return print(a[0]);
	case FAKE_GLOBAL: return counter += a[0];
	case FAKE_STRIPE: return stripe(a[0], a[1], a[2]);
	case LIB_SYS_NETDEV_ADD: return 7;
	case LIB_SYS_NETDEV_DEL: return 0;
	}
	return -ENOSYS;
}

/* A frame that begins with byte n comes back n times. */
static void echo(void)
{
	static uint8_t buffer[65536];
	int32_t n;

	while ((n = ops.netdev_next(ops.host, frames_due - 1)) >= 0) {
		ops.netdev_pull(ops.host, frames_due - 1, buffer, n);
		for (uint8_t i = 0; n && i < buffer[0]; i++)
			ops.netdev_xmit(ops.host, frames_due - 1, buffer, n);
	}
	frames_due = 0;
}

static void fiber(void)
{
	for (;;) {
		if (tasks[0].state == LIB_TASK_POSTED) {
			tasks[0].ret = execute(tasks[0].nr, tasks[0].args);
			tasks[0].state = LIB_TASK_USER;
		}
		if (frames_due)
			echo();
		to_host();
	}
}

int lib_init(const struct lib_host_ops *o, const struct lib_boot *b)
{
	uint64_t *sp = (uint64_t *)((uint8_t *)b->memory + STACK_SIZE + 4096);

	ops = *o;
	boot = *b;
	deadline = LIB_NEVER;
	state.stack_low = (uint64_t)b->memory + 4096;
	state.stack_high = (uint64_t)sp;
	state.pid = 1;
	__builtin_memcpy(state.comm, "fake", 5);
	ops.stack_guard(ops.host, (void *)state.stack_low);
	*--sp = 0;
	*--sp = (uint64_t)fiber;
	for (int i = 0; i < 6; i++)
		*--sp = 0;
	fiber_sp = (uint64_t)sp;
	tasks[0] = (struct lib_task){ .state = LIB_TASK_USER, .pid = 1, .tgid = 1 };
	ops.console(ops.host, "fake kernel\n", 12);
	return 0;
}

void lib_run(struct lib_event *event)
{
	uint32_t before = tasks[0].state;

	state.in_kernel = 1;
	fake_switch(&host_sp, fiber_sp);
	event->kind = before == LIB_TASK_POSTED && tasks[0].state == LIB_TASK_USER ?
		LIB_EVENT_USER : LIB_EVENT_IDLE;
	event->task = 0;
	event->deadline = deadline;
}

struct lib_task *lib_tasks(void)
{
	return tasks;
}

int lib_post(uint32_t task)
{
	if (task)
		return -3;
	if (tasks[0].state != LIB_TASK_USER)
		return -16;
	cancelled = tasks[0].cancelled = 0;
	tasks[0].state = LIB_TASK_POSTED;
	return 0;
}

uint64_t lib_next_wakeup(uint32_t fresh)
{
	(void)fresh;
	return LIB_NEVER;
}

int lib_cancel(uint32_t task)
{
	cancelled = 1;
	return task ? -3 : 0;
}

void lib_netdev_irq(uint32_t dev)
{
	frames_due = dev + 1;
}

uint64_t lib_fixup(uint64_t ip)
{
	return ip == (uint64_t)fake_access ? (uint64_t)fake_fixed : 0;
}

const struct lib_state *lib_get_state(void)
{
	return &state;
}

const char *lib_version(void)
{
	return "Linux version 0.0-fake";
}
