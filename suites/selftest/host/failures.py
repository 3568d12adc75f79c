# SPDX-License-Identifier: GPL-2.0
"""A table of ways for a kernel to fail, each a piece of C, and what each has to end as."""

from __future__ import annotations

from typing import NamedTuple

CONTEXTS = ("process", "kthread", "work", "timer", "hrtimer", "tasklet")


class Way(NamedTuple):
    """name: of its C function, too.  body: C.  ends: how it may end, a word or some (see
    test_failures.outcome).
    contexts: where it is tried.  stack: its report shows where it was.  before: declarations.
    keys: only protection keys see it."""

    name: str
    body: str
    ends: str
    contexts: tuple[str, ...] = CONTEXTS
    stack: bool = True
    before: str = ""
    keys: bool = False


PROCESS = ("process",)

EVERYWHERE = [
    Way("read_null", "return *(volatile long *)0;", "oops"),
    Way("write_null", "*(volatile long *)8 = 1; return 0;", "oops"),
    Way("read_wild", "return *(volatile long *)0x700000000000;", "oops"),
    Way("write_wild", "*(volatile long *)0x700000000000 = 1; return 0;", "wild-write"),
    Way("read_non_canonical", "return *(volatile long *)0xdead000000000000;", "oops"),
    Way("write_text", "*(volatile long *)schedule = 1; return 0;", "wild-write"),
    Way("jump_null", "return ((long (*)(void))0)();", "oops"),
    Way("jump_wild", "return ((long (*)(void))0x700000000000)();", "oops"),
    Way("jump_data", "return ((long (*)(void))high_memory - 4096)();", "oops"),
    Way("bug", "BUG(); return 0;", "panic"),
    Way("panic_", 'panic("on purpose"); return 0;', "panic"),
    Way("warn", 'WARN(1, "on purpose"); return 0;', "warning"),
    Way("undefined", 'asm volatile("ud2"); return 0;', "oops"),
    Way("divide", "{ volatile int zero = 0; return 100 / zero; }", "oops"),
    Way("breakpoint", 'asm volatile("int3"); return 0;', "oops"),
    Way("halt_instruction", 'asm volatile("hlt"); return 0;', "oops"),
    Way("interrupts_instruction", 'asm volatile("cli"); return 0;', "oops"),
    Way("loop", "for (;;) barrier();", "lockup"),
    Way("loop_on_the_clock", "for (;;) sched_clock();", "lockup"),
    Way("recursion", "return recurse(1);", "stack-overflow"),
    Way("forbidden_call", "return machine(SYS_OPEN, 0, 0, 0);", "sandbox"),
    Way("frame_pointer_lost", 'asm volatile("xor %%ebp, %%ebp; movl $1, 8" ::: "memory");'
        "return 0;", "oops"),
    Way("stack_pointer_lost", 'asm volatile("mov $0x1234, %%rsp; push %%rax" ::: "memory");'
        "return 0;", "wild-write"),
    Way("direction", 'asm volatile("std"); return 0;', "oops wild-write silent"),
]  # fmt: skip

SIZES = [256, 1024, 2048, 3072]
PRIVILEGED = {
    "in": "in $0x80, %%al", "out": "out %%al, $0x80", "rdmsr": "xor %%ecx, %%ecx; rdmsr",
    "wrmsr": "xor %%ecx, %%ecx; wrmsr", "mov_cr0": "mov %%cr0, %%rax",
    "set_cr0": "mov %%rax, %%cr0", "mov_cr3": "mov %%cr3, %%rax", "mov_dr7": "mov %%rax, %%dr7",
    "lgdt": "lgdt (%%rsp)", "lidt": "lidt (%%rsp)", "ltr": "ltr %%ax", "invlpg": "invlpg (%%rsp)",
    "wbinvd": "wbinvd", "clts": "clts", "swapgs": "swapgs", "sysret": "sysretq",
    "sti": "sti", "iretq": "xor %%eax, %%eax; push %%rax; push %%rax; push %%rax; push %%rax; "
    "push %%rax; iretq", "int_4": "int $4", "int_0x21": "int $0x21",
    "int_0x81": "int $0x81", "icebp": ".byte 0xf1", "load_ss": "mov $0x33, %%eax; mov %%ax, %%ss; "
    "xor %%eax, %%eax; mov %%ax, %%ss", "load_ds": "mov $0xfff0, %%eax; mov %%ax, %%ds",
    "far_return": "push $0xfff0; push $0; lretq", "xsetbv": "xor %%ecx, %%ecx; xsetbv",
}  # fmt: skip
CALLS = {"open": 2, "socket": 41, "execve": 59, "fork": 57, "kill": 62, "ptrace": 101, "exit": 60,
         "exit_group": 231, "rt_sigprocmask": 14, "rt_sigaction": 13, "sigaltstack": 131,
         "munmap": 11, "mmap": 9, "mprotect_exec": 10, "ioctl": 16, "tkill": 200, "pause": 34,
         "arch_prctl": 158, "modify_ldt": 154, "seccomp": 317, "getpid": 39}  # fmt: skip

