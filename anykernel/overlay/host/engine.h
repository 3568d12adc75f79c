/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The engine: virtual time of the kernels that have joined a network, and what
 * joins their netdevs.  net.c is anykernel's own; a simulator brings another.
 *
 * All is called on the host's stack, but for engine_transmit() and
 * engine_room(), which run on a kernel's fiber: shallow, and no lib_*.
 */
#ifndef HOST_ENGINE_H
#define HOST_ENGINE_H

#include "host.h"

/* It uses the heap, which the sandbox then lets grow. */
extern const bool engine_heap;
/* Called once, before the sandbox closes. */
void engine_prepare(void);
uint64_t engine_now(void);
/* Whether `k`'s time is the engine's. */
bool engine_has(const struct kernel *k);
/* Kernel `k` is idle until `deadline` (or LIB_NEVER). */
void engine_deadline(struct kernel *k, uint64_t deadline);
/* Does the one thing that is due next, if it is due until `limit`; false: there is
 * none, and it is `limit` now (LIB_NEVER: the time stays). */
bool engine_step(uint64_t limit);
/* When something is due, LIB_NEVER: nothing, that may wake a task of a kernel that has joined: a
 * timer as lib_next_wakeup() gives it, or what is under way on links. */
uint64_t engine_wakeup(bool fresh);
/* The client has to do something before time goes on. */
bool engine_pauses(void);
/* A call of `task` is over.  True: the engine has started another. */
bool engine_back(struct kernel *k, uint32_t task);
/* Whether `task` repeats calls by itself. */
bool engine_busy(const struct kernel *k, uint32_t task);
/* Whether netdev `dev` is plugged into something. */
bool engine_plugged(struct kernel *k, uint32_t dev);
void engine_transmit(struct kernel *k, uint32_t dev, const void *frame, uint32_t length);
/* How many frames may be sent now; after 0, kernel_interrupt() follows. */
uint32_t engine_room(struct kernel *k, uint32_t dev);
/* `k` has crashed. */
void engine_dead(struct kernel *k);
/* Whether the state of the network lies at `address`. */
bool engine_owns(const uint8_t *address);
/* Commands that are the engine's own: HK_JOIN .. HK_NET_WAKEUP. */
uint32_t engine_command(struct hk_command *c);

/* What the host does for its engine (run.c), at the engine's present time. */

/* The timers of `k` that are due; sets its deadline. */
void kernel_run(struct kernel *k);
/* A frame, [u32 length][data][padding to 4 bytes], arrives at its netdev. */
void kernel_receive(struct kernel *k, uint32_t dev, const uint8_t *frame);
/* Its netdev has room to send again. */
void kernel_interrupt(struct kernel *k, uint32_t dev);
/* Its task, in user mode, has nr and args set: they are executed when it runs. */
void kernel_request(struct kernel *k, uint32_t task);
/* Its task's call ends when it runs. */
int64_t kernel_cancel(struct kernel *k, uint32_t task);
/* The same as kernel_request(), and it runs. */
void kernel_post(struct kernel *k, uint32_t task);

#endif
