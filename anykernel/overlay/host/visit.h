/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Visits: the host lets a kernel run, and until it is back all memory but that kernel's
 * own is read-only.
 *
 * Protection keys do that, where the CPU has them: what isn't a kernel's has key 0, which
 * a kernel that runs can't write; each kernel's data, RAM and user window have one of the
 * other keys.  An operation that the kernel calls writes the host's memory between
 * host_begin() and host_end().  Where there are no keys, kernels can write everything, and
 * sums of the saved pages tell (snapshot.c).
 */
#ifndef HOST_VISIT_H
#define HOST_VISIT_H

#include <signal.h>

#include "host.h"

/* What every kernel may write: its way in, and what the most frequent operations leave
 * there.  The host believes nothing of it. */
#define DESK_AT 0x1d0000000UL
#define DESK_ROOM 0x40000UL
struct desk {
	struct lib_event event;
	uint64_t taken;		/* bytes of kernel.rx that the kernel has pulled */
	uint64_t arrived;	/* bytes of kernel.rx that it may pull */
	uint64_t used;		/* bytes of `frames` */
	uint8_t frames[DESK_ROOM];	/* struct passed, data, padding to 8 bytes */
};
#define DESK ((struct desk *)DESK_AT)
#define DESK_DAMAGED "a write over the frames that the kernel has sent or taken"

/* Stacks that a kernel writes to: of the code that enters it, and of signal handlers. */
#define DOOR_AT 0x1d1000000UL
#define DOOR_SIZE 0x40000UL
#define SIGNALS_AT 0x1d2000000UL
#define SIGNALS_SIZE 0x40000UL

extern bool keys_on __attribute__((visibility("hidden")));

/* Before any kernel is mapped.  False: the CPU or the machine's kernel has no keys. */
void keys_prepare(bool wanted);
/* Gives the kernel's memory its key, and the kernel the right to it. */
void keys_assign(struct kernel *k);

static inline void keys_write(uint32_t rights)
{
	__asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}

/* The host's own rights: all.  In operations, on a kernel's stack; signal handlers begin so. */
static inline void host_begin(void)
{
	if (keys_on)
		keys_write(0);
}

/* Back into `k`. */
static inline void host_end(const struct kernel *k)
{
	if (keys_on)
		keys_write(k->rights);
}

/* ops.c: takes what operations have left on the desk.  False: something else has written
 * there, and what followed is lost. */
bool desk_clear(struct kernel *k);
/* The end of the frame that lies at `at` of kernel.rx, or 0 where there is none. */
uint64_t frame_end(const struct kernel *k, uint64_t at);
/* At the door: the kernel is idle after a frame that came alone. */
void desk_answered(struct kernel *k);

/* What is done on a visit, in this order. */
struct visit {
	struct kernel *k;
	bool interrupt;		/* netdev `dev` */
	bool alone;		/* one by one: each frame when the kernel is idle after the one
				 * before */
	uint32_t dev;
	bool post, cancel;	/* the call of `task` */
	uint32_t task;
	enum {
		STAY_NOT,
		STAY_EVENT,	/* run until idle at the present time, or until a task is back */
		STAY_CALL,	/* until `task` is back, and then until idle; or until idle */
		STAY_IDLE	/* until idle at the present time */
	} stay;
};

/* The way back, where the kernel can't change it. */
extern uint64_t door_sp __attribute__((visibility("hidden")));
extern uint64_t door_bp __attribute__((visibility("hidden")));
uint64_t at_the_door(uint64_t visit, uint64_t unused);

/* function(a, b) on the door's stack, with the kernel's rights.  In place, not a function: each
 * level of calls around a switch of stacks is a return that the CPU predicts wrongly. */
static inline uint64_t door(uint64_t (*function)(uint64_t, uint64_t), uint64_t a, uint64_t b,
			    uint32_t rights)
{
	register uint64_t top __asm__("r10") = DOOR_AT + DOOR_SIZE;
	register uint64_t (*to)(uint64_t, uint64_t) __asm__("r11") = function;
	uint64_t result = rights;

	__asm__ volatile(
		"	mov %%rsp, door_sp(%%rip)\n"
		"	mov %%rbp, door_bp(%%rip)\n"
		"	mov %[top], %%rsp\n"
		"	xor %%ebp, %%ebp\n"
		"	cmpb $0, keys_on(%%rip)\n"
		"	jz 1f\n"
		"	xor %%ecx, %%ecx\n"
		"	xor %%edx, %%edx\n"
		"	wrpkru\n"
		"1:	call *%[to]\n"
		"	mov %%rax, %%rsi\n"
		"	cmpb $0, keys_on(%%rip)\n"
		"	jz 2f\n"
		"	xor %%eax, %%eax\n"
		"	xor %%ecx, %%ecx\n"
		"	xor %%edx, %%edx\n"
		"	wrpkru\n"
		"2:	mov door_sp(%%rip), %%rsp\n"
		"	mov door_bp(%%rip), %%rbp\n"
		"	mov %%rsi, %%rax\n"
		: "+a"(result), "+D"(a), "+S"(b), [to] "+r"(to), [top] "+r"(top)
		:
		: "rbx", "rcx", "rdx", "r8", "r9", "r12", "r13", "r14", "r15", "cc",
		  "memory");
	return result;
}

/* 0, or what post or cancel refused with. */
static inline int64_t visit(const struct visit *v)
{
	struct kernel *before = running;
	int64_t err;

	running = v->k;
	err = door(at_the_door, (uint64_t)v, 0, v->k->rights);
	if (DESK->used && !desk_clear(v->k))
		crash(v->k, HK_FAULT, DESK_DAMAGED);
	running = before;
	return err;
}

/* What lib_next_wakeup() says of `k`, which is idle. */
uint64_t visit_next_wakeup(struct kernel *k, bool fresh);
/* Boots: what lib_init returns. */
int64_t visit_init(struct kernel *k, const struct lib_host_ops *ops, const struct lib_boot *boot);

/* The entry of signal handlers: on_signal() (fault.c), with the host's rights. */
void signal_door(int signo, siginfo_t *info, void *context);
void on_signal(int signo, siginfo_t *info, void *context);

#endif
