// SPDX-License-Identifier: GPL-2.0
/* The command loop: batches from shared memory, one doorbell each. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "visit.h"

/* Rounds of waiting on the doorbell before sleeping: some 50 us. */
#define SPIN_ROUNDS 2000

/* The frames that the command gives; false where they don't lie within the input area. */
static bool take_frames(struct kernel *k, const struct hk_command *c)
{
	uint64_t offset = c->args[0];
	uint32_t length;

	if (offset > HK_IN_SIZE)
		return false;
	k->rx = shm + HK_IN_AT + offset;
	for (uint64_t count = c->args[1]; count; count--) {
		if (offset + 4 > HK_IN_SIZE)
			return false;
		memcpy(&length, shm + HK_IN_AT + offset, 4);
		if (length > HK_LONGEST || offset + 4 + length > HK_IN_SIZE)
			return false;
		offset += 4 + ((length + 3UL) & ~3UL);
	}
	k->rx_end = shm + HK_IN_AT + offset;
	k->rx_dev = c->slot;
	k->rx_gso = 0;
	DESK->taken = 0;
	DESK->arrived = k->rx_end - k->rx;
	return true;
}

/* One by one; in a network, where something else may be due in between, by a visit each. */
static void deliver_alone(struct kernel *k, uint32_t dev)
{
	uint64_t at = 0, end;

	if (!engine_has(k)) {
		run_frames(k, dev);
		return;
	}
	while ((end = frame_end(k, at))) {
		DESK->taken = at;
		DESK->arrived = at = end;
		run_interrupt(k, dev);
		answers_end(k);
	}
}

static uint32_t inject(struct kernel *k, struct hk_command *c)
{
	if (!take_frames(k, c)) {
		c->ret = -EINVAL;
		return HK_BAD;
	}
	k->rx_gso = c->args[2];
	if (c->args[1])
		run_interrupt(k, c->slot);
	k->rx = k->rx_end = NULL;
	return HK_OK;
}

static uint32_t exchange(struct kernel *k, struct hk_command *c)
{
	uint8_t *out = shm + HK_OUT_AT + c->args[2];

	if (c->args[2] > HK_OUT_SIZE || !c->args[1] || !take_frames(k, c)) {
		c->ret = -EINVAL;
		return HK_BAD;
	}
	/* For each frame: how many came out, then they. */
	k->tx = out;
	k->tx_end = shm + HK_OUT_AT + HK_OUT_SIZE;
	k->tx_full = false;
	k->tx_answered = 0;
	k->tx_wanted = c->args[1];
	answers_begin(k);
	deliver_alone(k, c->slot);
	c->ret = k->tx_full ? -ENOSPC : k->tx - out;
	k->tx = NULL;
	k->rx = k->rx_end = NULL;
	if (k->tx_answered != k->tx_wanted)
		crash(k, HK_FAULT, DESK_DAMAGED);
	return c->ret < 0 ? HK_BAD : HK_OK;
}

static uint32_t post(struct kernel *k, struct hk_command *c)
{
	struct lib_task *task;

	if (c->slot >= LIB_MAX_TASKS) {
		c->ret = -ESRCH;
		return HK_BAD;
	}
	if (engine_busy(k, c->slot)) {
		c->ret = -EBUSY;
		return HK_BAD;
	}
	task = &k->table[c->slot];
	if (task->state == LIB_TASK_USER) {
		task->nr = c->nr;
		memcpy(task->args, c->args, sizeof(task->args));
	}
	return run_call(k, c, true);
}

static uint32_t wait_call(struct kernel *k, struct hk_command *c)
{
	if (c->slot >= LIB_MAX_TASKS || k->table[c->slot].state == LIB_TASK_FREE) {
		c->ret = -ESRCH;
		return HK_BAD;
	}
	return run_call(k, c, false);
}

