/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared memory between Python and anykernel-host: the one definition.  Python
 * reads this file with cffi; keep to plain structs and #define NAME number.
 *
 *   header page | commands | frames in | frames out | wire ring | per kernel:
 *   struct hk_kernel, stack copy | console ring | capture ring | user window
 *
 * The host maps each user window a second time, behind its kernel's RAM: that is
 * where the kernel sees it.
 *
 * One batch at a time: the client fills commands[0..count), raises `doorbell`
 * by one and waits until `done` equals it.
 */
#ifndef HOST_PROTOCOL_H
#define HOST_PROTOCOL_H

#include <stdint.h>

#define HK_MAGIC 0x4c4b4e41
#define HK_VERSION 6
#define HK_BASE 0x20000000000 /* where the host maps the shared memory: behind all kernels */
#define HK_MAX_COMMANDS 4096
#define HK_COMMANDS_AT 0x1000
#define HK_IN_AT 0x100000
#define HK_IN_SIZE 0x800000
#define HK_OUT_AT 0x900000
#define HK_OUT_SIZE 0x800000
#define HK_WIRE_AT 0x1100000
#define HK_WIRE_SIZE 0x2000000
#define HK_KERNELS_AT 0x3100000
/* Offsets within a kernel's part; the stack copy ends the first. */
#define HK_REPORT_SIZE 0x10000
#define HK_STACK_COPY 0x8000
#define HK_CONSOLE_AT 0x10000
#define HK_CONSOLE_SIZE 0x80000
#define HK_CAPTURE_AT 0x90000
#define HK_CAPTURE_SIZE 0x400000
#define HK_USER_AT 0x490000
#define HK_USER_SIZE 0xb70000
#define HK_KERNEL_SIZE 0x1000000
#define HK_SIGNALS 64 /* caught signals that are remembered */
#define HK_FEW 128 /* kernels that are treated with more memory and mappings than very many */
#define HK_WIRE_SNAP 64 /* bytes of each frame that the wire ring has, if not said */
#define HK_STUBS 1024 /* stubs that are counted */
#define HK_LONGEST 65557 /* bytes of a frame: an MTU of 65,535, the header, two VLAN tags */
#define HK_WIRE_FULL 0xffffffff /* in hk_header.full: the wire ring */

