// SPDX-License-Identifier: GPL-2.0
/*
 * What a unit has instead of a kernel: the library's interface (liblinux.h) over a
 * stack, an allocator that checks, and stubs that Python can answer.  No kernel
 * boots; the host can't tell.
 *
 * A call runs on the unit's stack.  A stub that Python answers suspends it: the
 * host gets the control back with UNIT_ASKS, and what it asks next either answers
 * (UNIT_ANSWER) or is another call, which runs further down on the same stack.
 */
#include <linux/errno.h>
#include <linux/gfp_types.h>
#include <linux/stddef.h>
#include <linux/types.h>
#include <liblinux.h>
#include "unit.h"

#define PAGE		4096UL
#define STACK		(64 * 1024UL)
#define NESTED		32
#define RED_ZONE	16UL	/* bytes before and behind each allocation */
#define RED		0xbb
#define FRESH		0x5a	/* as SLUB's poison: allocated, not written */
#define FREED		0x6b

struct block {
	u64 size;
	u64 number;	/* which allocation it was, from 1 */
	u64 state;
	struct block *next;
	u8 red[RED_ZONE];
};

enum { LIVE = 0x4c495645, DEAD = 0x44454144 };

static struct lib_host_ops host;
static struct lib_task task;
static struct lib_state state = { .version = LIB_ABI_VERSION, .size = sizeof(state) };
static u64 host_sp, suspended[NESTED], stack_end, answer[2];
static u32 depth;

static u8 *heap, *heap_start, *heap_end;
static struct block *blocks;	/* all that ever were, the last first */
static struct unit_control *control;
struct unit_failing unit_failing;

u64 jiffies_64 = 4294937296UL;	/* INITIAL_JIFFIES with HZ=100: they overflow soon */
static u64 fake_task[2048];
/* `current` for what only counts in it: preemption, flags. */
void *lib_current = fake_task;

void *unit_switch(u64 *save, u64 sp, u64 pass);
void unit_start(void);

asm(	".pushsection .text\n"
	".globl unit_switch, unit_start\n"
	".hidden unit_switch, unit_start\n"
	"unit_switch:\n"
	"	push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, (%rdi); mov %rsi, %rsp; mov %rdx, %rax\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
	"	ret\n"
	"unit_start:\n"
	"	xor %ebp, %ebp\n"
	"	call unit_run\n"
	"	ud2\n"
	".popsection\n");

static void to_host(u64 *save)
{
	unit_switch(save, host_sp, 0);
}

typedef unsigned __int128 (*unit_function)(u64, u64, u64, u64, u64, u64,
					   u64, u64, u64, u64, u64, u64);

/* The begin of each call's part of the stack. */
void unit_run(void);
void unit_run(void)
{
	u64 *a = (u64 *)task.args[1], sp;
	unsigned __int128 result;

	result = ((unit_function)task.args[0])(a[0], a[1], a[2], a[3], a[4], a[5],
					       a[6], a[7], a[8], a[9], a[10], a[11]);
	__builtin_memcpy(a + LIB_CALL_ARGS, &result, sizeof(result));
	task.ret = 0;
	task.state = LIB_TASK_USER;
	to_host(&sp);
}

static void begin(void)
{
	u64 *sp = (u64 *)((depth ? suspended[depth - 1] - 256 : stack_end) & ~15UL);

	*--sp = 0;
	*--sp = 0;
	*--sp = (u64)unit_start;
	for (int i = 0; i < 6; i++)
		*--sp = 0;
	unit_switch(&host_sp, (u64)sp, 0);
}

/* A stub was called.  True: `value` is what Python wants it to return. */
int unit_mock(u32 number, const char *name, u32 granted, u32 count, const u64 *args, u64 *value)
{
	struct unit_stub *stub = control && number < UNIT_STUBS ? &control->stubs[number] : NULL;
	struct unit_call *call;

	if (!stub) {
		if (!granted)
			host.stub(host.host, number, name, 0, count, args);
		return 0;
	}
	call = &control->calls[control->head++ % UNIT_CALLS];
	call->number = number;
	call->count = count;
	for (u32 i = 0; i < count && i < UNIT_ARGS; i++)
		call->args[i] = args[i];
	if (stub->mode == UNIT_RETURNS) {
		value[0] = stub->value[0];
		value[1] = stub->value[1];
		return 1;
	}
	if (stub->mode == UNIT_ASK) {
		if (depth == NESTED)
			host.crash(host.host, LIB_CRASH_PANIC, "side effects nest too deeply");
		control->asking = (u64)call;
		task.ret = UNIT_ASKS;
		task.state = LIB_TASK_USER;
		to_host(&suspended[depth++]);
		value[0] = answer[0];
		value[1] = answer[1];
		return 1;
	}
	if (!granted)
		host.stub(host.host, number, name, 0, count, args);
	return 0;
}

