# SPDX-License-Identifier: GPL-2.0
"""Signals: handlers, interrupted calls and their restart, as signal(7) has them."""

from __future__ import annotations

import os
import signal
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import UsageError

if TYPE_CHECKING:
    from anykernel.kernel import Kernel, Process

SECOND = 10**9


def alarm(process: Process, seconds: int) -> None:
    """setitimer(ITIMER_REAL), once."""
    process.syscall("setitimer", 0, struct.pack("=qqqq", 0, 0, seconds, 0), None)


def test_a_caught_signal_interrupts_a_blocking_call(kernel: Kernel) -> None:
    kernel.os.sigaction(signal.SIGALRM, "catch")
    pair = kernel.socketpair()
    started = kernel.instance.now
    alarm(kernel, 3)
    with pytest.raises(InterruptedError):
        pair[0].recv(10)
    ((time_ns, number),) = kernel.caught
    assert number == signal.SIGALRM
    assert 3 * SECOND <= time_ns - started < 3.01 * SECOND


def test_sa_restart_goes_on(kernel: Kernel) -> None:
    kernel.os.sigaction(signal.SIGALRM, "catch", restart=True)
    near, far = kernel.socketpair()
    reading = kernel.submit(near.recv, 10)
    alarm(kernel, 1)
    kernel.clock.advance(2)
    assert [number for _, number in kernel.caught] == [signal.SIGALRM]
    assert not reading.done()
    far.send(b"later")
    assert reading.result() == b"later"


@pytest.mark.parametrize("restart", [False, True])
def test_a_sleep_is_never_restarted_behind_a_handler(kernel: Kernel, restart: bool) -> None:
    """signal(7): nanosleep() fails with EINTR whatever SA_RESTART says."""
    kernel.os.sigaction(signal.SIGALRM, "catch", restart=restart)
    alarm(kernel, 1)
    left = bytearray(16)
    with pytest.raises(InterruptedError):
        kernel.syscall("nanosleep", struct.pack("=qq", 10, 0), left)
    seconds, nanoseconds = struct.unpack("=qq", left)
    assert 8.9 < seconds + nanoseconds / SECOND < 9.001  # the timer's slack


def test_a_socket_timeout_is_never_restarted(kernel: Kernel) -> None:
    """signal(7): nor are calls of sockets with SO_RCVTIMEO."""
    kernel.os.sigaction(signal.SIGALRM, "catch", restart=True)
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 5, 0))
    alarm(kernel, 1)
    with pytest.raises(InterruptedError):
        sock.recv(10)


def test_an_ignored_signal_interrupts_nothing(kernel: Kernel) -> None:
    kernel.os.sigaction(signal.SIGALRM, "ignore")
    alarm(kernel, 1)
    started = kernel.instance.now
    kernel.syscall("nanosleep", struct.pack("=qq", 5, 0), None)
    assert kernel.instance.now - started >= 5 * SECOND
    assert kernel.caught == []


def test_the_default_action_ends_a_process(kernel: Kernel) -> None:
    child = kernel.fork()
    pid = child.os.getpid()
    kernel.os.kill(pid, signal.SIGTERM)
    kernel.clock.run_until_idle()
    found, status = kernel.os.waitpid(pid, 0)
    assert found == pid
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_signals_belong_to_their_process(kernel: Kernel) -> None:
    child = kernel.fork()
    child.os.sigaction(signal.SIGUSR1, "catch")
    kernel.os.kill(child.os.getpid(), signal.SIGUSR1)
    kernel.clock.run_until_idle()
    child.os.getpid()
    assert [number for _, number in child.caught] == [signal.SIGUSR1]
    assert kernel.caught == []


def test_a_restore_takes_back_what_was_caught(kernel: Kernel) -> None:
    kernel.os.sigaction(signal.SIGUSR1, "catch")
    snapshot = kernel.snapshot()
    pid = kernel.os.getpid()
    kernel.os.kill(pid, signal.SIGUSR1)
    assert len(kernel.caught) == 1
    kernel.restore(snapshot)
    assert kernel.caught == []


def test_only_the_last_are_kept(kernel: Kernel) -> None:
    kernel.os.sigaction(signal.SIGUSR1, "catch")
    pid = kernel.os.getpid()
    for _ in range(100):
        kernel.os.kill(pid, signal.SIGUSR1)
    assert len(kernel.caught) == 64


def test_sigkill_can_not_be_caught(kernel: Kernel) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.os.sigaction(signal.SIGKILL, "catch")
    with pytest.raises(UsageError, match="one of default, ignore, catch"):
        kernel.os.sigaction(signal.SIGTERM, "cacth")  # type: ignore[arg-type]


def test_timers_that_repeat_end_at_the_limit(kernel: Kernel) -> None:
    kernel.os.sigaction(signal.SIGALRM, "catch")
    kernel.syscall("setitimer", 0, struct.pack("=qqqq", 1, 0, 1, 0), None)
    began = kernel.instance.now
    ended = kernel.clock.run_until_idle(10.5)
    assert began + 10 * SECOND <= ended <= began + 10.5 * SECOND
