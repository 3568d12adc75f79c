# SPDX-License-Identifier: GPL-2.0
"""Allocations that fail on purpose, in kernels and units: counted, survived, leaks found."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable

import pytest

from anykernel.errors import KernelCrash, LeakedMemory, UsageError
from anykernel.faults import Fault, failing_allocations
from anykernel.kernel import Kernel
from anykernel.unit import Unit


def repeat(target: Kernel | Unit, action: Callable[[], object], leaks: bool = False) -> None:
    for fault in failing_allocations(target, leaks=leaks):
        with fault:
            action()


def allocator(kernel: Kernel) -> Callable[[int, int], object]:
    """kmalloc(), by its name since 6.10, or before."""
    found: Callable[[int, int], object]
    try:
        found = kernel.inside["__kmalloc_noprof"]
    except UsageError:
        found = kernel.inside["__kmalloc"]
    return found


KMEMLEAK = pytest.mark.kernel(cmdline="kmemleak=on")
GFP_KERNEL = 0xCC0


@KMEMLEAK
def test_a_connection_survives_each_failing_allocation(kernel: Kernel) -> None:
    turns = []
    for fault in failing_allocations(kernel):
        with fault, kernel.socket() as server:
            server.bind(("127.0.0.1", 80))
            server.listen()
            with kernel.socket() as sock:
                sock.connect(("127.0.0.1", 80))
        turns.append(fault)
    assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
    assert [turn.failed for turn in turns] == [1] * (len(turns) - 1) + [0]
    assert turns[-1].error is None
    errors = {turn.error.errno for turn in turns if turn.error}
    assert errors
    # EADDRINUSE: no memory for the port's bucket in the table of ports.
    assert errors <= {errno.ENOMEM, errno.ENOBUFS, errno.ENFILE, errno.EADDRINUSE}


def turns(kernel: Kernel, sticky: bool) -> list[Fault]:
    found = []
    for fault in failing_allocations(kernel, sticky=sticky, leaks=False):
        with fault:
            kernel.open("/tmp/x", "w").close()
        found.append(fault)
    return found


def test_all_from_the_nth_on(kernel: Kernel) -> None:
    once, sticky = turns(kernel, False), turns(kernel, True)
    assert 1 < len(sticky) <= len(once)
    assert all(fault.error for fault in sticky[:-1])
    assert max(fault.failed for fault in once) == 1


@KMEMLEAK
def test_a_leak_of_a_kernel(kernel: Kernel) -> None:
    """What the block loses when its second allocation fails: the first.  (Pages count, too.)"""
    allocate = allocator(kernel)

    def careless() -> None:
        # Large: the places of small ones may be remembered in the allocator's own lists.
        if not allocate(20_000, GFP_KERNEL) or not allocate(20_000, GFP_KERNEL):
            raise OSError(errno.ENOMEM, "no memory")

    with pytest.raises(LeakedMemory, match=r"unreferenced object .*size \d+") as caught:
        repeat(kernel, careless, leaks=True)
    (note,) = caught.value.__notes__
    assert re.match(r"allocation \d+ failed on purpose:", note)
    assert "__kmalloc" in note


@pytest.mark.kernel(allow_crash=True)
def test_an_oops_on_an_error_path(kernel: Kernel) -> None:
    """Somebody who doesn't look whether there was memory."""
    allocate, fill = allocator(kernel), kernel.inside["memset"]

    with pytest.raises(KernelCrash) as caught:
        repeat(kernel, lambda: fill(allocate(64, GFP_KERNEL), 1, 64))
    assert caught.value.report.kind == "oops"
    assert any("allocation 1 failed on purpose" in note for note in caught.value.__notes__)


def test_other_errors_are_the_tests_own(kernel: Kernel) -> None:
    """Nothing failed on purpose in there: it allocates nothing."""
    with pytest.raises(FileNotFoundError):
        repeat(kernel, lambda: kernel.os.rmdir(""))
    with pytest.raises(ValueError, match="of the test"):
        repeat(kernel, fail)


def fail() -> None:
    raise ValueError("of the test")


def test_leaks_need_kmemleak(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match='cmdline="kmemleak=on"'):
        next(failing_allocations(kernel))


def test_a_loop_without_with(kernel: Kernel) -> None:
    turns = failing_allocations(kernel, leaks=False)
    next(turns)
    with pytest.raises(UsageError, match="with fault:"):
        next(turns)


def test_a_unit(unit: Callable[..., Unit]) -> None:
    text = unit("lib/hexdump.c", with_=["mm/util.c"])
    turns = []
    for fault in failing_allocations(text):
        with fault:
            copy = text["kstrdup"]("hello", GFP_KERNEL)
            if copy:
                text["kfree_const"](copy)
        turns.append(bool(copy))
    assert turns == [False, True]


def test_a_leak_of_a_unit(unit: Callable[..., Unit]) -> None:
    text = unit("lib/hexdump.c", with_=["mm/util.c"])

    def careless() -> None:
        text["kstrdup"]("hello", GFP_KERNEL)
        text["kstrdup"]("again", GFP_KERNEL)

    with pytest.raises(LeakedMemory, match="6 bytes"):
        repeat(text, careless, leaks=True)