static uint32_t poll(struct kernel *k, struct hk_command *c)
{
	struct lib_task *task;

	if (c->slot >= LIB_MAX_TASKS) {
		c->ret = -ESRCH;
		return HK_BAD;
	}
	task = &k->table[c->slot];
	c->extra = task->state;
	c->ret = task->state == LIB_TASK_EXITED ? task->exit_code : task->ret;
	task_seen(task);
	return HK_OK;
}

/* Memory of the kernel, or the user memory behind it. */
static bool is_memory(struct kernel *k, uint64_t address, uint64_t size)
{
	uint64_t user = (uint64_t)k->user;

	if (address >= user && address < user + HK_USER_SIZE)
		return size <= user + HK_USER_SIZE - address;
	return address >= (uint64_t)k->base && address < (uint64_t)k->high &&
	       size <= (uint64_t)k->high - address;
}

static uint32_t read_memory(struct kernel *k, struct hk_command *c)
{
	if (c->args[2] > HK_OUT_SIZE || c->args[1] > HK_OUT_SIZE - c->args[2] ||
	    !is_memory(k, c->args[0], c->args[1])) {
		c->ret = -EFAULT;
		return HK_BAD;
	}
	memcpy(shm + HK_OUT_AT + c->args[2], (void *)c->args[0], c->args[1]);
	return HK_OK;
}

/* Code and read-only data may be written, too: that is how a function gets another's body. */
static uint32_t write_memory(struct kernel *k, struct hk_command *c)
{
	uint8_t *to = (uint8_t *)c->args[0];
	const uint8_t *from = shm + HK_IN_AT + c->args[2];

	if (c->args[2] > HK_IN_SIZE || c->args[1] > HK_IN_SIZE - c->args[2] ||
	    !is_memory(k, c->args[0], c->args[1])) {
		c->ret = -EFAULT;
		return HK_BAD;
	}
	if (to < k->base || to >= k->high) {
		memcpy(to, from, c->args[1]);
		return HK_OK;
	}
	c->ret = snapshot_write(k, to, from, c->args[1]);
	return c->ret < 0 ? HK_BAD : HK_OK;
}

static uint32_t execute_one(struct kernel *k, struct hk_command *c)
{
	switch (c->op) {
	case HK_SYSCALL:
	case HK_POST:
		return post(k, c);
	case HK_WAIT:
	case HK_RESUME:
		return wait_call(k, c);
	case HK_POLL:
		return poll(k, c);
	case HK_CANCEL:
		c->ret = kernel_cancel(k, c->slot);
		run_until(k, 0);
		return HK_OK;
	case HK_RUN:
		return run_until(k, c->args[0]) ? HK_OK : HK_AGAIN;
	case HK_SETTLE:
		return settle(k, c->args[0]) ? HK_OK : HK_AGAIN;
	case HK_INJECT:
		return inject(k, c);
	case HK_EXCHANGE:
		return exchange(k, c);
	case HK_SNAPSHOT:
		c->ret = snapshot_take(k);
		return c->ret < 0 ? HK_BAD : HK_OK;
	case HK_RESTORE:
		c->ret = snapshot_restore(k, c->args[0]);
		return c->ret < 0 ? HK_BAD : HK_OK;
	case HK_FORGET:
		c->ret = snapshot_forget(k, c->args[0]);
		return c->ret < 0 ? HK_BAD : HK_OK;
	case HK_READ:
		return read_memory(k, c);
	case HK_WRITE:
		return write_memory(k, c);
	case HK_HASH:
		c->extra = memory_hash(k);
		return HK_OK;
	}
	c->ret = -ENOSYS;
	return HK_BAD;
}

static uint32_t boot(struct kernel *k, struct hk_command *c)
{
	if (k->booted || !options.lazy) {
		c->ret = -EEXIST;
		return HK_BAD;
	}
	boot_kernel(k);
	return HK_OK;
}

