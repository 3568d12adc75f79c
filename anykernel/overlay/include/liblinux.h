/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * liblinux.h - the one interface between liblinux.so and whoever embeds it.
 *
 * The library is a whole Linux kernel.  It imports nothing: what it needs from
 * the outside (time, randomness, frames, a console) it asks for through struct
 * lib_host_ops, and what it offers are the lib_* functions below.  It is not
 * thread-safe: all calls come from one host thread.
 *
 * Contexts, named in each comment:
 *   host   - the embedder's own stack, outside the kernel;
 *   fiber  - a kernel stack of 32 KiB, its lowest page a guard, with kernel
 *            frames on it.  An operation called there must be shallow (a few
 *            hundred bytes), must not block and must not call lib_*.
 *
 * Every struct that crosses the border begins with version and size.  Fields
 * are only ever appended; the library refuses a version that it doesn't know
 * (-EPROTO) and a size smaller than its own (-EINVAL).
 */
#ifndef LIBLINUX_H
#define LIBLINUX_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stdint.h>
#endif

#define LIB_ABI_VERSION	1

#define LIB_NEVER	(~0ULL)		/* a deadline that doesn't come */
#define LIB_MAX_TASKS	256		/* host-owned tasks at one time */
#define LIB_MAX_NETDEVS	256

/* Why the kernel can't go on; kind argument of lib_host_ops.crash. */
enum lib_crash_kind {
	LIB_CRASH_PANIC = 1,	/* panic(), BUG(), oops */
	LIB_CRASH_HALT = 2,	/* machine_halt/power_off/restart: not a fault */
};

/*
 * What the kernel asks of its host.  All pointers but the last three are required.  `host` is
 * handed back as the first argument of every operation.
 */
struct lib_host_ops {
	uint32_t version;	/* LIB_ABI_VERSION */
	uint32_t size;		/* sizeof(struct lib_host_ops) */
	void *host;

	/* Nanoseconds since boot, monotonic.  fiber; must not fail. */
	uint64_t (*clock_read)(void *host);
	/* A busy-wait (cpu_relax, udelay) wants `ns` to pass.  Virtual clock:
	 * add them.  Real clock: return at once (the loop reads the clock
	 * again).  fiber. */
	void (*clock_spend)(void *host, uint64_t ns);
	/* `n` bytes of console text, not terminated, owned by the kernel.  fiber. */
	void (*console)(void *host, const char *text, uint32_t n);
	/* Fill buf with n random bytes.  fiber. */
	void (*entropy)(void *host, void *buf, uint32_t n);

	/* Length in bytes of the next frame received on netdev `dev`, or -1
	 * if there is none.  fiber (softirq). */
	int32_t (*netdev_next)(void *host, uint32_t dev);
	/* Move that frame, of `len` bytes, to `to` (kernel memory) and drop it
	 * from the queue; to == NULL only drops it.  fiber (softirq). */
	void (*netdev_pull)(void *host, uint32_t dev, void *to, uint32_t len);
	/* Netdev `dev` sends a frame.  The memory is the kernel's and valid only
	 * during the call.  fiber (softirq or process). */
	void (*netdev_xmit)(void *host, uint32_t dev, const void *frame, uint32_t len);

	/* A new kernel stack begins at `low` (page-aligned): its lowest page is
	 * not to be used.  The host may take write permission from it; a fault
	 * there while lib_state.stack_low == low is a stack overflow; any
	 * other fault there means that the page has a new use: give the
	 * permission back.  Doing nothing is allowed.  fiber. */
	void (*stack_guard)(void *host, void *low);

	/* Host-owned task `task` has a caught signal: handler is the address
	 * given to rt_sigaction, info its siginfo_t (128 bytes).  The kernel
	 * treats the handler as having returned when the operation does.  fiber. */
	void (*signal)(void *host, uint32_t task, int32_t signo, uint64_t handler,
		       const void *info);

	/* The kernel can't go on (enum lib_crash_kind); `what` is one line.
	 * Must not return: leave with longjmp or exit.  fiber. */
	void (*crash)(void *host, uint32_t kind, const char *what);

	/* A function of a component that the image was linked without was called:
	 * its stub's number and name, whether a policy grants it a behaviour, and
	 * its first `count` arguments as words.  To return from one that isn't
	 * granted makes it return 0.  NULL: that is a panic.  fiber. */
	void (*stub)(void *host, uint32_t number, const char *name, uint32_t granted,
		     uint32_t count, const uint64_t *args);

