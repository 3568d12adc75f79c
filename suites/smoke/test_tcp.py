# SPDX-License-Identifier: GPL-2.0
"""TCP sessions, in the kernel and with a hand-made peer."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from suites.smoke.conftest import Lan


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_within_the_kernel(kernel: Kernel, family: int, address: str) -> None:
    with kernel.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((address, 80))
        listener.listen(5)
        with kernel.socket(family, socket.SOCK_STREAM) as client:
            client.connect((address, 80))
            server, peer = listener.accept()
            with server:
                assert peer[:2] == client.getsockname()[:2]
                client.sendall(b"GET /\r\n")
                with server.makefile("rb") as lines:
                    assert lines.readline() == b"GET /\r\n"
                server.sendall(b"y" * 100_000)
                server.shutdown(socket.SHUT_WR)
                received = b""
                while part := client.recv(65_536):
                    received += part
                assert received == b"y" * 100_000


class Peer:
    """The other end of one connection, written by hand: sends and acknowledges by scapy."""

    def __init__(self, lan: Lan, sport: int, dport: int) -> None:
        self.lan = lan
        self.ports = {"sport": sport, "dport": dport}
        self.seq = 1000
        self.ack = 0
        self.capture = lan.eth0.capture()
        self.read = 0

    def segment(self, flags: str, data: bytes = b"") -> bytes:
        tcp = TCP(**self.ports, flags=flags, seq=self.seq, ack=self.ack, window=65_535)
        self.seq += len(data) + ("S" in flags) + ("F" in flags)
        return self.lan.frame(IP(src=self.lan.ip, dst=self.lan.kernel_ip) / tcp / data)

    def send(self, flags: str, data: bytes = b"") -> list[TCP]:
        """Sends one segment; the kernel's answers."""
        (answers,) = self.lan.eth0.exchange([self.segment(flags, data)])
        return self.seen(answers)

    def seen(self, frames: list[bytes]) -> list[TCP]:
        packets = [Ether(frame) for frame in frames]
        segments = [packet[TCP] for packet in packets if TCP in packet]
        for packet in packets:
            if TCP not in packet:
                continue
            size = packet[IP].len - packet[IP].ihl * 4 - packet[TCP].dataofs * 4
            flags = str(packet[TCP].flags)
            self.ack = packet[TCP].seq + size + ("S" in flags) + ("F" in flags)
        return segments

    def heard(self) -> list[TCP]:
        """What the kernel sent since the last call, answers to send() included."""
        sent = self.capture.sent
        new, self.read = sent[self.read :], len(sent)
        return self.seen(new)


def test_a_peer_on_the_wire_connects(lan: Lan) -> None:
    with lan.kernel.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((lan.kernel_ip, 80))
        listener.listen(5)
        peer = Peer(lan, 4000, 80)
        (synack,) = peer.send("S")
        assert str(synack.flags) == "SA"
        assert synack.ack == 1001
        assert peer.send("A") == []
        (ack,) = peer.send("PA", b"hello")
        assert ack.ack == peer.seq
        server, address = listener.accept()
        with server:
            assert address == (lan.ip, 4000)
            assert server.recv(100) == b"hello"
            peer.heard()
            server.sendall(b"world")
            (segment,) = peer.heard()
            assert bytes(segment.payload)[:5] == b"world"
            peer.send("A")
        (fin,) = peer.heard()
        assert "F" in str(fin.flags)
        peer.send("FA")


def test_what_is_not_acknowledged_is_sent_again(lan: Lan) -> None:
    with lan.kernel.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((lan.kernel_ip, 80))
        listener.listen(5)
        peer = Peer(lan, 4000, 80)
        peer.send("S")
        peer.send("A")
        server, _ = listener.accept()
        with server:
            peer.heard()
            server.sendall(b"lost")
            lan.kernel.clock.advance(10)
            segments = peer.heard()
            assert len(segments) >= 4
            assert len({segment.seq for segment in segments}) == 1
            peer.send("A")
            lan.kernel.clock.advance(100)
            assert peer.heard() == []
            peer.send("R")


def test_a_closed_port_answers_with_a_reset(lan: Lan) -> None:
    (reset,) = Peer(lan, 4000, 81).send("S")
    assert str(reset.flags) == "RA"


def test_nobody_there_is_a_timeout(lan: Lan) -> None:
    sock = lan.kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    with sock, pytest.raises(TimeoutError):
        sock.connect((lan.ip, 80))  # the kernel itself gives up, after two minutes
    assert lan.kernel.clock.now > 60e9


def test_two_ends_that_block_on_each_other(kernel: Kernel) -> None:
    with kernel.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 80))
        listener.listen(5)
        accepting = kernel.submit(listener.accept)
        with kernel.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.connect(("127.0.0.1", 80))
            server, _ = accepting.result()
            with server:
                # More than both buffers hold: it can only end when the other end reads.
                sending = kernel.submit(server.sendall, b"x" * 8_000_000)
                assert not sending.done()
                received = 0
                while received < 8_000_000:
                    received += len(client.recv(1 << 20))
                sending.result()
