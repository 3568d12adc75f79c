/* SPDX-License-Identifier: GPL-2.0 */
/* What the files of arch/lib tell each other. */
#ifndef _LIB_H
#define _LIB_H

#include <linux/sched.h>
#include <linux/types.h>
#include <asm/ptrace.h>
#include <liblinux.h>

extern struct lib_host_ops lib_host;	/* setup.c: the host's operations */
extern struct lib_boot lib_boot_info;
extern struct lib_state lib_state;

/* Bits of lib_irq_pending (asm/irqflags.h). */
#define LIB_IRQ_TIMER	1UL
#define LIB_IRQ_NETDEV	2UL
#define LIB_IRQ_TASK	4UL

/* x86_64/fiber.S */
void *lib_fiber_switch(unsigned long *save, unsigned long sp, void *pass);
void lib_fiber_start(void);

/* process.c */
unsigned long lib_fiber_prepare(void *stack_end, void (*fn)(void *prev, void *arg), void *arg);
void lib_to_host(u32 kind, u32 task);
int lib_boot_kernel(void);

/* console.c */
void lib_console_init(void);

/* memory.c */
void lib_memory_init(void);
int lib_user_memory_map(void);

/* time.c */
extern u64 lib_deadline;
void lib_timer_interrupt(void);
void lib_cost(u32 times);

/* timers.c: the timers that are pending now are those of the kernel's chores. */
void lib_timers_booted(void);

/* call.c */
long lib_call(unsigned long address, u64 __user *user);

/* stub.c: stub `number` of a component that isn't in the image was called. */
void lib_stub_reached(u32 number, const char *name, u32 granted, u32 count, const u64 *args);

/* ../net/netdev.c, or nonet.c */
void lib_netdev_interrupt(void);
u32 lib_packets(void);		/* that all devices have received, modulo 2^32 */
long lib_netdev_add(const struct lib_netdev_config __user *config);
long lib_netdev_del(unsigned int dev);
long lib_netdev_carrier(unsigned int dev, bool up);

/* task.c */
void lib_task_interrupt(void);
bool lib_task_cancelled(const struct lib_task *task);
int lib_task_new(struct task_struct *task);
void lib_user_loop(void) __noreturn;

/* signal.c: what is due before a task may return to user mode.  True when the
 * interrupted system call in regs is to be executed again. */
bool lib_exit_work(struct pt_regs *regs, struct lib_task *task);

#endif