ONCE = [
    # memory and the allocator
    Way("write_image_header", "*(volatile long *)0x200000000 = 1; return 0;", "wild-write"),
    Way("run_of_zeros", "memset((void *)schedule, 0, 1 << 20); return 0;", "wild-write"),
    Way("copy_of_nowhere", "memcpy(high_memory - 8192, (void *)0x123456789000, 64); return 0;",
        "oops"),
    Way("string_of_nowhere", "return strlen((char *)0x123456789000);", "oops"),
    Way("free_wild", "kfree((void *)0x123456789000); return 0;", "oops"),
    Way("free_static", "kfree(&jiffies); return 0;", "warning silent oops panic"),
    Way("free_twice", "{ void *p = kmalloc(64, GFP_KERNEL); kfree(p); kfree(p); "
        "p = kmalloc(64, GFP_KERNEL); return p == kmalloc(64, GFP_KERNEL); }",
        "panic oops silent"),
    Way("allocator_smashed", "{ long i; for (i = 0; i < 64; i++) { long *p = kmalloc(64, "
        "GFP_KERNEL); memset(p, 0x41, 64); kfree(p); memset(p, 0x41, 64); } for (i = 0; i < 64; "
        "i++) memset(kmalloc(64, GFP_KERNEL), 0, 64); return 0; }", "oops wild-write panic"),
    Way("delete_twice", "{ struct list_head l; LIST_HEAD(h); list_add(&l, &h); list_del(&l); "
        "list_del(&l); return 0; }", "oops warning panic"),
    Way("reference_below_zero", "{ refcount_t r = REFCOUNT_INIT(0); refcount_dec(&r); return 0; }",
        "warning"),
    Way("reference_of_nothing", "{ refcount_t r = REFCOUNT_INIT(0); refcount_inc(&r); return 0; }",
        "warning"),
    Way("all_memory", "while (kmalloc(1 << 16, GFP_KERNEL | __GFP_NOFAIL)) ; return 0;",
        "panic oops lockup warning deadlock"),
    Way("page_freed_twice", "{ struct page *p = alloc_page(GFP_KERNEL); __free_page(p); "
        "__free_page(p); return 0; }", "silent warning panic oops"),
    # what isn't its own
    Way("write_host_kernels", "*(volatile long *)0x1e0000000 ^= 1; return 0;", "wild-write",
        keys=True),
    Way("write_host_stack", "memset((void *)0x1f0000000, 0x41, 1 << 20); return 0;", "wild-write",
        keys=True),
    Way("write_shared_header", "memset((void *)0x20000000000, 0x41, 4096); return 0;", "wild-write",
        keys=True),
    Way("write_reports", "memset((void *)0x20003100000, 0x41, 4096); return 0;", "wild-write",
        keys=True),
    Way("write_captures", "memset((void *)0x20003190000, 0x41, 1 << 20); return 0;", "wild-write",
        keys=True),
    Way("write_host_program", "*(volatile long *)0x555555554000 = 1; return 0;", "wild-write"),
    Way("write_constants", "*(volatile long *)linux_banner = 1; return 0;", "wild-write",
        before="extern const char linux_banner[];"),
    # its own state
    Way("current_wild", "lib_current = (void *)0x700000000000; return 0;", "oops wild-write"),
    Way("bounds_of_stack_wild", "memset((void *)lib_state + 8, 0xff, 16); return *(long *)8;",
        "oops", before="extern char lib_state[];"),
    Way("pretends_idle_and_loops", "*(long *)(lib_state + 24) = 0; for (;;) barrier();", "lockup",
        before="extern char lib_state[];"),
    Way("clock_event_at_zero", "lib_deadline = 1; lib_set = 0; for (;;) lib_deadline = 1, "
        "schedule_timeout_uninterruptible(1);", "lockup deadlock",
        before="extern unsigned long lib_deadline; static int lib_set;"),
    Way("run_queue_zeroed", "memset(&runqueues, 0, 512); schedule_timeout_uninterruptible(1); "
        "return 0;", "oops wild-write panic lockup", before="extern char runqueues[];"),
    Way("operations_zeroed", 'memset(lib_host, 0, 112); printk("nobody hears\\n"); return 0;',
        "oops", before="extern char lib_host[];"),
    Way("operations_wild", 'memset(lib_host, 0x41, 112); printk("nobody hears\\n"); return 0;',
        "oops", before="extern char lib_host[];"),
    # the host's operations, with arguments that can't be
    Way("console_of_nowhere", "OP(4, void *, unsigned)(0, (void *)0x700000000000, 64); return 0;",
        "oops"),
    Way("entropy_to_nowhere", "OP(5, void *, unsigned)(0, (void *)0x700000000000, 64); return 0;",
        "wild-write oops"),
    Way("frame_without_end", "OP(8, int, void *, unsigned)(0, 0, high_memory - 4096, 0x7fffffff); "
        "return 0;", "oops"),
    Way("frame_of_nowhere", "OP(8, int, void *, unsigned)(0, 0, (void *)0x700000000000, 64); "
        "return 0;", "oops"),
    Way("frame_by_no_device", "OP(8, int, void *, unsigned)(0, 0x7fffffff, high_memory - 4096, 64);"
        " return 0;", "oops"),
    Way("stack_of_nowhere", "OP(9, void *)(0, (void *)0x700000000000); return 0;", "oops"),
    Way("stack_unaligned", "OP(9, void *)(0, high_memory - 4097); return 0;", "oops"),
    Way("crash_by_nowhere", "OP(11, unsigned, void *)(0, 1, (void *)0x700000000000); return 0;",
        "oops panic"),
    Way("operation_of_another", "OP(4, void *, unsigned)((void *)8, \"hello\\n\", 6); return 0;",
        "silent"),
    # registers and flags
    Way("stack_pointer_non_canonical", 'asm volatile("mov $0xdead, %%rax; shl $48, %%rax; '
        'mov %%rax, %%rsp; push %%rax" ::: "rax"); return 0;', "oops"),
    Way("stack_pointer_zero", 'asm volatile("xor %%esp, %%esp; call schedule" ::: "memory");'
        "return 0;", "wild-write"),
    Way("stack_pointer_in_the_host", 'asm volatile("mov $0x1f0000800, %%rsp; movl $1, 8" ::: '
        '"memory"); return 0;', "oops wild-write"),
    Way("frame_pointer_wild", 'asm volatile("mov $0x4141, %%ebp; movl $1, 8" ::: "memory"); '
        "return 0;", "oops"),
    Way("return_smashed", "{ volatile long *frame = __builtin_frame_address(0); "
        "frame[1] = 0x414141414141; return 0; }", "oops"),
    Way("frame_smashed", "{ volatile long *frame = __builtin_frame_address(0); frame[0] = 0x4141; "
        "frame[1] = 0x4141; return 0; }", "oops"),
    Way("single_step", 'asm volatile("pushfq; orl $0x100, (%%rsp); popfq; nop" ::: "memory"); '
        "return 0;", "oops"),
    Way("alignment_checked", "{ long v[2]; asm volatile(\"pushfq; orl $0x40000, (%%rsp); popfq\" "
        "::: \"memory\"); return *(volatile long *)((char *)v + 1); }", "oops"),
    Way("alignment_left_on", 'asm volatile("pushfq; orl $0x40000, (%%rsp); popfq" ::: "memory"); '
        "return 0;", "oops"),
    Way("fs_base", 'asm volatile("wrfsbase %0" :: "r"(0x4141414141L)); return *(long *)8;', "oops"),
    Way("fs_base_left", 'asm volatile("wrfsbase %0" :: "r"(0x4141414141L)); return 0;', "oops"),
    Way("fs_zeroed", 'asm volatile("mov %0, %%fs" :: "r"(0)); return *(long *)8;', "oops"),
    Way("sse_unmasked", '{ int x = 0; asm volatile("ldmxcsr %0" :: "m"(x)); return 0; }', "oops"),
    Way("x87_divides", '{ short x = 0x40; asm volatile("fldcw %0; fldz; fld1; .byte 0xde, 0xf1; '
        'fwait" :: "m"(x)); return 0; }', "oops"),
    # calls of the machine
    Way("interrupt_0x80", 'asm volatile("int $0x80" :: "a"(20)); return 0;', "sandbox oops"),
    Way("sysenter", 'asm volatile("push %%rbp; mov %%rsp, %%rbp; sysenter" :: "a"(20)); return 0;',
        "sandbox oops", stack=False),
    Way("sigreturn", "return machine(15, 0, 0, 0);", "sandbox"),
    Way("exit_code_of_the_host", "return ((long (*)(void))0x555555554000)();", "oops"),
    # ends
    Way("restart", 'kernel_restart("on purpose"); return 0;', "halt"),
    Way("emergency_restart_", "emergency_restart(); return 0;", "halt"),
    Way("power_off", "kernel_power_off(); return 0;", "halt"),
    Way("halt", "kernel_halt(); return 0;", "halt"),
    Way("exit_of_init", "do_exit(9); return 0;", "panic"),
    # waits
    Way("mutex_of_ones_own", "{ static DEFINE_MUTEX(m); mutex_lock(&m); mutex_lock(&m); "
        "return 0; }", "deadlock"),
    Way("rwsem_of_ones_own", "{ static DECLARE_RWSEM(s); down_read(&s); down_write(&s); "
        "return 0; }", "deadlock"),
    Way("semaphore_of_ones_own", "{ static struct semaphore s; sema_init(&s, 1); down(&s); "
        "down(&s); return 0; }", "deadlock"),
    Way("completion", "{ DECLARE_COMPLETION_ONSTACK(c); wait_for_completion(&c); return 0; }",
        "deadlock"),
    Way("completion_killable", "{ DECLARE_COMPLETION_ONSTACK(c); return "
        "wait_for_completion_killable(&c); }", "deadlock"),
    Way("completion_interruptible", "{ DECLARE_COMPLETION_ONSTACK(c); return "
        "wait_for_completion_interruptible(&c); }", "deadlock"),
    Way("sleep_for_ever", "for (;;) { set_current_state(TASK_UNINTERRUPTIBLE); schedule(); }",
        "deadlock"),
    Way("sleep_with_softirqs_off", "local_bh_disable(); msleep(10); local_bh_enable(); return 0;",
        "warning"),
    Way("softirqs_left_off", "local_bh_disable(); return 0;", "warning"),
    Way("interrupts_left_off", "local_irq_disable(); return 0;", "warning"),
    Way("waits_for_jiffies_with_interrupts_off", "{ long end = jiffies + 10; local_irq_disable(); "
        "while (time_before(jiffies, end)) barrier(); return 0; }", "lockup"),
    # talk
    Way("flood", "{ int i; for (i = 0; i < 20000; i++) "
        "printk(\"flood flood flood flood %d\\n\", i); return 0; }", "silent lie"),
    Way("flood_and_fault", "{ int i; for (i = 0; i < 20000; i++) "
        "printk(\"flood flood flood %d\\n\", i); return *(long *)8; }", "oops"),
    Way("escapes", 'printk("\\033[31m\\033]0;title\\007red\\n"); BUG(); return 0;', "panic"),
    Way("oops_in_words", 'printk("BUG: on purpose\\n"); return 0;', "warning"),
]  # fmt: skip

