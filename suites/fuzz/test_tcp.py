# SPDX-License-Identifier: GPL-2.0
"""Fuzz: segments of any kind into a live TCP connection"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from anykernel.fuzz import packets as p
from anykernel.fuzz import strategies

if TYPE_CHECKING:
    from anykernel.kernel.sockets import Socket
    from suites.fuzz.conftest import Target

PORT, OURS = 80, 40000
ISN = 1000


def segment(target: Target, tcp: p.Tcp) -> bytes:
    ends = target.ends
    packet = p.IPv4(src=ends.ip4, dst=ends.kernel_ip4, protocol=p.TCP, payload=tcp)
    return ends.ether(p.ETH_IPV4, packet)


@pytest.fixture
def connection(target: Target) -> tuple[Socket, int]:
    """An accepted connection and the sequence number that the kernel sends next."""
    listener = target.kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("0.0.0.0", PORT))
    listener.listen()
    syn = p.Tcp(sport=OURS, dport=PORT, seq=ISN, flags=p.SYN, options=b"\x02\x04\x05\xb4")
    (answer,) = target.eth0.exchange(segment(target, syn))
    seq, ack = struct.unpack_from("!II", answer, 14 + 20 + 4)
    assert ack == ISN + 1
    done = p.Tcp(sport=OURS, dport=PORT, seq=ISN + 1, ack=seq + 1, flags=p.ACK)
    assert target.eth0.exchange(segment(target, done)) == []
    accepted, peer = listener.accept()
    assert peer == ("192.0.2.2", OURS)
    accepted.setblocking(False)
    return accepted, seq + 1


@settings(max_examples=60, deadline=None)
@given(segments=strategies.tcp_segments())
def test_live_connection(
    target: Target,
    connection: tuple[Socket, int],
    segments: list[strategies.Segment],
) -> None:
    accepted, sent = connection
    frames = [
        segment(target, s.build(sport=OURS, dport=PORT, expects=ISN + 1, sent=sent))
        for s in segments
    ]
    target.send(frames)
    try:
        data = accepted.recv(1 << 20)
    except (BlockingIOError, ConnectionResetError, ConnectionAbortedError):
        data = b""
    # Whatever arrived was in some segment: nothing is made up.
    assert len(data) <= sum(len(s.data) for s in segments)
    target.kernel.clock.advance(300)
    assert target.alive()