/* For one kernel. */
static uint32_t execute_for(struct kernel *k, struct hk_command *c)
{
	if (c->op == HK_BOOT)
		return boot(k, c);
	if (!k->booted) {
		c->ret = -ENXIO;
		return HK_BAD;
	}
	/* Of a dead one there is still the memory to be looked at. */
	if (k->shared->crash && c->op != HK_RESTORE && c->op != HK_READ)
		return HK_DEAD;
	running = c->op == HK_RESTORE ? NULL : k;
	header()->running = c->kernel + 1;
	k->configured |= c->op == HK_SYSCALL;
	if (engine_has(k))
		catch_up(k);
	return execute_one(k, c);
}

static uint32_t execute(struct hk_command *c)
{
	struct kernel *k = &kernels[c->kernel];
	uint32_t status;

	if (c->kernel >= options.kernels) {
		c->ret = -ENODEV;
		return HK_BAD;
	}
	overdue = false;
	if (_setjmp(crash_exit)) {
		/* In a network, it need not be the one that the command is for. */
		desk_clear(running);
		running->rx = running->rx_end = NULL;
		running->tx = NULL;
		header()->crashed = running->index + 1;
		header()->full = 0;
		show_warnings(running);
		engine_dead(running);
		status = HK_CRASHED;
	} else if (c->op >= HK_JOIN) {
		status = engine_command(c);
	} else {
		status = execute_for(k, c);
	}
	last_run = running ? running : last_run;
	running = NULL;
	header()->running = 0;
	header()->now = engine_now();
	if (k->lib) {
		k->shared->now = k->state.now;
		show_warnings(k);
	}
	return status;
}

static bool run_batch(struct hk_command *c, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (c[i].op == HK_QUIT)
			return false;
		if (c[i].op == HK_BENCH) {
			uint64_t n = c[i].args[0], start = wall_ns();

			if (n > count - i - 1)
				n = count - i - 1;
			for (uint64_t times = c[i].args[1]; times; times--)
				for (uint64_t j = 1; j <= n; j++)
					c[i + j].status = execute(&c[i + j]);
			c[i].extra = wall_ns() - start;
			c[i].status = HK_OK;
			i += n;
			continue;
		}
		c[i].status = execute(&c[i]);
		if (c[i].status == HK_CRASHED || c[i].status == HK_DEAD) {
			while (++i < count)
				c[i].status = HK_SKIPPED;
		}
	}
	return true;
}

static void wait_for(uint32_t last)
{
	struct hk_header *h = header();

	for (int i = 0; i < SPIN_ROUNDS; i++) {
		if (__atomic_load_n(&h->doorbell, __ATOMIC_ACQUIRE) != last)
			return;
		__builtin_ia32_pause();
	}
	__atomic_store_n(&h->host_sleeps, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&h->doorbell, __ATOMIC_ACQUIRE) == last)
		syscall(SYS_futex, &h->doorbell, FUTEX_WAIT, last, NULL, NULL, 0);
	__atomic_store_n(&h->host_sleeps, 0, __ATOMIC_SEQ_CST);
}

void wake_client(void)
{
	struct hk_header *h = header();

	if (__atomic_load_n(&h->client_sleeps, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &h->done, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void serve(void)
{
	struct hk_header *h = header();
	struct hk_command *commands = (struct hk_command *)(shm + HK_COMMANDS_AT);
	uint32_t last = 0;

	__atomic_store_n(&h->ready, options.kernels, __ATOMIC_RELEASE);
	syscall(SYS_futex, &h->ready, FUTEX_WAKE, 1, NULL, NULL, 0);
	for (;;) {
		wait_for(last);
		last = __atomic_load_n(&h->doorbell, __ATOMIC_ACQUIRE);
		if (h->count <= HK_MAX_COMMANDS && !run_batch(commands, h->count))
			end_host(0);
		__atomic_store_n(&h->done, last, __ATOMIC_SEQ_CST);
		wake_client();
	}
}
