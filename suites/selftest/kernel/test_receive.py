# SPDX-License-Identifier: GPL-2.0
"""Running to the next frame, and to the end of calls: both at their moments of virtual time."""

from __future__ import annotations

import errno
import socket
from itertools import pairwise

import pytest
from scapy.layers.inet import TCP

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.kernel.background import Call
from anykernel.kernel.netdev import Netdev, to_scapy

PEER = "02:00:00:00:00:99"
SECOND = 10**9


@pytest.fixture
def eth(kernel: Kernel) -> Netdev:
    made = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"], ipv6_chatter=False)
    made.add_neighbour("192.0.2.2", PEER)
    return made


def connecting(kernel: Kernel) -> socket.socket:
    sock = kernel.socket()
    sock.setblocking(False)
    assert sock.connect_ex(("192.0.2.2", 80)) == errno.EINPROGRESS
    return sock  # type: ignore[return-value]


def test_a_capture_receives_what_was_and_what_will_be_sent(kernel: Kernel, eth: Netdev) -> None:
    with eth.capture() as frames:
        began = kernel.clock.now
        sock = connecting(kernel)
        found = [frames.receive(10) for _ in range(4)]
        assert [to_scapy(frame.data)[TCP].flags for frame in found] == ["S"] * 4
        assert found[0].time_ns - began < 10**6
        # RTO of 1 s, doubled each time (RFC 6298), by the kernel's ticks.
        gaps = [b.time_ns - a.time_ns for a, b in pairwise(found)]
        assert [round(gap / SECOND) for gap in gaps] == [1, 2, 4]
        assert kernel.clock.now == found[-1].time_ns  # no further
        sock.close()


def test_a_device_receives_from_now_on(kernel: Kernel, eth: Netdev) -> None:
    sock = connecting(kernel)
    began = kernel.clock.now
    frame = eth.receive()
    assert kernel.clock.now == frame.time_ns
    assert round((frame.time_ns - began) / SECOND) == 1
    with pytest.raises(TimeoutError, match=r"eth0 sent no frame in 0\.5 s"):
        eth.receive(timeout=0.5)
    assert kernel.clock.now == frame.time_ns + SECOND // 2
    sock.close()


def test_what_was_injected_is_not_received(kernel: Kernel, eth: Netdev) -> None:
    with eth.capture() as frames:
        eth.inject(bytes.fromhex(eth.mac.replace(":", "")) + bytes(60))
        with pytest.raises(TimeoutError):
            frames.receive(0)
    with pytest.raises(UsageError, match="was stopped"):
        frames.receive()
    for wrong in ("1", -1, None):
        with pytest.raises(UsageError, match="a timeout"):
            eth.receive(wrong)  # type: ignore[arg-type]


def test_when_a_call_ended(kernel: Kernel) -> None:
    near, far = kernel.socketpair()
    near.settimeout(3)
    receiving = kernel.submit(near.recv, 1)
    timing: Call[int] = kernel.submit("nanosleep", _span(2), None)
    began = kernel.clock.now
    assert receiving.ended is None
    kernel.clock.advance(10)
    assert timing.ended == pytest.approx(began + 2 * SECOND, abs=SECOND // 50)
    assert receiving.ended == pytest.approx(began + 3 * SECOND, abs=SECOND // 50)
    assert isinstance(receiving.exception(), TimeoutError)
    again = kernel.submit(far.recv, 1)
    moment = kernel.clock.now
    near.send(b"x")
    kernel.clock.advance(1)
    assert (again.result(), again.ended) == (b"x", moment)


def test_what_a_call_does_next_is_done_in_time(kernel: Kernel) -> None:
    """A call of several system calls gets on while time passes, not at its end."""
    server = kernel.socket()
    server.bind(("127.0.0.1", 80))
    server.listen()
    client = kernel.socket()
    client.connect(("127.0.0.1", 80))
    accepted, _ = server.accept()
    sending = kernel.submit(client.sendall, bytes(8 << 20))
    received = 0
    while not sending.done():
        received += len(accepted.recv(1 << 20))
    assert sending.ended == kernel.clock.now
    assert received > 4 << 20


def test_ended_is_part_of_a_restore(kernel: Kernel) -> None:
    sleeping: Call[int] = kernel.submit("nanosleep", _span(2), None)
    here = kernel.snapshot()
    kernel.clock.advance(5)
    ended = sleeping.ended
    kernel.restore(here)
    with pytest.raises(UsageError, match="restored away"):
        sleeping.ended
    assert ended is not None


def _span(seconds: int) -> bytes:
    return seconds.to_bytes(8, "little") + bytes(8)
