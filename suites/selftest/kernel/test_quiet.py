# SPDX-License-Identifier: GPL-2.0
"""Devices on which IPv6 says nothing unasked, so that answers are all that is exchanged."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
)
from scapy.layers.l2 import Ether

from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev

PEER = "02:00:00:00:00:99"


def ping(eth: Netdev) -> Ether:
    return Ether(dst=eth.mac, src=PEER) / IP(src="192.0.2.2", dst="192.0.2.1") / ICMP()


def ping6(eth: Netdev) -> Ether:
    ip = IPv6(src="2001:db8::2", dst="2001:db8::1")
    return Ether(dst=eth.mac, src=PEER) / ip / ICMPv6EchoRequest()


def test_a_talkative_one(kernel: Kernel) -> None:
    """What the switch is for: this is what is said without it."""
    eth = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])
    with eth.capture() as frames:
        kernel.clock.advance(20)
    packets = frames.packets()
    for kind in (ICMPv6ND_NS, ICMPv6ND_RS, ICMPv6MLReport2):
        assert any(kind in packet for packet in packets)


def test_nothing_unasked_without_ipv6_addresses(kernel: Kernel) -> None:
    began = kernel.clock.now
    eth = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"], ipv6_chatter=False)
    assert kernel.clock.now == began
    eth.add_neighbour("192.0.2.2", PEER)
    with eth.capture() as frames:
        (reply,) = eth.exchange(ping(eth))
        kernel.clock.advance(3600)
        eth.down()
        eth.up()
        kernel.clock.advance(60)
    assert reply[ICMP].type == 0
    assert len(frames.sent) == 1


@pytest.mark.parametrize("later", [False, True])
def test_ipv6_works_and_is_silent(kernel: Kernel, later: bool) -> None:
    addresses = ["192.0.2.1/24", "2001:db8::1/64"]
    given = addresses[:1] if later else addresses
    eth = kernel.add_netdev("eth0", addresses=given, ipv6_chatter=False)
    if later:
        eth.add_address("2001:db8::1/64")
    eth.add_neighbour("2001:db8::2", PEER)
    with eth.capture() as frames:
        for _ in range(3):
            (reply,) = eth.exchange(ping6(eth))
            assert reply[ICMPv6EchoReply].type == 129
            kernel.clock.advance(100)
    assert len(frames.sent) == 3


def test_a_kernel_wide_switch_is_the_kernels_own(kernel: Kernel) -> None:
    """As docs/kernel.md shows."""
    kernel.sysctl["net.ipv6.conf.default.disable_ipv6"] = 1
    eth = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])
    with eth.capture() as frames:
        kernel.clock.advance(100)
    assert not frames.sent