enum hk_op {
	HK_SYSCALL = 1,	/* slot, nr, args, timeout: ret */
	HK_POST,	/* slot, nr, args: start without waiting */
	HK_POLL,	/* slot: extra = enum lib_task_state, ret */
	HK_CANCEL,	/* slot */
	HK_RUN,		/* args[0]: ns to run to, 0: until idle at the current time */
	HK_SETTLE,	/* args[0]: run timers due until then; extra: now */
	HK_INJECT,	/* slot: dev, args[0]: offset in frames in, args[1]: count, args[2]: bytes of
			 * payload of the segments that each stands for, or 0 */
	HK_EXCHANGE,	/* slot, args[0], args[1]: the same; args[2]: offset in frames out; ret:
			 * bytes there */
	HK_SNAPSHOT,	/* ret: the new depth */
	HK_RESTORE,	/* args[0]: depth to return to */
	HK_FORGET,	/* args[0]: that depth and those above are no more; memory stays as it is */
	HK_HASH,	/* extra: hash of the kernel's memory */
	HK_BENCH,	/* the next args[0] commands args[1] times; extra: ns */
	HK_WAIT,	/* slot, timeout: until the task is back; ret */
	HK_RESUME,	/* goes on with a call or wait that ended with HK_AGAIN: the same
			 * timeout, args[0]: its extra, args[1]: 1 for a wait */
	HK_BOOT,	/* boots the kernel, in a host that was started without */
	HK_READ,	/* args[0]: address, args[1]: bytes, args[2]: offset in frames out */
	HK_WRITE,	/* args[0]: address, args[1]: bytes, args[2]: offset in frames in */
	/* Of the network of all kernels; `kernel` only where it says so. */
	HK_JOIN,	/* kernel: its clock is the network's from now on */
	HK_NET_RUN,	/* args[0]: ns to run to, or less: until a task is back; ret: how
			 * many struct hk_back lie in frames out */
	HK_NET_RESET,	/* no links, no kernels: as at the start */
	HK_NET_SAVE,	/* args[0]: level, one more than there are; kernels are saved by
			 * HK_SNAPSHOT */
	HK_NET_LOAD,	/* args[0]: level; those above are no more */
	HK_NET_FORGET,	/* args[0]: that level and those above are no more */
	HK_LINK,	/* args[0]: enum hk_link_kind; ret: its number */
	HK_LINK_UP,	/* slot: link, args[0]: 0 or 1 */
	HK_LINK_SNAP,	/* slot: link, args[0]: bytes of each frame for the wire ring */
	HK_PLUG,	/* kernel, slot: its dev, args[0]: link; ret: the new port */
	HK_UNPLUG,	/* slot: port */
	HK_PIPE,	/* slot: port, args[0]: 1: towards it (switch), struct hk_pipe in frames in */
	HK_PIPE_STATS,	/* slot: port, args[0]: as above; struct hk_pipe_stats to frames out */
	HK_ASK,		/* slot: port, args[0]: 1: what it sends waits for a verdict */
	HK_ASKED,	/* ret: how many struct hk_asked, each with its data, are in frames out */
	HK_VERDICT,	/* args[0]: id, args[1]: enum hk_verdict, args[2]: ns of further delay;
			 * args[3]: bytes that replace the frame, in frames in, or 0 */
	HK_JOB,		/* kernel, slot: struct hk_job in frames in: the task repeats calls */
	HK_JOB_STATS,	/* kernel, slot: struct hk_job to frames out */
	HK_JOB_STOP,	/* kernel, slot */
	HK_NET_WAKEUP,	/* args[0]: 1: the first time in a wait; extra: ns when something is due
			 * that may wake a task, ~0: nothing */
	HK_QUIT
};

enum hk_status {
	HK_OK = 0,
	HK_TIMEOUT,	/* the virtual timeout passed; a call was cancelled */
	HK_DEADLOCK,	/* nothing can wake the task; a call was cancelled */
	HK_CRASHED,	/* this command made the kernel crash: see its report */
	HK_DEAD,	/* the kernel had crashed before */
	HK_SKIPPED,	/* an earlier command of the batch failed */
	HK_BAD,		/* ret: -errno */
	HK_STUCK,	/* timed out or deadlocked, and can't be cancelled */
	HK_AGAIN,	/* not over: see to header.asked and the wire ring, then go on */
	HK_PENDING	/* set by the client: the host has not answered */
};

/* What the client's wait for the host comes to (client.c). */
enum hk_call {
	HK_CALL_DONE = 0,
	HK_CALL_NEWS,		/* done, and header.news has changed */
	HK_CALL_LATER,		/* not yet */
	HK_CALL_FULL,		/* header.full: a ring is to be read before the host goes on */
	HK_CALL_LIES		/* doorbell or done is not what it should be */
};

/* What only the client knows. */
struct hk_client {
	uint64_t rung;		/* how often the doorbell was, modulo 2^32 */
	uint64_t news;		/* header.news, as it was last seen */
};

enum hk_crash {
	HK_NO_CRASH = 0,
	HK_PANIC,
	HK_FAULT,	/* bad memory access */
	HK_ILLEGAL,	/* illegal instruction, division */
	HK_OVERFLOW,	/* kernel stack */
	HK_LOCKUP,	/* stopped by the budget */
	HK_SANDBOX,	/* a system call that the sandbox forbids */
	HK_HALT,	/* reboot, power off */
	HK_STUB		/* a stub that nobody granted a behaviour */
};

