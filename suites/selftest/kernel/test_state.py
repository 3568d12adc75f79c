# SPDX-License-Identifier: GPL-2.0
"""Snapshots, seen from Python: what is older lives, what is younger says that it is no more."""

from __future__ import annotations

import socket

import pytest

from anykernel.errors import Deadlock, UsageError
from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import Kernel
from suites.selftest.kernel import fake


@pytest.fixture
def pair() -> tuple[Kernel, fake.FakeInstance]:
    return fake.kernel()


@pytest.fixture
def kernel(pair: tuple[Kernel, fake.FakeInstance]) -> Kernel:
    return pair[0]


@pytest.fixture
def instance(pair: tuple[Kernel, fake.FakeInstance]) -> fake.FakeInstance:
    return pair[1]


def test_an_older_socket_lives(kernel: Kernel) -> None:
    sock = kernel.socket()
    snapshot = kernel.snapshot()
    for _ in range(3):
        kernel.restore(snapshot)
        sock.listen()


def test_a_younger_socket_says_so(kernel: Kernel, instance: fake.FakeInstance) -> None:
    snapshot = kernel.snapshot()
    sock = kernel.socket()
    sock.listen()
    kernel.restore(snapshot)
    with pytest.raises(UsageError, match="restored away"):
        sock.listen()
    asked = len(instance.calls)
    sock.close()
    assert len(instance.calls) == asked, "its number may be another socket's by now"


def test_closing_a_younger_file_or_leaving_its_block_is_fine(
    kernel: Kernel, instance: fake.FakeInstance
) -> None:
    snapshot = kernel.snapshot()
    with kernel.socket(), kernel.open("/x", "wb"):
        kernel.restore(snapshot)
        asked = len(instance.calls)
    assert NUMBERS["close"] not in instance.calls[asked:]


def test_snapshots_nest(kernel: Kernel) -> None:
    outer = kernel.snapshot()
    first = kernel.socket()
    inner = kernel.snapshot()
    second = kernel.socket()
    kernel.restore(inner)
    first.listen()
    with pytest.raises(UsageError):
        second.listen()
    kernel.restore(outer)
    with pytest.raises(UsageError):
        first.listen()
    with pytest.raises(UsageError, match="no snapshot 2"):
        kernel.restore(inner)


@pytest.mark.parametrize("number", [0, -1, 1, 99])
def test_a_snapshot_that_never_was(kernel: Kernel, number: int) -> None:
    with pytest.raises(UsageError, match=f"no snapshot {number}"):
        kernel.restore(number)


def test_a_snapshot_after_a_restore(kernel: Kernel) -> None:
    outer = kernel.snapshot()
    kernel.snapshot()
    kernel.restore(outer)
    sock = kernel.socket()
    inner = kernel.snapshot()
    kernel.restore(inner)
    sock.listen()


def test_devices_come_and_go(kernel: Kernel) -> None:
    eth0 = kernel.add_netdev("eth0", up=False)
    snapshot = kernel.snapshot()
    eth1 = kernel.add_netdev("eth1", up=False)
    assert set(kernel.netdevs) == {"eth0", "eth1"}
    kernel.restore(snapshot)
    assert set(kernel.netdevs) == {"eth0"}
    eth0.inject(b"x")
    with pytest.raises(UsageError, match="restored away"):
        eth1.inject(b"x")
    assert kernel.add_netdev("eth1", up=False).mac == eth1.mac, "the same as the first time"


def test_the_log_goes_back(kernel: Kernel, instance: fake.FakeInstance) -> None:
    instance.written = b"[    0.100000] boot\n"
    snapshot = kernel.snapshot()
    instance.written += b"[    0.200000] WARNING: no good\n"
    assert kernel.log.failures()
    kernel.restore(snapshot)
    instance.written = instance.written[:20]
    assert not kernel.log.failures() and len(kernel.log) == 1


def test_a_process_of_a_younger_state(kernel: Kernel) -> None:
    older = kernel.fork()
    snapshot = kernel.snapshot()
    younger = kernel.fork()
    kernel.restore(snapshot)
    older.os.getpid()
    with pytest.raises(UsageError, match="restored away"):
        younger.os.getpid()


def test_the_first_process_cannot_end(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="first process"):
        kernel.exit()


def test_other_calls_tell_what_they_want(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="submit"):
        kernel.submit(print, "x")
    with pytest.raises(UsageError, match="at most 6"):
        kernel.syscall("getpid", *range(7))
    with pytest.raises(UsageError, match="getpid"):
        kernel.syscall("getpdi")


def test_what_happened_to_the_kernel_says_in_which_call(
    kernel: Kernel, instance: fake.FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = kernel.socket()

    def stuck(nr: int, *args: int, task: int = 0, timeout: float | None = None) -> int:
        raise Deadlock("system call 45 blocks", "task list")

    monkeypatch.setattr(instance, "syscall", stuck)
    with pytest.raises(Deadlock) as raised:
        sock.recv(1)
    (note,) = raised.value.__notes__
    assert "recvfrom()" in note and "Kernel 6.1.0-fake" in note


def test_the_clock(kernel: Kernel, instance: fake.FakeInstance) -> None:
    began = kernel.clock.now
    assert kernel.clock.advance(1.5) == kernel.clock.now == began + 1_500_000_000
    assert kernel.clock.seconds == kernel.clock.now / 1e9
    assert kernel.clock.run_until_idle(2) == began + 3_500_000_000
    for wrong in (-1, -0.1):
        with pytest.raises(UsageError):
            kernel.clock.advance(wrong)
        with pytest.raises(UsageError):
            kernel.clock.run_until_idle(wrong)


def test_socket_of_the_listener_is_family_default(kernel: Kernel) -> None:
    sock = kernel.socket()
    assert (sock.family, sock.type, sock.gettimeout()) == (socket.AF_INET, socket.SOCK_STREAM, None)
