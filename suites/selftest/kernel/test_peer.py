# SPDX-License-Identifier: GPL-2.0
"""The simulated neighbour: its packets are as scapy would make them, and the kernel agrees."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.kernel.peer import Peer, checksum
from suites.selftest.kernel import fake

FOUR, SIX = "10.0.0.1", "fd00::1"


@pytest.fixture
def eth0(kernel: Kernel) -> Netdev:
    return kernel.add_netdev("eth0", addresses=[f"{FOUR}/24", f"{SIX}/64"])


@pytest.fixture
def peer(eth0: Netdev) -> Peer:
    return eth0.add_peer("10.0.0.2", "fd00::2")


def unwired() -> Peer:
    """A peer whose frames go nowhere."""
    eth0 = fake.kernel()[0].add_netdev("eth0", up=False)
    return Peer(eth0, ["10.0.0.2", "fd00::2"], b"\2\0\0\0\0\2")


def recomputed(frame: bytes) -> bytes:
    """The frame with all lengths and checksums as scapy computes them."""
    packet = Ether(frame)
    for layer in (IP, IPv6, ICMP, UDP, ICMPv6EchoRequest):
        if layer in packet:
            for field in ("len", "plen", "chksum", "cksum", "ihl"):
                if field in packet[layer].fields:
                    packet[layer].delfieldval(field)
    return bytes(packet)


@given(payload=st.binary(max_size=1400), number=st.integers(0, 65_535))
def test_pings_are_as_scapy_makes_them(payload: bytes, number: int) -> None:
    peer = unwired()
    for to, layer in ((FOUR, ICMP), (SIX, ICMPv6EchoRequest)):
        frame = peer.echo_request(to, payload, ident=number, sequence=number ^ 0xFFFF)
        assert recomputed(frame) == frame
        echo = Ether(frame)[layer]
        assert (echo.id, echo.seq) == (number, number ^ 0xFFFF)


@given(payload=st.binary(max_size=1400), port=st.integers(1, 65_535))
def test_datagrams_are_as_scapy_makes_them(payload: bytes, port: int) -> None:
    peer = unwired()
    for to in (FOUR, SIX):
        frame = peer.datagram(to, port, payload)
        assert recomputed(frame) == frame
        assert (Ether(frame)[UDP].dport, bytes(Ether(frame)[UDP].payload)) == (port, payload)


@given(data=st.binary(max_size=100))
def test_a_checksum_makes_the_sum_zero(data: bytes) -> None:
    data += b"\0" * (len(data) % 2)
    assert checksum(data + checksum(data).to_bytes(2, "big")) == 0


@given(frame=st.binary(max_size=120))
def test_any_frame_can_be_shown_to_a_peer(frame: bytes) -> None:
    unwired().answer(frame)


@pytest.mark.parametrize("to", [FOUR, SIX])
@pytest.mark.parametrize("size", [0, 1, 56, 1400])
def test_ping(peer: Peer, to: str, size: int) -> None:
    assert peer.ping(to, b"x" * size) == b"x" * size


def test_pinging_somebody_else(peer: Peer) -> None:
    assert peer.ping("10.0.0.77") is None
    assert peer.ping("fd00::77") is None


def test_udp_arrives(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    for family, to, own in (
        (socket.AF_INET, FOUR, "10.0.0.2"),
        (socket.AF_INET6, SIX, "fd00::2"),
    ):
        with kernel.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((to, 53))
            eth0.inject(peer.datagram(to, 53, b"question", source_port=1234))
            data, sender = sock.recvfrom(100)
            assert (data, sender[:2]) == (b"question", (own, 1234))


def test_it_answers_arp_and_neighbour_discovery(kernel: Kernel, eth0: Netdev) -> None:
    """The kernel isn't told where the neighbour is, and asks."""
    peer = Peer(eth0, ["10.0.0.9", "fd00::9"], b"\2\0\0\0\0\x09")
    for family, to in ((socket.AF_INET, "10.0.0.9"), (socket.AF_INET6, "fd00::9")):
        capture = eth0.capture()
        with kernel.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"hello", (to, 7))
            sent = peer.serve(capture.sent)
        (datagram,) = [frame for frame in sent if UDP in Ether(frame)]
        assert Ether(datagram).dst == peer.mac
        assert bytes(Ether(datagram)[UDP].payload)[:5] == b"hello"


def test_it_asks_back_in_arp(eth0: Netdev, peer: Peer) -> None:
    question = Ether(src=peer.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(
        op="who-has", hwsrc=peer.mac, psrc="10.0.0.2", pdst=FOUR
    )
    (reply,) = eth0.exchange(bytes(question))
    assert Ether(reply)[ARP].hwsrc == eth0.mac
    assert peer.answer(reply) is None, "an answer isn't answered"


def test_no_address_of_that_kind(eth0: Netdev) -> None:
    peer = eth0.add_peer("10.0.0.3")
    with pytest.raises(UsageError, match="no IPv6 address"):
        peer.ping(SIX)
    with pytest.raises(UsageError, match="no IP address"):
        peer.ping("somewhere")