struct hk_header {
	uint32_t magic;
	uint32_t version;
	uint32_t doorbell;
	uint32_t done;
	uint32_t count;
	uint32_t ready;		/* kernels booted */
	uint32_t host_sleeps;	/* the host waits on doorbell in the kernel */
	uint32_t client_sleeps;
	uint32_t running;	/* kernel that runs now, + 1 */
	int32_t pid;
	uint32_t crashed;	/* kernel that the last HK_CRASHED is about, + 1 */
	uint32_t asked;		/* frames that wait for a verdict */
	uint32_t full;		/* kernel, + 1, whose capture ring, or HK_WIRE_FULL, the client
				 * has to read before the host, which waits on it, goes on */
	uint32_t wire_whole;	/* set by the client: it reads all of the wire ring */
	uint64_t now;		/* the network's time, ns */
	uint64_t trace;		/* hash of all that was sent on links, in order */
	uint64_t wire_head;	/* as the capture ring of a kernel */
	uint64_t wire_tail;
	uint64_t wire_taken;	/* set by the client: where it has read to */
	uint64_t events;	/* of the network, since the host's start */
	uint64_t progress;	/* ns: when a job last ended a round */
	uint32_t interrupt;	/* set by the client: the running command is to end soon, as one
				 * that nobody waits for any more */
	uint32_t reserved;
	uint64_t news;		/* changes when the client is to look at its kernels: one has
				 * warned, or has half a console ring to read */
	uint64_t user_first;	/* where the first kernel sees its user window; */
	uint64_t user_stride;	/* the next one's is so many bytes behind */
};

enum hk_clock {
	HK_VIRTUAL = 1,	/* each kernel its own, which jumps to the next deadline */
	HK_REAL,
	HK_NETWORK	/* virtual, one for all kernels that have joined */
};

enum hk_link_kind {
	HK_P2P = 1,	/* two ports */
	HK_SEGMENT,	/* all hear all; one sends at a time */
	HK_SWITCH,	/* learns where addresses are; a cable for each port */
	HK_CHANNEL	/* another engine's; args[1]: bytes of text in frames in that say
			 * more, as with its HK_PLUG and HK_PIPE */
};

/* What became of a frame that a port sent. */
enum hk_verdict {
	HK_PASS = 0,
	HK_LOST,	/* on the wire */
	HK_FULL,	/* the queue was */
	HK_DOWN,	/* the link is */
	HK_DROP,	/* a rule's verdict */
	HK_CORRUPT,	/* arrives with one bit flipped */
	HK_TWICE,
	HK_LATE		/* reordered */
};

/* One direction of a cable.  Chances are of 2^32. */
struct hk_pipe {
	uint64_t rate;		/* bits per second, 0: no limit */
	uint64_t delay;		/* ns */
	uint64_t jitter;	/* ns more or less, uniform; order is kept */
	uint64_t late;		/* ns that reordered frames come later */
	uint64_t loss, duplicate, reorder, corrupt;
	uint64_t limit;		/* frames that may wait, the rest is dropped; 0: the
				 * kernel's qdisc waits in place of that */
};

struct hk_pipe_stats {
	uint64_t frames, bytes;	/* that were sent */
	uint64_t verdicts[8];	/* enum hk_verdict: how many */
};

/* A task whose call is over. */
struct hk_back {
	uint32_t kernel;
	uint32_t slot;
	uint64_t state;		/* enum lib_task_state */
	int64_t ret;		/* or its exit code */
};

struct hk_asked {
	uint64_t id;
	uint32_t port;
	uint32_t length;	/* data follows, padded to 8 bytes */
};

/* A task that repeats up to HK_JOB_CALLS system calls without the client's help. */
#define HK_JOB_CALLS 4
struct hk_job {
	uint64_t begin;		/* ns, 0: at once */
	uint64_t end;		/* no further round from then on, 0: never */
	uint64_t interval;	/* ns between the rounds' beginnings, 0: no pause */
	uint64_t rounds;	/* so many, 0: no limit */
	uint64_t bytes;		/* until the first call has moved so many, 0: no limit; the
				 * last is shortened (args[2]) */
	uint64_t log;		/* address in the user window of room for `logs` struct hk_round */
	uint64_t logs;
	uint32_t calls;
	uint32_t tolerate;	/* bit n: call n may fail, and the round goes on with the next */
	struct {
		uint64_t nr;
		uint64_t args[6];
	} call[HK_JOB_CALLS];
	/* out */
	uint32_t over;
	uint32_t at;		/* the call that runs, or ran last */
	int64_t error;		/* -errno that ended it; 0: its limits, or end of file */
	uint64_t done;		/* rounds */
	uint64_t failed;	/* calls that were tolerated */
	uint64_t moved;		/* bytes, by the first call */
	uint64_t first, last;	/* ns: when the first call returned for the first and last time */
};

