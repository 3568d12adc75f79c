# SPDX-License-Identifier: GPL-2.0
"""Time that a kernel takes for its work: system calls and packets cost some, when that is asked
for, the same in each run."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from anykernel.kernel import Kernel

COST_NS = 1000
COST = COST_NS / 1e9


def test_a_call_takes_its_cost(kernel_factory: Any) -> None:
    kernel = kernel_factory(cost=COST)
    begin = kernel.clock.now
    for _ in range(5):
        kernel.syscall("getppid")
    assert kernel.clock.now - begin == 5 * COST_NS


def test_nothing_costs_anything_unless_asked(kernel: Kernel) -> None:
    begin = kernel.clock.now
    kernel.syscall("getppid")
    assert kernel.clock.now == begin


@pytest.mark.kernel(cost=COST)
def test_frames_take_their_cost(kernel: Kernel) -> None:
    """One is received, one is sent; the clock is read at least once in between."""
    eth0 = kernel.add_netdev(addresses=["10.0.0.1/24"])
    eth0.add_neighbour("10.0.0.2", "02:00:00:00:00:99")
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.l2 import Ether

    ping = bytes(
        Ether(dst=eth0.mac, src="02:00:00:00:00:99") / IP(src="10.0.0.2", dst="10.0.0.1") / ICMP()
    )
    eth0.exchange(ping)
    begin = kernel.clock.now
    assert len(eth0.exchange(ping)) == 1
    passed = kernel.clock.now - begin
    assert COST_NS <= passed <= 2 * COST_NS


def rtt(kernel: Kernel) -> tuple[int, int, int]:
    """Of a connection over lo, whose handshake is one call: smoothed and least RTT, us, and the
    time that its 20 requests and answers took, ns."""
    listener, client = kernel.socket(), kernel.socket()
    listener.bind(("127.0.0.1", 80))
    listener.listen()
    begin = kernel.clock.now
    client.connect(("127.0.0.1", 80))
    server, _ = listener.accept()
    for _ in range(20):
        client.send(b"request")
        server.recv(100)
        server.send(b"answer")
        client.recv(100)
    info = client.tcp_info()
    for sock in (listener, client, server):
        sock.close()
    return info["rtt"], info["min_rtt"], kernel.clock.now - begin


def test_tcp_over_lo_measures_round_trips(kernel_factory: Any) -> None:
    smoothed, least, took = rtt(kernel_factory(cost=COST))
    assert 0 < least <= smoothed < 100
    assert (smoothed, least, took) == rtt(kernel_factory(cost=COST))
    assert rtt(kernel_factory())[0] == 0


def test_a_timer_that_is_due_in_the_middle_runs(kernel_factory: Any) -> None:
    kernel = kernel_factory(cost=COST)
    timer = kernel.syscall("timerfd_create", 1, 0)
    kernel.syscall("timerfd_settime", timer, 0, struct.pack("4q", 0, 0, 0, 10 * COST_NS), None)
    for _ in range(20):
        kernel.syscall("getppid")
    fired = bytearray(8)
    assert kernel.syscall("read", timer, fired, 8) == 8
    assert struct.unpack("Q", fired) == (1,)


@pytest.mark.parametrize("cost", [-1, 1, "1us"])
def test_what_no_cost_is(kernel_factory: Any, cost: Any) -> None:
    with pytest.raises(ValueError, match=r"cost must be a number of seconds from 0 to 0\.001"):
        kernel_factory(cost=cost)
