// SPDX-License-Identifier: GPL-2.0
/* Ways into a kernel, its rights to memory while it runs, and ways back. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "visit.h"

#define MAX_KEYS 15	/* beside key 0 */
#define NO_WRITE 2U	/* of each key's two bits in PKRU */

bool keys_on;
static int desk_key;
static int first_key, key_count;	/* the kernels' */

/* glibc's registration of restartable sequences, where it has them: the machine's kernel
 * writes there whenever it has moved us to another CPU, and a write that PKRU forbids kills. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));
#define RSEQ_SIGNATURE 0x53053053
#define RSEQ_UNREGISTER 1

static bool without_rseq(void)
{
	if (!&__rseq_offset || !&__rseq_size || !__rseq_size)
		return true;
	for (uint32_t size = 32; size <= 1024; size += 32)
		if (!syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, size,
			     RSEQ_UNREGISTER, RSEQ_SIGNATURE))
			return true;
	return false;
}

static void map_fixed(uint64_t at, size_t size)
{
	void *p = mmap((void *)at, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p != (void *)at)
		die("mmap of what a kernel enters by");
	if (keys_on && pkey_mprotect(p, size, PROT_READ | PROT_WRITE, desk_key))
		die("pkey_mprotect");
}

void keys_prepare(bool wanted)
{
	int keys[MAX_KEYS], count = 0;

	/* They are given in order; were they not, the others stay unused. */
	while (wanted && count < MAX_KEYS && (keys[count] = pkey_alloc(0, 0)) > 0 &&
	       (!count || keys[count] == keys[count - 1] + 1))
		count++;
	keys_on = count >= 2 && without_rseq();
	if (keys_on) {
		desk_key = keys[0];
		first_key = keys[1];
		key_count = count - 1;
	}
	errno = 0;
	map_fixed(DESK_AT, (sizeof(struct desk) + PAGE - 1) & ~(PAGE - 1));
	map_fixed(DOOR_AT, DOOR_SIZE);
	map_fixed(SIGNALS_AT, SIGNALS_SIZE);
}

static void assign(uint8_t *low, uint8_t *high, int key)
{
	if (pkey_mprotect(low, high - low, PROT_READ | PROT_WRITE, key))
		die("pkey_mprotect of a kernel's memory");
}

/* Neighbours have different keys; of more kernels than keys, some share one. */
void keys_assign(struct kernel *k)
{
	int key = first_key + k->index % key_count;

	if (!keys_on)
		return;
	assign(k->low, k->high, key);
	assign(k->user, k->user + HK_USER_SIZE, key);
	k->rights = 0xaaaaaaaa & ~(NO_WRITE << 2 * desk_key) & ~(NO_WRITE << 2 * key);
}

/* The machine's kernel begins a handler with the right to key 0 alone, but the stack has the
 * desk's. */
__asm__(
	".text\n"
	".globl signal_door; .hidden signal_door; .type signal_door, @function\n"
	"signal_door:\n"
	"	cmpb $0, keys_on(%rip)\n"
	"	jz on_signal\n"
	"	mov %rdx, %r8\n"
	"	xor %eax, %eax; xor %ecx, %ecx; xor %edx, %edx; wrpkru\n"
	"	mov %r8, %rdx\n"
	"	jmp on_signal\n"
	".size signal_door, . - signal_door\n");

/* The way back, where the kernel can't change it. */
uint64_t door_sp, door_bp;

/* The functions that follow run at the door: they read all, and write to its stack and to the
 * desk alone. */

/* Kernel code runs, until it has something to say that can be. */
static inline void run_kernel(struct kernel *k, struct lib_event *event)
{
	k->run(event);
	processor_check(k);
	if ((event->kind != LIB_EVENT_IDLE && event->kind != LIB_EVENT_USER) ||
	    (event->kind == LIB_EVENT_USER && event->task >= LIB_MAX_TASKS))
		crash(k, HK_FAULT, "the kernel came back with an event that can't be");
}

static bool is_back(const struct visit *v)
{
	return v->k->table[v->task].state != LIB_TASK_POSTED;
}

static inline void stay(const struct visit *v)
{
	struct kernel *k = v->k;
	struct lib_event *event = &DESK->event;

	if (v->stay == STAY_CALL)
		do
			run_kernel(k, event);
		while (!is_back(v) && event->kind != LIB_EVENT_IDLE);
	if (v->stay == STAY_CALL && !is_back(v))
		return;
	do
		run_kernel(k, event);
	while (!(v->stay == STAY_EVENT && event->kind == LIB_EVENT_USER) &&
	       (event->kind != LIB_EVENT_IDLE || event->deadline <= clock_read(k)));
}

static inline void stay_alone(const struct visit *v)
{
	uint64_t at = 0, end;

	while ((end = frame_end(v->k, at))) {
		DESK->taken = at;
		DESK->arrived = at = end;
		v->k->netdev_irq(v->dev);
		stay(v);
		desk_answered(v->k);
	}
}

uint64_t at_the_door(uint64_t about, uint64_t unused)
{
	const struct visit *v = (const struct visit *)about;
	int err = 0;

	(void)unused;
	if (v->alone) {
		stay_alone(v);
		return 0;
	}
	if (v->interrupt)
		v->k->netdev_irq(v->dev);
	if (v->cancel)
		err = v->k->cancel(v->task);
	if (v->post)
		err = v->k->post(v->task);
	if (!err && v->stay)
		stay(v);
	return (int64_t)err;
}

static uint64_t init_at_the_door(uint64_t ops, uint64_t boot)
{
	return (int64_t)running->init((const struct lib_host_ops *)ops,
				      (const struct lib_boot *)boot);
}

static uint64_t wakeup_at_the_door(uint64_t fresh, uint64_t unused)
{
	(void)unused;
	return running->next_wakeup(fresh);
}

uint64_t visit_next_wakeup(struct kernel *k, bool fresh)
{
	struct kernel *before = running;
	uint64_t next;

	running = k;
	next = door(wakeup_at_the_door, fresh, 0, k->rights);
	running = before;
	return next;
}

int64_t visit_init(struct kernel *k, const struct lib_host_ops *ops, const struct lib_boot *boot)
{
	running = k;
	return door(init_at_the_door, (uint64_t)ops, (uint64_t)boot, k->rights);
}
