# SPDX-License-Identifier: GPL-2.0
"""UDP in the kernel and over the wire, IPv4 and IPv6."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from suites.smoke.conftest import Lan


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_within_the_kernel(kernel: Kernel, family: int, address: str) -> None:
    with (
        kernel.socket(family, socket.SOCK_DGRAM) as server,
        kernel.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.bind((address, 53))
        client.bind((address, 1234))
        for size in (0, 1, 1400, 65_000):
            client.sendto(b"q" * size, (address, 53))
            data, sender = server.recvfrom(65_535)
            assert data == b"q" * size
            assert sender[:2] == (address, 1234)
            server.sendto(data[::-1], sender)
            assert client.recv(65_535) == data[::-1]


def test_over_the_wire(lan: Lan) -> None:
    with lan.kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((lan.kernel_ip, 53))
        query = IP(src=lan.ip, dst=lan.kernel_ip) / UDP(sport=999, dport=53) / b"who?"
        lan.eth0.inject(lan.frame(query))
        data, sender = sock.recvfrom(100)
        assert (data, sender) == (b"who?", (lan.ip, 999))
        with lan.eth0.capture() as capture:
            sock.sendto(b"me", sender)
    (sent,) = capture.sent
    packet = Ether(sent)
    assert (packet[IP].dst, packet[UDP].dport, bytes(packet[UDP].payload)[:2]) == (
        lan.ip,
        999,
        b"me",
    )


def test_over_the_wire_ipv6(lan: Lan) -> None:
    with lan.kernel.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((lan.kernel_ip6, 53))
        query = IPv6(src=lan.ip6, dst=lan.kernel_ip6) / UDP(sport=999, dport=53) / b"who?"
        lan.eth0.inject(lan.frame(query))
        data, sender = sock.recvfrom(100)
        assert (data, sender[:2]) == (b"who?", (lan.ip6, 999))


def test_a_closed_port_is_unreachable(lan: Lan) -> None:
    query = IP(src=lan.ip, dst=lan.kernel_ip) / UDP(sport=999, dport=53) / b"who?"
    ((answer,),) = lan.eth0.exchange([lan.frame(query)])
    assert (Ether(answer)[ICMP].type, Ether(answer)[ICMP].code) == (3, 3)


def test_the_peers_closed_port_is_an_error_of_the_socket(lan: Lan) -> None:
    with lan.kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((lan.ip, 9))
        with lan.eth0.capture() as capture:
            sock.send(b"anybody?")
        (sent,) = capture.sent
        unreachable = IP(src=lan.ip, dst=lan.kernel_ip) / ICMP(type=3, code=3)
        lan.eth0.inject(lan.frame(unreachable / Ether(sent)[IP]))
        with pytest.raises(OSError) as raised:
            sock.recv(1)
        assert raised.value.errno == errno.ECONNREFUSED
