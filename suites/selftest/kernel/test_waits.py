# SPDX-License-Identifier: GPL-2.0
"""Waits end when the kernel says so, however late; what nothing can wake ends at once."""

from __future__ import annotations

import errno
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import Deadlock

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.background import Call

DAY = 86400
TIMESPEC = struct.Struct("qq")


def test_a_timeout_of_two_days(kernel: Kernel) -> None:
    near, _far = kernel.socketpair()
    near.settimeout(2 * DAY)
    begin = kernel.clock.seconds
    with pytest.raises(TimeoutError):
        near.recv(1)
    assert kernel.clock.seconds - begin == pytest.approx(2 * DAY, abs=1)


@pytest.mark.parametrize("days", [2, 40])
def test_a_sleep_of_days(kernel: Kernel, days: int) -> None:
    begin = kernel.clock.seconds
    assert kernel.syscall("nanosleep", TIMESPEC.pack(days * DAY, 0), None) == 0
    assert kernel.clock.seconds - begin == pytest.approx(days * DAY, abs=1)


def test_a_timer_of_the_wheel(kernel: Kernel) -> None:
    """SO_RCVTIMEO counts in jiffies: the wheel's highest level has steps of hours."""
    near, _far = kernel.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMESPEC.pack(10 * DAY, 0))
    begin = kernel.clock.seconds
    with pytest.raises(BlockingIOError):
        near.recv(1)
    assert kernel.clock.seconds - begin == pytest.approx(10 * DAY, rel=0.125)


def test_a_call_in_the_background(kernel: Kernel) -> None:
    call: Call[int] = kernel.submit("nanosleep", TIMESPEC.pack(2 * DAY, 0), None)
    assert call.result() == 0


def test_a_year_passes(kernel: Kernel) -> None:
    begin = kernel.clock.seconds
    kernel.clock.advance(365 * DAY)
    assert kernel.clock.seconds - begin == pytest.approx(365 * DAY, abs=1)


def test_a_keepalive_of_weeks_whose_peer_is_gone(kernel: Kernel) -> None:
    """After nine hours, four probes in steps of as many: nearly two days."""
    kernel.link_set("lo", state="up")
    listener = kernel.socket()
    listener.bind(("127.0.0.1", 80))
    listener.listen()
    client = kernel.socket()
    client.connect(("127.0.0.1", 80))
    _server, _ = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 32000),
        (socket.TCP_KEEPINTVL, 32000),
        (socket.TCP_KEEPCNT, 4),
    ):
        client.setsockopt(socket.IPPROTO_TCP, option, value)
    kernel.link_set("lo", state="down")
    begin = kernel.clock.seconds
    with pytest.raises(OSError) as caught:
        client.recv(1)
    assert caught.value.errno == errno.ETIMEDOUT
    assert kernel.clock.seconds - begin == pytest.approx(5 * 32000, rel=0.125)


def test_what_nothing_can_wake_is_told_fast(kernel: Kernel) -> None:
    near, _far = kernel.socketpair()
    begin = time.monotonic()
    with pytest.raises(Deadlock, match="nothing can wake it"):
        near.recv(1)
    assert time.monotonic() - begin < 1


def test_timers_that_wake_nobody_for_ever(kernel: Kernel) -> None:
    """A bridge that greets every two seconds, and a timerfd that nobody reads."""
    kernel.link_add("bridge", "br0", stp_state=1)
    kernel.link_set("br0", state="up")
    timer = kernel.syscall("timerfd_create", 1, 0)
    every = struct.pack("qqqq", 3600, 0, 3600, 0)
    assert kernel.syscall("timerfd_settime", timer, 0, every, None) == 0
    near, _far = kernel.socketpair()
    with pytest.raises(Deadlock):
        near.recv(1)
    # They hide no timer that does wake, later than all their chances.
    begin = kernel.clock.seconds
    alarm: Call[int] = kernel.submit("nanosleep", TIMESPEC.pack(100 * DAY, 0), None)
    assert alarm.result() == 0
    assert kernel.clock.seconds - begin == pytest.approx(100 * DAY, abs=1)