/* What has no mock, as nobody knows its type. */
void lib_stub_reached(u32 number, const char *name, u32 granted, u32 count, const u64 *args);
void lib_stub_reached(u32 number, const char *name, u32 granted, u32 count, const u64 *args)
{
	host.stub(host.host, number, name, granted, count, args);
}

/* Functions without a name that Python can be behind: for parameters that are
 * pointers to functions. */
#define CALLBACK(n) \
	static u64 callback_##n(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) \
	{ \
		u64 args[] = { a, b, c, d, e, f }, value[2] = { 0 }; \
		unit_mock(UNIT_STUBS - 1 - n, "callback", 0, 6, args, value); \
		return value[0]; \
	}
CALLBACK(0) CALLBACK(1) CALLBACK(2) CALLBACK(3) CALLBACK(4) CALLBACK(5) CALLBACK(6) CALLBACK(7)

u64 (*const unit_callbacks[UNIT_CALLBACKS])(u64, u64, u64, u64, u64, u64) = {
	callback_0, callback_1, callback_2, callback_3,
	callback_4, callback_5, callback_6, callback_7,
};

/* --- memory ------------------------------------------------------------------ */

static int fails(u32 gfp)
{
	if (!unit_failing.from || gfp & (__force u32)___GFP_NOFAIL)
		return 0;
	unit_failing.seen++;
	if (unit_failing.seen < unit_failing.from || unit_failing.seen > unit_failing.to)
		return 0;
	unit_failing.failed++;
	return 1;
}

static void bug(const char *what)
{
	host.crash(host.host, LIB_CRASH_PANIC, what);
}

static struct block *block_of(const void *p)
{
	return (struct block *)p - 1;
}

static int is(const u8 *p, u8 byte, u64 n)
{
	while (n--)
		if (*p++ != byte)
			return 0;
	return 1;
}

/* Memory is never used twice: what is freed stays poisoned, and the whole unit is
 * restored after each test. */
void *unit_alloc(u64 size, u32 gfp);
void *unit_alloc(u64 size, u32 gfp)
{
	/* As kmalloc() has it: powers of two are aligned to themselves. */
	u64 align = size && !(size & (size - 1)) && size > 16 ? (size < PAGE ? size : PAGE) : 16;
	u64 at = ((u64)heap + sizeof(struct block) + align - 1) & ~(align - 1);
	struct block *b = block_of((void *)at);
	static u64 number;

	if (fails(gfp) || size > (u64)(heap_end - heap) ||
	    at + size + RED_ZONE > (u64)heap_end)
		return NULL;
	heap = (u8 *)((at + size + RED_ZONE + 15) & ~15UL);
	b->size = size;
	b->number = ++number;
	b->state = LIVE;
	b->next = blocks;
	blocks = b;
	__builtin_memset(b->red, RED, RED_ZONE);
	__builtin_memset((void *)at, gfp & (__force u32)___GFP_ZERO ? 0 : FRESH, size);
	__builtin_memset((u8 *)at + size, RED, RED_ZONE);
	return (void *)at;
}

static const char *damage(const struct block *b)
{
	const u8 *p = (const u8 *)(b + 1);

	if (!is(b->red, RED, RED_ZONE))
		return "written before the begin of an allocation";
	if (!is(p + b->size, RED, RED_ZONE))
		return "written behind the end of an allocation";
	if (b->state == DEAD && !is(p, FREED, b->size))
		return "written after free";
	return NULL;
}

void unit_free(const void *p);
void unit_free(const void *p)
{
	struct block *b = block_of(p);

	if ((u64)p <= 16)	/* NULL and ZERO_SIZE_PTR */
		return;
	if ((u8 *)p < heap_start || (u8 *)p >= heap || (b->state != LIVE && b->state != DEAD))
		bug("free of what was not allocated");
	else if (b->state == DEAD)
		bug("double free");
	else if (damage(b))
		bug(damage(b));
	b->state = DEAD;
	__builtin_memset((void *)p, FREED, b->size);
}

