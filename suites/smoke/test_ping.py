# SPDX-License-Identifier: GPL-2.0
"""Ping over IPv4 and IPv6, ARP, neighbour discovery."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from suites.smoke.conftest import Lan

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether


def same_checksums(frame: bytes) -> bool:
    """Scapy, asked to compute all checksums itself, arrives at the same bytes."""
    packet = Ether(frame)
    for layer in (IP, ICMP, ICMPv6EchoReply):
        if layer in packet:
            field = "cksum" if layer is ICMPv6EchoReply else "chksum"
            packet[layer].delfieldval(field)
    return bytes(packet) == frame


@pytest.mark.parametrize("size", [0, 1, 56, 1472])
def test_ipv4_echo(lan: Lan, size: int) -> None:
    payload = bytes(range(256)) * 6
    request = IP(src=lan.ip, dst=lan.kernel_ip) / ICMP(id=7, seq=9) / payload[:size]
    ((answer,),) = lan.eth0.exchange([lan.frame(request)])
    reply = Ether(answer)
    assert (reply.src, reply.dst) == (lan.kernel_mac, lan.mac)
    assert (reply[IP].src, reply[IP].dst) == (lan.kernel_ip, lan.ip)
    assert (reply[ICMP].type, reply[ICMP].id, reply[ICMP].seq) == (0, 7, 9)
    assert bytes(reply[ICMP].payload)[:size] == payload[:size]
    assert same_checksums(answer)


@pytest.mark.parametrize("size", [0, 1, 56, 1452])
def test_ipv6_echo(lan: Lan, size: int) -> None:
    payload = bytes(range(256)) * 6
    echo = ICMPv6EchoRequest(id=7, seq=9, data=payload[:size])
    ((answer,),) = lan.eth0.exchange([lan.frame(IPv6(src=lan.ip6, dst=lan.kernel_ip6) / echo)])
    reply = Ether(answer)
    assert (reply[IPv6].src, reply[IPv6].dst) == (lan.kernel_ip6, lan.ip6)
    assert (reply[ICMPv6EchoReply].id, reply[ICMPv6EchoReply].seq) == (7, 9)
    assert bytes(reply[ICMPv6EchoReply].data) == payload[:size]
    assert same_checksums(answer)


def test_a_wrong_checksum_gets_no_answer(lan: Lan) -> None:
    request = lan.frame(IP(src=lan.ip, dst=lan.kernel_ip) / ICMP(chksum=0x1234) / b"x")
    assert lan.eth0.exchange([request]) == [[]]


def test_arp_answers_for_the_own_address_only(lan: Lan) -> None:
    def who_has(address: str) -> bytes:
        arp = ARP(op="who-has", hwsrc=lan.mac, psrc=lan.ip, pdst=address)
        return bytes(Ether(src=lan.mac, dst="ff:ff:ff:ff:ff:ff") / arp)

    mine, others = lan.eth0.exchange([who_has(lan.kernel_ip), who_has("192.0.2.77")])
    assert others == []
    reply = Ether(mine[0])[ARP]
    assert (reply.op, reply.psrc, reply.hwsrc) == (2, lan.kernel_ip, lan.kernel_mac)


def test_neighbour_discovery_answers(lan: Lan) -> None:
    solicitation = (
        Ether(src=lan.mac, dst="33:33:ff:00:00:01")
        / IPv6(src=lan.ip6, dst="ff02::1:ff00:1", hlim=255)
        / ICMPv6ND_NS(tgt=lan.kernel_ip6)
        / ICMPv6NDOptSrcLLAddr(lladdr=lan.mac)
    )
    ((answer,),) = lan.eth0.exchange([bytes(solicitation)])
    advertisement = Ether(answer)[ICMPv6ND_NA]
    assert advertisement.tgt == lan.kernel_ip6
    assert (advertisement.S, advertisement.O) == (1, 1)
