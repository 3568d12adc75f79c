# SPDX-License-Identifier: GPL-2.0
"""Virtual time: an hour passes at once; deadlocks are seen."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel import Kernel


def test_an_hours_timeout_takes_no_time(kernel: Kernel) -> None:
    before, wall = kernel.clock.now, time.monotonic()
    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 7))
        sock.settimeout(3600)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert kernel.clock.now - before == pytest.approx(3600e9, rel=1e-3)
    assert time.monotonic() - wall < 5


def test_what_nothing_can_wake_raises_deadlock(kernel: Kernel) -> None:
    from anykernel.errors import Deadlock

    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 7))
        with pytest.raises(Deadlock) as raised:
            sock.recv(1)
    assert raised.value.tasks


def test_the_clock_can_be_advanced(kernel: Kernel) -> None:
    def uptime() -> float:
        with kernel.open("/proc/uptime") as file:
            return float(file.read().split()[0])

    before = uptime()
    kernel.clock.advance(86_400.0)
    assert uptime() - before == pytest.approx(86_400, abs=1)