	/* How many more frames netdev `dev` may send now.  At 0 its queue stops:
	 * frames wait in the kernel's qdisc until lib_netdev_irq(dev).  NULL:
	 * always some.  fiber (softirq or process). */
	uint32_t (*netdev_room)(void *host, uint32_t dev);

	/* Of the next frame received on netdev `dev`: bytes of payload of each of
	 * the segments that it was put together from, or 0 for a frame that is one
	 * (what GRO in hardware gives).  NULL: always 0.  fiber (softirq). */
	uint32_t (*netdev_gso)(void *host, uint32_t dev);
};

/* How to boot; read only during lib_init. */
struct lib_boot {
	uint32_t version;	/* LIB_ABI_VERSION */
	uint32_t size;		/* sizeof(struct lib_boot) */
	void *memory;		/* RAM: page-aligned, zeroed, readable, writable */
	uint64_t memory_size;	/* bytes, a multiple of 4 MiB, at least 16 MiB */
	uint64_t epoch_ns;	/* CLOCK_REALTIME at boot */
	const char *cmdline;	/* kernel command line, may be "" */
	void *user_low;		/* [user_low, user_high), of whole pages: user memory, beside what
				 * mmap gives; both NULL: all but the kernel's own.  When it
				 * begins where `memory` ends, system calls can pin it */
	void *user_high;
	uint64_t cost_ns;	/* that each system call takes, each packet that a device receives
				 * and each that a netdev sends, by clock_spend */
};

/* A host-owned task.  "User mode" is the host: it writes nr and args, calls
 * lib_post(), runs the kernel and finds ret. */
enum lib_task_state {
	LIB_TASK_FREE = 0,	/* slot not in use */
	LIB_TASK_USER = 1,	/* in user mode: takes a request */
	LIB_TASK_POSTED = 2,	/* request given, or being executed (perhaps blocked) */
	LIB_TASK_EXITED = 3,	/* dead; the host sets FREE when it has seen it */
};

struct lib_task {
	uint32_t state;		/* enum lib_task_state */
	int32_t pid;
	int32_t tgid;
	int32_t exit_code;	/* as wait4 tells, valid when EXITED */
	uint64_t nr;		/* x86-64 syscall number, or LIB_SYS_* */
	uint64_t args[6];
	int64_t ret;		/* result or -errno, valid when USER again */
	uint32_t cancelled;	/* it ended because of lib_cancel; ret is an error, but for
				 * LIB_SYS_CALL */
	uint32_t reserved;
};

/* Requests beyond the system calls, in lib_task.nr. */
#define LIB_SYS_BASE		0x10000
#define LIB_SYS_SPAWN		0x10000	/* args[0]: clone flags (CLONE_VM is implied);
					 * ret: slot of the new task */
#define LIB_SYS_NETDEV_ADD	0x10001	/* args[0]: const struct lib_netdev_config *;
					 * ret: ifindex */
#define LIB_SYS_NETDEV_DEL	0x10002	/* args[0]: dev */
#define LIB_SYS_NETDEV_CARRIER	0x10003	/* args[0]: dev, args[1]: 0 or 1 */
#define LIB_SYS_SHOW_TASKS	0x10004	/* task list with stacks to the console */
#define LIB_SYS_CALL		0x10005	/* args[0]: address of a function; args[1]: the
					 * user's uint64_t[14]: LIB_CALL_ARGS arguments,
					 * and room for rax and rdx */
#define LIB_CALL_ARGS		12

/* What a netdev's hardware can, each a feature of the kernel's (NETIF_F_*), which ethtool -K
 * switches; all that it has are on at first. */
enum lib_netdev_feature {
	LIB_NETDEV_SG = 1 << 0,			/* frames in pieces */
	LIB_NETDEV_CSUM = 1 << 1,		/* HW_CSUM */
	LIB_NETDEV_TSO = 1 << 2,		/* TCP over IPv4 in segments */
	LIB_NETDEV_TSO6 = 1 << 3,
	LIB_NETDEV_TSO_ECN = 1 << 4,
	LIB_NETDEV_USO = 1 << 5,		/* UDP_L4 */
	LIB_NETDEV_GSO_PARTIAL = 1 << 6,	/* of GRE with checksums */
	LIB_NETDEV_GRE = 1 << 7,
	LIB_NETDEV_GRE_CSUM = 1 << 8,
	LIB_NETDEV_IPXIP4 = 1 << 9,
	LIB_NETDEV_IPXIP6 = 1 << 10,
	LIB_NETDEV_UDP_TUNNEL = 1 << 11,
	LIB_NETDEV_UDP_TUNNEL_CSUM = 1 << 12,
	LIB_NETDEV_RXCSUM = 1 << 13,
	LIB_NETDEV_GRO_HW = 1 << 14,		/* frames for which netdev_gso is not 0 */
	LIB_NETDEV_VLAN_TX = 1 << 15,		/* puts 802.1Q tags in */
	LIB_NETDEV_VLAN_RX = 1 << 16,		/* takes them out */
};

