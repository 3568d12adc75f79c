# SPDX-License-Identifier: GPL-2.0
"""Programs of a network wait for as long as a kernel has a timer that may wake one."""

from __future__ import annotations

import errno
import math
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import Deadlock

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network

DAY = 86400


def test_a_keepalive_of_nine_hours(network: Network) -> None:
    a, b = network.chain(2, delay="5ms")
    network.address()

    def server(process: Process) -> Any:
        listener = process.socket()
        listener.bind(("", 80))
        listener.listen()
        kept = listener.accept()
        listener.accept()  # for ever
        return kept

    def client(process: Process) -> int | None:
        sock = process.socket()
        sock.connect(("10.0.0.2", 80))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, 32000),
            (socket.TCP_KEEPINTVL, 100),
            (socket.TCP_KEEPCNT, 3),
        ):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        network.sleep(1)
        network.links[0].down()
        try:
            sock.recv(1)
        except OSError as error:
            return error.errno
        return None

    network.start(server, on=b)
    task = network.start(client, on=a)
    begin = network.seconds
    network.run_until(lambda: task.done)
    assert task.result == errno.ETIMEDOUT
    assert network.seconds - begin == pytest.approx(32000, rel=0.2)


def test_a_call_of_months_among_programs(network: Network) -> None:
    a = network.node("a")

    def sleeper(process: Process) -> int:
        return process.syscall("nanosleep", struct.pack("qq", 90 * DAY, 0), None)

    task = network.start(sleeper, on=a)
    begin = network.seconds
    network.run(limit=math.inf)
    assert task.result == 0
    assert network.seconds - begin == pytest.approx(90 * DAY, abs=1)


def test_a_direct_call_of_days(network: Network) -> None:
    a = network.node("a")
    begin = network.seconds
    assert a.syscall("nanosleep", struct.pack("qq", 3 * DAY, 0), None) == 0
    assert network.seconds - begin == pytest.approx(3 * DAY, abs=1)


def test_what_no_timer_can_wake(network: Network) -> None:
    a, b = network.chain(2, delay="5ms")
    network.address()

    def waits(process: Process) -> bytes:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 7))
        return sock.recv(1)

    network.start(waits, on=b)
    with pytest.raises(Deadlock, match="no kernel has a timer that may"):
        network.run(limit=math.inf)
    with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 8))
        with pytest.raises(Deadlock, match="no kernel has a timer that may"):
            sock.recv(1)
