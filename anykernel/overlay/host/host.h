/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of anykernel-host share.  libc world: no <linux/...> here. */
#ifndef HOST_H
#define HOST_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "liblinux.h"
#include "protocol.h"

#define PAGE 4096UL
/* How deep snapshots nest: levels are numbered by 16 bits. */
#define MAX_DEPTH 65535
/* Where time begins, ns.  Not 0: TCP takes a timestamp of 0 for none. */
#define BOOTED_AT 1000000000UL

struct saved_page {
	uint32_t page;		/* index from kernel.base */
	uint32_t buffer : 31;	/* index into kernel.pool, or ZEROES (snapshot.c) */
	uint32_t guard : 1;	/* it was the lowest page of a stack */
	uint32_t previous;	/* the level below that saved it last, 0: none */
	uint64_t sum;		/* of the copy and of the above */
};

/* What of the host belongs to the kernel's state. */
struct host_state {
	uint64_t now;
	uint64_t rng;
	uint64_t signals;	/* caught so far */
};

struct level {
	uint32_t first;		/* its pages begin there in kernel.saved, and end where the
				 * next level's begin */
	struct host_state state;
	uint64_t sum;
};

struct kernel {
	uint32_t index;
	uint32_t rights;	/* to memory, while its code runs (visit.h) */
	struct hk_kernel *shared;
	uint8_t *console, *capture;
	bool booted;
	bool configured;	/* by system calls, since the network last ran */
	struct host_state state;

	uint8_t *base;		/* image, then RAM */
	uint8_t *low, *high;	/* what it may write: image data and RAM */
	uint8_t *constant, *constant_end;	/* but for this: read-only data */
	uint8_t *user;		/* its window of user memory, right behind */

	struct level *levels;	/* 1 .. depth */
	uint32_t depth;
	struct saved_page *saved;	/* of all levels, one behind the other */
	uint32_t saved_count, saved_room;
	uint32_t saved_fixed;	/* of them: code and read-only data */
	uint32_t sample;	/* of them: the next that a restore looks at again */
	uint64_t sealed;	/* sum of these books, while kernels run */
	bool patched;		/* code was changed, and no snapshot brings it back */
	uint16_t *newest;	/* per page: the highest level that saved it, 0: none */
	uint8_t *guard;		/* per page: lowest page of a stack */
	bool exposed;		/* a restore made all pages writable */
	uint8_t *pool;		/* page copies: pool_used were ever taken */
	uint32_t pool_used, *free_buffers, free_count;

	/* Frames being injected (of which it has pulled some: visit.h), and where sent ones are
	 * collected. */
	const uint8_t *rx, *rx_end;
	uint32_t rx_dev, rx_gso;
	uint8_t *tx, *tx_end;
	uint8_t *tx_counted;	/* where the number of answers to the present frame goes, */
	uint32_t tx_count;	/* which are so many by now */
	uint32_t tx_answered, tx_wanted;	/* frames: those that are over, and all */
	bool tx_full;

	int (*init)(const struct lib_host_ops *, const struct lib_boot *);
	void (*run)(struct lib_event *);
	struct lib_task *(*tasks)(void);
	int (*post)(uint32_t);
	int (*cancel)(uint32_t);
	uint64_t (*next_wakeup)(uint32_t);
	void (*netdev_irq)(uint32_t);
	uint64_t (*fixup)(uint64_t);
	const struct lib_state *(*get_state)(void);
	bool asks_anew;		/* the wait has not asked next_wakeup yet */
	struct lib_task *table;
	const struct lib_state *lib;
};

/* How each kernel lies in memory, in bytes from its base; all of whole pages. */
struct layout {
	uint64_t first;		/* the first kernel's base */
	uint64_t stride;	/* from one to the next */
	uint64_t low;		/* code ends, data begins */
	uint64_t high;		/* RAM ends */
	uint64_t code_offset;	/* in the file */
};

struct options {
	const char *library, *cmdline;
	uint32_t kernels;
	uint64_t memory, seed, epoch_ns, cost_ns;
	int shm_fd, parent;
	enum hk_clock clock;
	bool lazy;		/* kernels boot by HK_BOOT */
	bool keys;		/* protection keys are used, if there are some */
	bool thread;		/* made by a thread of the parent that may end before it */
};