ONCE += [
    Way(f"recursion_{size}", f"return recurse_{size}(1);", "stack-overflow",
        before=f"static noinline long recurse_{size}(long n) {{ volatile char room[{size}]; "
        f"room[n % {size}] = n; return n ? n + recurse_{size}(n + 1) + room[0] : 0; }}")
    for size in SIZES
]  # fmt: skip
ONCE += [
    Way(f"instruction_{name}", f'asm volatile("{code}" ::: "rax", "rcx", "rdx", "memory"); '
        "return 0;", "oops", stack=name not in ("iretq", "far_return", "sysret"))
    for name, code in PRIVILEGED.items()
]  # fmt: skip
# What comes of it is up to the machine's hypervisor: some answer any program.
ONCE += [Way("instruction_vmcall", 'asm volatile("vmcall" ::: "rax", "memory"); return 0;',
             "oops silent")]  # fmt: skip
ONCE += [
    Way(f"call_{name}", f"return machine({number}, 0x1000, 4096, 5);", "sandbox")
    for name, number in CALLS.items()
]
WAYS = EVERYWHERE + [way._replace(contexts=PROCESS) for way in ONCE]

FRAME = """
#include <linux/rwsem.h>
#include <linux/semaphore.h>
#define SYS_OPEN 2
/* An operation of struct lib_host_ops, by its place behind the first two words. */
#define OP(n, ...) ((void (*)(void *, __VA_ARGS__))((void **)lib_host)[n])
extern char lib_host[];
static long machine(long nr, long a, long b, long c)
{
	long ret;

	asm volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c)
			:"rcx", "r11", "memory");
	return ret;
}
static noinline long recurse(long n)
{
	volatile char room[128];

	room[n % 128] = n;
	return n ? n + recurse(n + 1) + room[0] : 0;
}
"""
ENTRIES = """
static long (*way)(void);
static long result;
static DECLARE_COMPLETION(over);
static int in_thread(void *unused) { result = way(); complete(&over); return 0; }
static void in_work(struct work_struct *unused) { result = way(); complete(&over); }
static DECLARE_WORK(work, in_work);
static void in_timer(struct timer_list *unused) { result = way(); complete(&over); }
static DEFINE_TIMER(timer, in_timer);
static enum hrtimer_restart in_hrtimer(struct hrtimer *unused)
{
	result = way();
	complete(&over);
	return HRTIMER_NORESTART;
}
static struct hrtimer hrtimer;
static void in_tasklet(struct tasklet_struct *unused) { result = way(); complete(&over); }
static DECLARE_TASKLET(tasklet, in_tasklet);

long process(long (*fn)(void)) { return fn(); }
static long wait(void) { wait_for_completion(&over); return result; }
long kthread(long (*fn)(void)) { way = fn; kthread_run(in_thread, NULL, "failing"); return wait(); }
long work_(long (*fn)(void)) { way = fn; schedule_work(&work); return wait(); }
long timer_(long (*fn)(void)) { way = fn; mod_timer(&timer, jiffies + 2); return wait(); }
long hrtimer_(long (*fn)(void))
{
	way = fn;
	hrtimer_init(&hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	hrtimer.function = in_hrtimer;
	hrtimer_start(&hrtimer, 1000000, HRTIMER_MODE_REL);
	return wait();
}
long tasklet_(long (*fn)(void)) { way = fn; tasklet_schedule(&tasklet); return wait(); }
"""
ENTRY = {"process": "process", "kthread": "kthread", "work": "work_", "timer": "timer_",
         "hrtimer": "hrtimer_", "tasklet": "tasklet_"}  # fmt: skip


def source() -> str:
    """All ways, as functions w_NAME(), and an entry for each context."""
    before = dict.fromkeys(way.before for way in WAYS if way.before)
    functions = [f"long w_{way.name}(void) {{ {way.body} }}" for way in WAYS]
    return "\n".join([FRAME, *before, *functions, ENTRIES])
