# SPDX-License-Identifier: GPL-2.0
"""Times that are none, too long or endless, wherever one can be given."""

from __future__ import annotations

import math
import socket
import struct
from typing import Any

import pytest

from anykernel.errors import Deadlock, UsageError
from anykernel.host.times import MOST, nanoseconds, timeout_ns
from anykernel.kernel import Kernel

NONE = [math.nan, "5", b"5", None, object()]
ENDLESS = [math.inf, 1e15, 1e300, 10**400, 2**64 / 1e9]


def test_nanoseconds() -> None:
    assert nanoseconds(0) == 0 and nanoseconds(1.5) == 1_500_000_000 and nanoseconds(2) == 2 * 10**9
    assert nanoseconds(MOST // 10**9) == MOST
    assert timeout_ns(None) is None and timeout_ns(-1) == 0 and timeout_ns(0.25) == 250_000_000
    assert timeout_ns(1, MOST - 10**9) == 10**9 and timeout_ns(2, MOST - 10**9) is None
    assert all(timeout_ns(value) is None for value in ENDLESS)


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_time(kernel: Kernel, value: Any) -> None:
    near, _far = kernel.socketpair()
    call = kernel.submit(near.recv, 1)
    for use in (kernel.clock.advance, kernel.clock.run_until_idle):
        with pytest.raises(UsageError, match="is a number of seconds, not"):
            use(value)
    if value is not None:
        with pytest.raises(UsageError, match="a timeout is a number of seconds, not"):
            call.result(value)
        with pytest.raises(UsageError, match="a timeout is a number of seconds, not"):
            kernel.syscall("getpid", timeout=value)
    with pytest.raises(UsageError, match="can't be negative"):
        kernel.clock.run_until_idle(-1)


@pytest.mark.parametrize("value", ENDLESS)
def test_what_is_too_long(kernel: Kernel, value: float) -> None:
    before = kernel.clock.now
    with pytest.raises(UsageError, match=r"the time to pass is too long .* 200 years"):
        kernel.clock.advance(value)
    with pytest.raises(UsageError, match="the limit is too long"):
        kernel.clock.run_until_idle(value)
    assert kernel.clock.now == before


def test_nan_and_sockets(kernel: Kernel) -> None:
    """As Python's own: ValueError; the timeout of before stays."""
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(3)
    for value in (math.nan, -1, -math.inf):
        with pytest.raises(ValueError, match="Timeout value out of range"):
            sock.settimeout(value)
    assert sock.gettimeout() == 3
    poll, epoll = kernel.poll(), kernel.epoll()
    for wait in (poll.poll, epoll.poll, lambda value: kernel.select([sock], [], [], value)):
        with pytest.raises(UsageError, match="a timeout is a number of seconds"):
            wait(math.nan)


@pytest.mark.parametrize("value", [math.inf, 1e15, 2**64 / 1e9])
def test_an_endless_timeout_is_as_none(kernel: Kernel, value: float) -> None:
    """What comes ends the call; where nothing can come, that is said."""
    near, far = kernel.socketpair()
    near.settimeout(value)
    poll, epoll = kernel.poll(), kernel.epoll()
    poll.register(near, 1)
    epoll.register(near, 1)
    reading = kernel.submit(near.recv, 1)
    kernel.clock.advance(5)
    assert not reading.done()
    far.send(b"x")
    assert reading.result(value) == b"x"
    with pytest.raises(Deadlock):
        near.recv(1)
    waits = (
        lambda: poll.poll(value * 1000),
        lambda: epoll.poll(value),
        lambda: kernel.select([near], [], [], value),
    )
    for wait in waits:
        with pytest.raises(Deadlock):
            wait()
    far.send(b"y")
    assert kernel.select([near], [], [], value) == ([near], [], [])
    assert poll.poll(value) == epoll.poll(value) == [(near.fileno(), 1)]


def test_long_waits_of_epoll(kernel: Kernel) -> None:
    """Its older call counts milliseconds in 31 bits."""
    near, _far = kernel.socketpair()
    epoll = kernel.epoll()
    epoll.register(near, 1)
    before = kernel.clock.seconds
    call = kernel.submit(epoll.poll, 5_000_000)  # 58 days
    kernel.clock.advance(4_999_000)
    assert not call.done()
    kernel.clock.advance(2000)
    assert call.result() == []
    assert kernel.clock.seconds - before == pytest.approx(5_001_000)


def test_a_short_sleep_after_a_long_time(kernel: Kernel) -> None:
    kernel.clock.advance(30 * 86_400)
    before = kernel.clock.seconds
    kernel.syscall("nanosleep", struct.pack("=qq", 5, 0), None)
    assert 5 <= kernel.clock.seconds - before < 5.1