void *unit_realloc(const void *p, u64 size, u32 gfp);
void *unit_realloc(const void *p, u64 size, u32 gfp)
{
	void *to = unit_alloc(size, gfp);

	if (to && (u64)p > 16) {
		__builtin_memcpy(to, p, block_of(p)->size < size ? block_of(p)->size : size);
		unit_free(p);
	}
	return to;
}

/* A cache is the size of its objects, marked so that no pointer looks like it. */
#define CACHE 0x7eaf000000000000UL

void *unit_cache(u64 size);
void *unit_cache(u64 size)
{
	return (void *)(CACHE | size);
}

void *unit_cache_alloc(const void *cache, u32 gfp);
void *unit_cache_alloc(const void *cache, u32 gfp)
{
	if (((u64)cache & 0xffff000000000000UL) != CACHE)
		bug("allocation from a kmem_cache that nobody created");
	return unit_alloc((u64)cache & ~CACHE, gfp);
}

u64 unit_size(const void *p);
u64 unit_size(const void *p)
{
	return (u64)p <= 16 ? 0 : block_of(p)->size;
}

/* The allocations that live, as [address, size, number]; how many there are. */
u64 unit_live(u64 *out, u64 room);
u64 unit_live(u64 *out, u64 room)
{
	u64 n = 0;

	for (struct block *b = blocks; b; b = b->next) {
		if (damage(b))
			bug(damage(b));
		if (b->state != LIVE)
			continue;
		if (n++ < room) {
			*out++ = (u64)(b + 1);
			*out++ = b->size;
			*out++ = b->number;
		}
	}
	return n;
}

void unit_print(const char *text);
void unit_print(const char *text)
{
	u64 n = 0;

	while (text[n])
		n++;
	host.console(host.host, text, n);
}

u64 unit_clock(void);
u64 unit_clock(void)
{
	return host.clock_read(host.host);
}

/* A policy's body reports what it was not made for. */
void unit_bug(const char *what);
void unit_bug(const char *what)
{
	bug(what);
}

/* --- the library's interface --------------------------------------------------- */

int lib_init(const struct lib_host_ops *ops, const struct lib_boot *boot)
{
	if (ops->version != LIB_ABI_VERSION || ops->size < sizeof(host))
		return -EPROTO;
	host = *ops;
	state.stack_low = (u64)boot->memory;
	stack_end = state.stack_high = state.stack_low + STACK;
	state.pid = 1;
	__builtin_memcpy(state.comm, "unit", 5);
	host.stack_guard(host.host, (void *)state.stack_low);
	heap = heap_start = (u8 *)stack_end + PAGE;
	heap_end = (u8 *)boot->memory + boot->memory_size;
	task = (struct lib_task){ .state = LIB_TASK_USER, .pid = 1, .tgid = 1 };
	return 0;
}

void lib_run(struct lib_event *event)
{
	u32 before = task.state;

	if (before == LIB_TASK_POSTED) {
		state.in_kernel = 1;
		switch (task.nr) {
		case LIB_SYS_CALL:
			begin();
			break;
		case UNIT_ANSWER:
			if (!depth) {
				task.ret = -EINVAL;
				task.state = LIB_TASK_USER;
				break;
			}
			answer[0] = task.args[0];
			answer[1] = task.args[1];
			unit_switch(&host_sp, suspended[--depth], 0);
			break;
		case UNIT_CONTROL:
			control = (struct unit_control *)task.args[0];
			task.ret = 0;
			task.state = LIB_TASK_USER;
			break;
		default:
			task.ret = -ENOSYS;
			task.state = LIB_TASK_USER;
		}
		state.in_kernel = 0;
	}
	event->kind = before == LIB_TASK_POSTED ? LIB_EVENT_USER : LIB_EVENT_IDLE;
	event->task = 0;
	event->deadline = LIB_NEVER;
}

struct lib_task *lib_tasks(void)
{
	return &task;
}

int lib_post(uint32_t slot)
{
	if (slot)
		return -ESRCH;
	if (task.state != LIB_TASK_USER)
		return -EBUSY;
	task.state = LIB_TASK_POSTED;
	return 0;
}

uint64_t lib_next_wakeup(uint32_t fresh)
{
	return LIB_NEVER;
}

int lib_cancel(uint32_t slot)
{
	return slot ? -ESRCH : 0;
}

void lib_netdev_irq(uint32_t dev)
{
}

uint64_t lib_fixup(uint64_t ip)
{
	return 0;
}

const struct lib_state *lib_get_state(void)
{
	return &state;
}

const char *lib_version(void)
{
	return "a unit, no kernel";
}
