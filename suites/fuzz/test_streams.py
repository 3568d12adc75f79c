# SPDX-License-Identifier: GPL-2.0
"""Fuzz: streams and datagrams arrive as they were sent, whatever the packets' order"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykernel.fuzz import options as o
from anykernel.fuzz import packets as p
from anykernel.fuzz.fragments import Fragmented, fragmented
from anykernel.fuzz.streams import Answer, Delivery, answers, content, deliveries

if TYPE_CHECKING:
    from anykernel.kernel.sockets import Socket
    from suites.fuzz.conftest import Target

PORT, OURS, ISN = 80, 40000, 1000
SENT = 6000


class Connection:
    """A connection whose client is this test."""

    def __init__(self, target: Target) -> None:
        self.target = target
        listener = target.kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        syn = p.Tcp(sport=OURS, dport=PORT, seq=ISN, options=o.mss(1460) + o.sack_permitted())
        (answer,) = self.send(syn)
        self.first = struct.unpack_from("!I", answer, 14 + 20 + 4)[0] + 1
        assert self.send(self.segment(p.ACK)) == []
        self.socket: Socket = listener.accept()[0]
        self.socket.setblocking(False)

    def segment(self, flags: int) -> p.Tcp:
        return p.Tcp(sport=OURS, dport=PORT, seq=ISN + 1, ack=self.first, flags=flags)

    def send(self, *segments: p.Tcp) -> list[bytes]:
        ends = self.target.ends
        return self.target.send(
            [
                ends.ether(
                    p.ETH_IPV4,
                    p.IPv4(src=ends.ip4, dst=ends.kernel_ip4, protocol=p.TCP, payload=segment),
                )
                for segment in segments
            ]
        )


@pytest.fixture
def connection(target: Target) -> Connection:
    return Connection(target)


def data_of(frame: bytes) -> tuple[int, bytes]:
    """Sequence number and data of a TCP segment in an IPv4 frame without options."""
    total = struct.unpack_from("!H", frame, 16)[0]
    seq = struct.unpack_from("!I", frame, 38)[0]
    return seq, frame[34 + (frame[46] >> 4) * 4 : 14 + total]


@settings(max_examples=80, deadline=None)
@given(delivery=deliveries())
def test_receiver_gets_the_stream(connection: Connection, delivery: Delivery) -> None:
    frames = [
        s.build(sport=OURS, dport=PORT, expects=ISN + 1, sent=connection.first)
        for s in delivery.segments()
    ]
    replies = connection.send(*frames) if frames else []
    got, ended = b"", False
    while True:
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            break
        if not data:
            ended = True
            break
        got += data
    assert got == delivery.received
    assert ended == delivery.finished
    for reply in replies:
        acked = (struct.unpack_from("!I", reply, 42)[0] - ISN - 1) & 0xFFFFFFFF
        assert acked <= len(delivery.received) + delivery.finished, "acknowledges what wasn't sent"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(1, 255), given=answers(SENT))
def test_sender_sends_the_stream(connection: Connection, seed: int, given: list[Answer]) -> None:
    stream = content(SENT, seed)
    capture = connection.target.eth0.capture()
    assert connection.socket.send(stream) == SENT
    for answer in given:
        connection.send(answer.build(sport=OURS, dport=PORT, seq=ISN + 1, first=connection.first))
        connection.target.kernel.clock.advance(1)  # retransmissions, window probes
    for frame in capture.sent:
        if frame[12:14] != b"\x08\x00" or frame[23] != p.TCP:
            continue
        seq, data = data_of(frame)
        at = (seq - connection.first) & 0xFFFFFFFF
        if data and at < SENT:
            assert stream[at : at + len(data)] == data, "sent something else than it was given"
    assert connection.target.alive()


@pytest.mark.parametrize("ip", [4, 6])
def test_datagrams_are_whole_or_nothing(target: Target, ip: Literal[4, 6]) -> None:
    family = socket.AF_INET if ip == 4 else socket.AF_INET6
    receiver = target.kernel.socket(family, socket.SOCK_DGRAM)
    receiver.bind(("", 4001))
    receiver.setblocking(False)

    @settings(max_examples=60, deadline=None)
    @given(sent=fragmented(ip=ip))
    def check(sent: Fragmented) -> None:
        target.send(sent.frames)
        received = []
        while True:
            try:
                received.append(receiver.recv(1 << 16))
            except BlockingIOError:
                break
        assert sent.may_give(received), sent.how

    check()
    assert target.alive()