struct hk_round {
	uint64_t begin, end;	/* ns */
	int64_t first, last;	/* results of its first and its last call */
};

_Static_assert(sizeof(struct hk_job) == 8 * 7 + 8 + HK_JOB_CALLS * 56 + 8 + 8 * 6, "protocol");

struct hk_command {
	uint32_t op;
	uint32_t kernel;
	uint32_t slot;
	uint32_t status;	/* out: enum hk_status */
	uint64_t nr;
	uint64_t timeout;	/* ns of virtual time, 0: none */
	uint64_t args[6];
	int64_t ret;		/* out */
	uint64_t extra;		/* out */
};

/* A caught signal: its handler counts as run and returned from at once. */
struct hk_signal {
	uint64_t time;
	uint64_t handler;
	uint32_t slot;
	int32_t signo;
};

/* At the beginning of a kernel's part. */
struct hk_kernel {
	uint32_t crash;		/* enum hk_crash */
	uint32_t signal;
	uint64_t fault_address;
	uint64_t ip;
	uint64_t sp;
	uint64_t bp;
	uint64_t regs[16];	/* rax rbx rcx rdx rsi rdi r8..r15, flags, error code */
	uint64_t stack_low;
	uint64_t stack_high;
	uint64_t stack_from;	/* address of the first byte of the copy */
	uint32_t stack_bytes;
	int32_t pid;
	char comm[16];
	char what[128];
	/* live */
	uint64_t now;		/* ns since boot */
	uint64_t console_head;	/* bytes written so far */
	uint64_t console_seen;	/* set by the client: where it has read to */
	uint64_t capture_head;	/* bytes written so far, records of 8-byte alignment */
	uint64_t capture_tail;	/* the oldest record that is whole, on the same count */
	uint64_t capture_taken;	/* set by the client: where it has read to */
	uint64_t warnings;
	uint64_t image_base;
	uint64_t image_end;
	uint64_t ram_end;
	uint64_t depth;		/* snapshots */
	uint64_t hot_pages;
	uint64_t boot_ns;	/* wall time of loading and lib_init */
	uint64_t deadline;	/* the next timer, or ~0 */
	uint64_t signals_head;	/* signals caught so far */
	struct hk_signal signals[HK_SIGNALS];
	uint32_t stubs_pass;	/* set by the client: stubs without a grant return 0 */
	uint32_t captures;	/* set by the client: frames of netdevs go to the capture ring;
				 * 2: and it reads all of them */
	uint32_t stubs[HK_STUBS];	/* how often each was reached, since the host's start */
};

#define HK_TOWARDS 0x100 /* in hk_frame.what: a switch sent it to the port */

/* A record of a capture ring; data follows, then padding to 8 bytes.  A record
 * never wraps: kept ~0 says that the rest of the ring is unused. */
struct hk_frame {
	uint64_t time;		/* ns; on the wire: when its first bit leaves */
	uint32_t kept;		/* bytes of data */
	uint32_t length;	/* bytes of the frame */
	uint32_t port;		/* a kernel's: dev */
	uint32_t what;		/* a kernel's: 1: it sent it; the wire's: enum hk_verdict */
};

_Static_assert(sizeof(struct hk_command) == 96, "protocol");
_Static_assert(sizeof(struct hk_frame) == 24, "protocol");
_Static_assert(HK_COMMANDS_AT + HK_MAX_COMMANDS * 96 <= HK_IN_AT, "protocol");
_Static_assert(sizeof(struct hk_header) <= HK_COMMANDS_AT, "protocol");
_Static_assert(sizeof(struct hk_kernel) <= HK_REPORT_SIZE - HK_STACK_COPY, "protocol");

#endif
