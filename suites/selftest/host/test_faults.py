# SPDX-License-Identifier: GPL-2.0
"""What a kernel does wrong ends as a report, and a snapshot brings it back."""

from __future__ import annotations

import errno
import time

import pytest

from anykernel.errors import KernelCrash
from anykernel.host import CrashReport, Host, Instance
from suites.selftest.host.conftest import HostFactory
from suites.selftest.host.fake import Fake

NOWHERE = 0x7000_0000_0000
OPEN, SOCKET, EXECVE, MMAP = 2, 41, 59, 9


def crash(instance: Instance, nr: Fake, *args: int) -> CrashReport:
    with pytest.raises(KernelCrash) as caught:
        instance.syscall(nr, *args)
    assert instance.crash is not None
    assert instance.crash.kind == caught.value.report.kind
    return caught.value.report


def functions(report: CrashReport) -> list[str]:
    return [frame.split("+")[0] for frame in report.frames]


@pytest.mark.parametrize(
    ("request_", "args", "kind"),
    [
        (Fake.POKE, (NOWHERE, 1), "wild write"),
        (Fake.PEEK, (NOWHERE,), "oops"),
        (Fake.PEEK, (8,), "oops"),
        (Fake.POKE, (8, 1), "oops"),
        (Fake.JUMP, (NOWHERE,), "oops"),
        (Fake.ILLEGAL, (), "oops"),
        (Fake.DIVIDE, (), "oops"),
        (Fake.RECURSE, (), "stack overflow"),
        (Fake.PANIC, (), "panic"),
        (Fake.HALT, (), "halt"),
        (Fake.MACHINE, (OPEN, 0, 0, 0), "sandbox"),
    ],
)
@pytest.mark.parametrize("saved", [False, True], ids=["booted", "snapshotted"])
def test_kinds(
    instance: Instance, request_: Fake, args: tuple[int, ...], kind: str, saved: bool
) -> None:
    if saved:
        instance.snapshot()
    report = crash(instance, request_, *args)
    assert report.kind == kind
    assert report.comm == "fake" and report.pid == 1
    assert kind in report.render()
    assert "fake kernel" in report.render(), "the console's tail is part of the report"


def test_address_and_stack(instance: Instance) -> None:
    report = crash(instance, Fake.POKE, NOWHERE, 1)
    assert report.address == NOWHERE
    assert functions(report)[-1] == "fiber"
    assert "fakekernel.c:" in report.render()


def test_overflow_names_the_function(instance: Instance) -> None:
    report = crash(instance, Fake.RECURSE)
    assert functions(report)[:3] == ["recurse"] * 3


def test_jump_shows_where_from(instance: Instance) -> None:
    assert "fiber" in functions(crash(instance, Fake.JUMP, NOWHERE))


def test_text_is_not_writable(instance: Instance) -> None:
    report = crash(instance, Fake.POKE, 0x2_0000_0000, 1)
    assert report.kind == "wild write"


def test_write_into_the_other_kernel(start: HostFactory) -> None:
    first, second = start(kernels=2).instances
    second.snapshot()
    theirs = second.syscall(Fake.RAM, 100)
    crash(first, Fake.POKE, theirs, 1)
    assert second.crash is None
    assert second.syscall(Fake.PEEK, theirs) == 0


def test_bad_user_pointer_is_no_crash(instance: Instance) -> None:
    with instance.user.write((77).to_bytes(8, "little")) as buffer:
        assert instance.syscall(Fake.READ, buffer.address) == 77
    assert instance.syscall(Fake.READ, NOWHERE) == -errno.EFAULT
    assert instance.crash is None


def test_lockup(start: HostFactory) -> None:
    instance = start(budget=0.2).instances[0]
    depth = instance.snapshot()
    began = time.monotonic()
    report = crash(instance, Fake.SPIN)
    assert report.kind == "lockup"
    assert time.monotonic() - began < 5
    assert "execute" in functions(report)
    instance.restore(depth)
    assert instance.syscall(Fake.GLOBAL, 1) == 2


def test_dead_until_restored(host: Host, instance: Instance) -> None:
    depth = instance.snapshot()
    for bad in (Fake.PANIC, Fake.RECURSE, Fake.ILLEGAL):
        crash(instance, bad)
        with pytest.raises(KernelCrash):
            instance.syscall(Fake.GLOBAL, 1)
        with pytest.raises(KernelCrash):
            instance.run()
        assert host.alive
        instance.restore(depth)
        assert instance.crash is None
        assert instance.syscall(Fake.GLOBAL, 1) == 2


def test_crash_of_one_leaves_the_others(start: HostFactory) -> None:
    first, second = start(kernels=2).instances
    crash(first, Fake.PANIC)
    assert second.syscall(Fake.GLOBAL, 4) == 5
    with pytest.raises(KernelCrash):
        first.syscall(Fake.GLOBAL, 1)


@pytest.mark.parametrize("number", [OPEN, SOCKET, EXECVE, MMAP, 57, 62, 101, 321])
def test_sandbox(host: Host, instance: Instance, number: int) -> None:
    """open, socket, execve, mmap, fork, kill, ptrace, bpf: all forbidden, none is executed."""
    depth = instance.snapshot()
    report = crash(instance, Fake.MACHINE, number, 0, 0, 0)
    assert report.kind == "sandbox"
    assert report.address == number
    assert host.alive
    instance.restore(depth)
    assert instance.syscall(Fake.GLOBAL, 1) == 2
