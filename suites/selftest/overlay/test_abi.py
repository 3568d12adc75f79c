# SPDX-License-Identifier: GPL-2.0
"""The system call boundary: bad pointers, restarts, delays, the end of tasks."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import ProcessEnded
from anykernel.host import Instance

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

CLONE_THREAD_LIKE = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000  # VM FS FILES SIGHAND THREAD
BAD_POINTERS = (1, 0xDEAD000, 0x7FFF_FFFF_F000, 0xFFFF_8000_0000_0000, (1 << 64) - 8)


@pytest.fixture
def instance(kernel: Kernel) -> Instance:
    found = kernel.instance
    assert isinstance(found, Instance)
    return found


@pytest.mark.parametrize("pointer", BAD_POINTERS, ids=hex)
def test_bad_pointers_are_efault(kernel: Kernel, pointer: int) -> None:
    for name, *arguments in (
        ("uname", pointer),
        ("stat", pointer, pointer),
        ("clock_gettime", 1, pointer),
    ):
        with pytest.raises(OSError) as caught:
            kernel.syscall(str(name), *arguments)
        assert caught.value.errno == errno.EFAULT


def test_kernel_memory_is_no_user_memory(kernel: Kernel) -> None:
    with pytest.raises(OSError) as caught:
        kernel.syscall("uname", 0x200000000)
    assert caught.value.errno == errno.EFAULT


def test_unknown_call_is_enosys(kernel: Kernel) -> None:
    for number in (335, 999, 0xFFFF):
        with pytest.raises(OSError) as caught:
            kernel.syscall(number)
        assert caught.value.errno == errno.ENOSYS


def test_sleep_is_exact_in_virtual_time(kernel: Kernel) -> None:
    before = kernel.instance.now
    kernel.syscall("nanosleep", struct.pack("=qq", 3600, 5), None)
    passed = kernel.instance.now - before
    # The kernel's own timer slack is 50 us.
    assert 3600 * 10**9 + 5 <= passed <= 3600 * 10**9 + 5 + 60_000


def test_cancelled_sleep_is_eintr(instance: Instance) -> None:
    task = instance.spawn(CLONE_THREAD_LIKE)
    buffer = instance.user.write(struct.pack("=qq", 10, 0))
    instance.post(35, buffer.address, 0, task=task)
    assert instance.poll(task) is None
    instance.cancel(task)
    assert instance.poll(task) == -errno.EINTR


def test_spurious_wakeups_do_not_end_a_sleep(kernel: Kernel, instance: Instance) -> None:
    """A request of another task must not wake one that sleeps in the kernel."""
    task = instance.spawn(CLONE_THREAD_LIKE)
    buffer = instance.user.write(struct.pack("=qq", 10, 0))
    instance.post(35, buffer.address, 0, task=task)
    for _ in range(10):
        kernel.syscall("getpid")
        instance.run(instance.now + 1_000_000)
    assert instance.poll(task) is None
    instance.run(instance.now + 11 * 10**9)
    assert instance.poll(task) == 0


def test_tasks_come_and_go(instance: Instance) -> None:
    """More of them than the table has slots."""
    for _ in range(600):
        task = instance.spawn(CLONE_THREAD_LIKE)
        with pytest.raises(ProcessEnded) as caught:
            instance.post(60, 3, task=task)
        assert caught.value.status == 3 << 8  # as wait4() tells