/* A ring of struct hk_frame that a client reads; the positions as in protocol.h. */
struct ring {
	uint8_t *data;
	uint64_t size;
	uint64_t *head, *tail;
	const uint64_t *taken;
	bool whole;		/* nothing is overwritten before the client has read it */
	uint32_t number;	/* of it in header.full */
};

extern struct options options;
extern struct kernel *kernels;
extern struct kernel *running;		/* the kernel whose code runs, or NULL */
extern struct kernel *last_run;		/* the one before, when none runs */
extern jmp_buf crash_exit;
extern volatile bool overdue;		/* the budget is over; the next border tells */
extern bool restoring, saving;
extern uint8_t *shm;

/* main.c */
bool in_host(uint64_t sp);		/* it points to the host's own stack */
_Noreturn void die(const char *what);
uint64_t wall_ns(void);
/* load.c */
struct layout load_layout(int fd);
void load_kernel(struct kernel *k, int fd);
void load_populate(struct kernel *k);
bool load_learns(void);		/* load_learn() will need the file */
void load_learn(struct kernel *k, int fd);
struct hk_header *header(void);
void boot_kernel(struct kernel *k);
void drop_code(struct kernel *k);
/* ops.c */
void kernel_start(struct kernel *k);
uint64_t clock_now(struct kernel *k);
void show_warnings(struct kernel *k);
uint64_t clock_read(const struct kernel *k);	/* writes nothing */
uint64_t next_random(uint64_t *state);
/* Of exchanged frames: what is sent from now on answers the first, or the next one. */
void answers_begin(struct kernel *k);
void answers_end(struct kernel *k);
struct ring wire_ring(void);
void ring_add(const struct ring *ring, struct hk_frame about, const void *data);
/* snapshot.c */
void snapshot_prepare(struct kernel *k);
int snapshot_take(struct kernel *k);
int snapshot_restore(struct kernel *k, uint64_t depth);
int snapshot_forget(struct kernel *k, uint64_t depth);
int snapshot_write(struct kernel *k, uint8_t *to, const void *from, uint64_t size);
bool snapshot_protect_constants(struct kernel *k);
void snapshot_guard(struct kernel *k, uint8_t *stack);
bool snapshot_fault(struct kernel *k, uint8_t *address);
/* `sp` may lie in a stack of `size` bytes: its lowest page is known. */
bool snapshot_in_stack(struct kernel *k, const uint8_t *sp, uint64_t size);
uint64_t memory_hash(struct kernel *k);
/* Whose snapshots keep something at `address`; NULL: nobody's. */
struct kernel *snapshot_owner(const uint8_t *address);
/* fault.c */
void faults_install(void);
/* The signal goes to on_signal(); flags: of sigaction(2). */
void signal_take(int signo, unsigned long flags);
extern const char after_sigaction[], after_sigaction_end[];
/* crash.c */
struct crash_context {
	enum hk_crash kind;
	const char *what;
	int signo;
	uint64_t address;
	const long long *registers;	/* as in ucontext_t */
};
void processor_prepare(void);
void processor_restore(void);
void processor_check(struct kernel *k);
bool stack_bounds(const struct kernel *k, uint64_t *low, uint64_t *high);
_Noreturn void crash(struct kernel *k, enum hk_crash kind, const char *what);
_Noreturn void crash_at(struct kernel *k, const struct crash_context *c);
_Noreturn void crash_of_host(struct kernel *last, const struct crash_context *c);
/* run.c */
void task_seen(struct lib_task *task);
uint32_t run_call(struct kernel *k, struct hk_command *c, bool fresh);
uint64_t run_idle(struct kernel *k);
/* Frames have come to netdev `dev`: until idle at the present time. */
void run_interrupt(struct kernel *k, uint32_t dev);
/* They come one by one, each once the kernel is idle after the one before. */
void run_frames(struct kernel *k, uint32_t dev);
void catch_up(struct kernel *k);
/* Lets time pass until `until`, 0: none.  False: the client is asked for something first. */
bool run_until(struct kernel *k, uint64_t until);
bool settle(struct kernel *k, uint64_t until);
/* The client wants the running command to end. */
bool interrupted(void);
/* commands.c */
void wake_client(void);
_Noreturn void serve(void);
/* sandbox.c */
void sandbox_early(char **argv);
void sandbox_close(const struct layout *layout, int image_fd);
void on_watch(void);
/* calls.c: the system calls that are left */
void calls_filter(const struct layout *layout, int image_fd);
int protect_code(void *at, size_t size, int protection);
_Noreturn void end_host(int code);

#endif
