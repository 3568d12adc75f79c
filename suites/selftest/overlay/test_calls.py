# SPDX-License-Identifier: GPL-2.0
"""What a call leaves behind in the kernel, and what becomes of one that is given up."""

from __future__ import annotations

import pytest

from anykernel.errors import Deadlock, KernelWarning
from anykernel.kernel import Kernel
from suites.selftest.inject import Injected

SOURCE = """
#include <linux/rtnetlink.h>
#include <linux/wait.h>
#include <linux/fs.h>
static DECLARE_WAIT_QUEUE_HEAD(never);
static DECLARE_COMPLETION(nobody);
static DEFINE_SPINLOCK(lock);

long irqs(void) { local_irq_disable(); return 1; }
long softirqs(void) { local_bh_disable(); return 2; }
long preemption(void) { preempt_disable(); return 3; }
long held(void) { spin_lock(&lock); return 4; }
long mutex(void) { rtnl_lock(); return 5; }
long mutex_end(void) { rtnl_unlock(); return 6; }

long completion(void) { return wait_for_completion_interruptible(&nobody); }
long event(void) { return wait_event_interruptible(never, 0); }
long swallowed(void) { (void)wait_event_interruptible(never, 0); return 7; }
long other_error(void) { return wait_event_interruptible(never, 0) ? -EIO : 0; }
long timed(void) { return wait_for_completion_interruptible_timeout(&nobody, 2 * HZ); }

/* A read() of its own for an open file. */
static ssize_t read_irqs(struct file *f, char __user *to, size_t n, loff_t *at)
{
	local_irq_disable();
	return 0;
}
static ssize_t read_blocks(struct file *f, char __user *to, size_t n, loff_t *at)
{
	return wait_event_interruptible(never, 0) ? -EIO : 0;
}
static struct file_operations operations;
long install(long file, long blocks)
{
	struct file *f = (struct file *)file;

	operations = *f->f_op;
	operations.read_iter = NULL;
	operations.read = blocks ? read_blocks : read_irqs;
	f->f_op = &operations;
	return 0;
}
"""


@pytest.fixture
def injected(kernel: Kernel) -> Injected:
    return Injected(kernel, SOURCE)


def warnings(kernel: Kernel) -> list[str]:
    return [record.text for record in kernel.log.failures()]


@pytest.mark.kernel(allow_warnings=True)
@pytest.mark.parametrize(
    ("function", "left"), [("irqs", "interrupts off"), ("softirqs", "softirqs off")]
)
def test_what_a_function_leaves_is_a_warning_that_names_it(
    kernel: Kernel, injected: Injected, function: str, left: str
) -> None:
    before = kernel.instance.warnings
    injected(function)
    (said,) = warnings(kernel)
    assert left in said and "the function" in said
    kernel.os.getpid()
    assert kernel.instance.warnings == before + 1, "said once, and put right"
    kernel.clock.advance(1)
    assert len(warnings(kernel)) == 1


@pytest.mark.kernel(flavour="debug", allow_warnings=True)
@pytest.mark.parametrize("function", ["preemption", "held"])
@pytest.mark.slow
def test_where_it_is_counted_preemption_counts(
    kernel: Kernel, injected: Injected, function: str
) -> None:
    injected(function)
    assert "preemption off or a spinlock held" in warnings(kernel)[0]


def test_a_mutex_may_be_held_from_one_function_to_the_next(
    kernel: Kernel, injected: Injected
) -> None:
    injected("mutex")
    injected("mutex_end")
    kernel.add_netdev("eth0")
    assert not warnings(kernel)


def read_file(kernel: Kernel, injected: Injected, blocks: bool) -> bytes:
    from drgn.helpers.linux.fs import fget
    from drgn.helpers.linux.pid import find_task

    with kernel.open("/proc/version", "rb", buffering=0) as opened:
        file = fget(find_task(kernel.prog, 1), opened.fileno())
        injected("install", int(file), blocks)
        return bytes(opened.read(1) or b"")


@pytest.mark.kernel(allow_warnings=True)
def test_a_system_call_is_named(kernel: Kernel, injected: Injected) -> None:
    read_file(kernel, injected, False)
    (said,) = warnings(kernel)
    assert "interrupts off" in said and "system call" in said and "sys_read" in said


@pytest.mark.parametrize("function", ["completion", "event", "swallowed", "other_error"])
def test_a_function_that_nothing_wakes_is_a_deadlock(
    kernel: Kernel, injected: Injected, function: str
) -> None:
    """Whatever it makes of the end of its wait."""
    with pytest.raises(Deadlock):
        injected(function)
    assert injected("timed") == 0, "the next has its time"


def test_a_system_call_that_nothing_wakes_is_a_deadlock(kernel: Kernel, injected: Injected) -> None:
    """Whatever error it makes of that."""
    with pytest.raises(Deadlock):
        read_file(kernel, injected, True)


def test_it_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from suites.selftest.inject import Injected

        def test_one(kernel):
            Injected(kernel, "long go(void) { local_irq_disable(); return 0; }")("go")
        """
    )
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{KernelWarning.__name__}*", "*left behind: interrupts off*"])
