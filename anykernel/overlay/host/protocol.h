/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared memory between Python and anykernel-host: the one definition.  Python
 * reads this file with cffi; keep to plain structs and #define NAME number.
 *
 *   header page | commands | frames in | frames out | per kernel:
 *   struct hk_kernel, stack copy | console ring | capture ring | user window
 *
 * One batch at a time: the client fills commands[0..count), raises `doorbell`
 * by one and waits until `done` equals it.
 */
#ifndef HOST_PROTOCOL_H
#define HOST_PROTOCOL_H

#include <stdint.h>

#define HK_MAGIC 0x4c4b4e41
#define HK_VERSION 3
#define HK_BASE 0x100000000 /* where the host maps the shared memory */
#define HK_MAX_COMMANDS 4096
#define HK_COMMANDS_AT 0x1000
#define HK_IN_AT 0x100000
#define HK_IN_SIZE 0x800000
#define HK_OUT_AT 0x900000
#define HK_OUT_SIZE 0x800000
#define HK_KERNELS_AT 0x1100000
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
#define HK_STUBS 1024 /* stubs that are counted */

enum hk_op {
	HK_SYSCALL = 1,	/* slot, nr, args, timeout: ret */
	HK_POST,	/* slot, nr, args: start without waiting */
	HK_POLL,	/* slot: extra = enum lib_task_state, ret */
	HK_CANCEL,	/* slot */
	HK_RUN,		/* args[0]: ns to run to, 0: until idle at the current time */
	HK_SETTLE,	/* args[0]: run timers due within so many ns; extra: now */
	HK_INJECT,	/* slot: dev, args[0]: offset in frames in, args[1]: count */
	HK_EXCHANGE,	/* the same; args[2]: offset in frames out; ret: bytes there */
	HK_SNAPSHOT,	/* ret: the new depth */
	HK_RESTORE,	/* args[0]: depth to return to */
	HK_HASH,	/* extra: hash of the kernel's memory */
	HK_BENCH,	/* the next args[0] commands args[1] times; extra: ns */
	HK_WAIT,	/* slot, timeout: until the task is back; ret */
	HK_READ,	/* args[0]: address, args[1]: bytes, args[2]: offset in frames out */
	HK_WRITE,	/* args[0]: address, args[1]: bytes, args[2]: offset in frames in */
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
	HK_STUCK	/* timed out or deadlocked, and can't be cancelled */
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
};

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
	uint64_t capture_head;	/* bytes written so far, records of 8-byte alignment */
	uint64_t capture_tail;	/* the oldest record that is whole, on the same count */
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
	uint32_t stubs[HK_STUBS];	/* how often each was reached, since the host's start */
};

/* A record of the capture ring; data follows, then padding to 8 bytes.  A record
 * never wraps: length ~0 says that the rest of the ring is unused. */
struct hk_frame {
	uint64_t time;
	uint32_t length;
	uint16_t dev;
	uint16_t sent;		/* 1: the kernel sent it */
};

_Static_assert(sizeof(struct hk_command) == 96, "protocol");
_Static_assert(sizeof(struct hk_frame) == 16, "protocol");
_Static_assert(HK_COMMANDS_AT + HK_MAX_COMMANDS * 96 <= HK_IN_AT, "protocol");
_Static_assert(sizeof(struct hk_kernel) <= HK_REPORT_SIZE - HK_STACK_COPY, "protocol");

#endif