struct lib_netdev_config {
	uint32_t version;	/* LIB_ABI_VERSION */
	uint32_t size;
	uint32_t dev;		/* the host's number for it, < LIB_MAX_NETDEVS */
	uint32_t mtu;		/* bytes, 0: 1500 */
	char name[16];		/* "eth%d" is allowed */
	uint8_t mac[6];
	uint8_t carrier;	/* link is up at once */
	uint8_t super_frames;	/* what the stack leaves to be segmented is sent in one */
	uint32_t features;	/* enum lib_netdev_feature */
	uint32_t reserved;
};

/* Why lib_run returned. */
enum lib_event_kind {
	LIB_EVENT_IDLE = 1,	/* nothing runnable; next timer at `deadline` */
	LIB_EVENT_USER = 2,	/* `task` came back to user mode, or exited */
};

struct lib_event {
	uint32_t kind;		/* enum lib_event_kind */
	uint32_t task;
	uint64_t deadline;	/* ns on the host's clock, or LIB_NEVER */
};

/* What a fault handler wants to know of the running kernel; may be read at any
 * time, from a signal handler too. */
struct lib_state {
	uint32_t version;
	uint32_t size;
	uint64_t stack_low;	/* bounds of the stack of the running fiber */
	uint64_t stack_high;
	uint64_t in_kernel;	/* 1 while a fiber runs */
	uint64_t warnings;	/* dump_stack() calls so far: WARN, lockdep, ... */
	int32_t pid;		/* of the running task */
	char comm[16];
};

#ifdef __KERNEL__
#define LIB_EXPORT __attribute__((visibility("default")))
#else
#define LIB_EXPORT
#endif

/* Boots.  host; runs until the first task (slot 0, pid 1) is in user mode.
 * Returns 0, -EPROTO, -EINVAL, -EBUSY (already booted). */
LIB_EXPORT int lib_init(const struct lib_host_ops *ops, const struct lib_boot *boot);
/* Runs the kernel until a task returns to user mode or all are idle.  host. */
LIB_EXPORT void lib_run(struct lib_event *event);
/* The table of host-owned tasks, LIB_MAX_TASKS long.  host. */
LIB_EXPORT struct lib_task *lib_tasks(void);
/* Slot `task`'s nr and args are set: execute at the next lib_run.  host.
 * Returns 0, -ESRCH (no such task), -EBUSY (not in user mode). */
LIB_EXPORT int lib_post(uint32_t task);
/* Make a blocked request of `task` end, mostly with -EINTR, and with cancelled = 1, as far
 * as its sleep is interruptible; takes effect in the next lib_run.  host. */
LIB_EXPORT int lib_cancel(uint32_t task);
/* Netdev `dev` has frames, or room to send again: at the next lib_run.  host. */
LIB_EXPORT void lib_netdev_irq(uint32_t dev);
/* A memory access at `ip` faulted: the address to go on at (exception table),
 * or 0 when the access was a bug.  Signal handler. */
LIB_EXPORT uint64_t lib_fixup(uint64_t ip);
/* host or signal handler; valid for the library's life. */
LIB_EXPORT const struct lib_state *lib_get_state(void);
/* When the next timer is due, in ns on the host's clock, that may wake a task: one that the
 * kernel hadn't when it had booted, for its chores; LIB_NEVER: none.  Who waits asks again when
 * it has passed and nothing has come; a timer that has been the answer some hundred times
 * since the last `fresh` is not any more.  host, while all are idle. */
LIB_EXPORT uint64_t lib_next_wakeup(uint32_t fresh);
/* "Linux version ..." as in /proc/version.  host. */
LIB_EXPORT const char *lib_version(void);

_Static_assert(sizeof(struct lib_host_ops) == 120, "public ABI");
_Static_assert(sizeof(struct lib_boot) == 64, "public ABI");
_Static_assert(sizeof(struct lib_task) == 88, "public ABI");
_Static_assert(sizeof(struct lib_netdev_config) == 48, "public ABI");
_Static_assert(sizeof(struct lib_event) == 16, "public ABI");
_Static_assert(sizeof(struct lib_state) == 64, "public ABI");

#endif /* LIBLINUX_H */
