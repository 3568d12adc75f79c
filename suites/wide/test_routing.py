# SPDX-License-Identifier: GPL-2.0
"""Packets that a router forwards by labels, segments and groups."""

from __future__ import annotations

import socket
import struct

import pytest
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrSegmentRouting
from scapy.layers.l2 import Ether

from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.kernel.rtnl import CREATE, NEWROUTE, Rtnl

from . import wire

PEER = "02:00:00:00:00:99"
AF_MPLS = 28
RTA_DST, RTA_OIF, RTA_VIA, RTA_NEWDST, RTA_ENCAP_TYPE, RTA_ENCAP = 1, 4, 18, 19, 21, 22


@pytest.fixture
def router(kernel: Kernel) -> tuple[Netdev, Netdev]:
    made = []
    for number, name in enumerate(("left", "right")):
        addresses = [f"10.{number}.0.1/24", f"fd0{number}::1/64"]
        one = kernel.add_netdev(name, addresses=addresses, ipv6_chatter=False)
        one.add_neighbour(f"10.{number}.0.2", PEER)
        one.add_neighbour(f"fd0{number}::2", PEER)
        made.append(one)
    kernel.sysctl["net.ipv4.ip_forward"] = 1
    kernel.sysctl["net.ipv6.conf.all.forwarding"] = 1
    return made[0], made[1]


def through(router: tuple[Netdev, Netdev], *layers: object) -> list[Ether]:
    left, right = router
    frame = Ether(dst=left.mac, src=PEER)
    for layer in layers:
        frame = frame / layer
    with right.capture() as frames:
        left.inject(frame)
    return list(frames.packets())


def label(number: int, bottom: bool = True) -> bytes:
    """A label stack entry."""
    return struct.pack("!I", number << 12 | bottom << 8)


def mpls_route(kernel: Kernel, number: int, out: Netdev, new: bytes) -> None:
    """Packets with a label go to 10.1.0.2 with another, or, without `new`, with none."""
    body = struct.pack("=BBBBBBBBI", AF_MPLS, 20, 0, 0, 254, 4, 0, 1, 0)
    body += wire.attribute(RTA_DST, label(number)) + wire.u32(RTA_OIF, out.ifindex)
    body += wire.attribute(RTA_VIA, struct.pack("=H", 2) + bytes([10, 1, 0, 2]))
    if new:
        body += wire.attribute(RTA_NEWDST, new)
    with Rtnl(kernel) as rtnl:
        rtnl.request(NEWROUTE, CREATE, body)


@pytest.mark.needs("MPLS_ROUTING", "MPLS_IPTUNNEL")
def test_mpls_swaps_pops_and_pushes(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    _, right = router
    kernel.sysctl["net.mpls.platform_labels"] = 1000
    kernel.write_text("/proc/sys/net/mpls/conf/left/input", "1")
    mpls_route(kernel, 20, right, label(30))
    mpls_route(kernel, 21, right, b"")
    inner = IP(src="10.0.0.2", dst="10.9.0.9", ttl=50) / UDP(sport=1, dport=2)
    (swapped,) = through(router, MPLS(label=20, s=1, ttl=64), inner)
    assert (swapped[MPLS].label, swapped[MPLS].ttl, swapped[IP].ttl) == (30, 63, 50)
    (popped,) = through(router, MPLS(label=21, s=1, ttl=33), inner)
    assert MPLS not in popped and (popped[IP].dst, popped[IP].ttl) == ("10.9.0.9", 32)
    assert not through(router, MPLS(label=22, s=1, ttl=64), inner)
    body = struct.pack("=BBBBBBBBI", 2, 16, 0, 0, 254, 4, 0, 1, 0)
    body += wire.attribute(RTA_DST, bytes([10, 9, 0, 0])) + wire.u32(RTA_OIF, right.ifindex)
    body += wire.attribute(5, bytes([10, 1, 0, 2])) + wire.u16(RTA_ENCAP_TYPE, 1)
    body += wire.nest(RTA_ENCAP, wire.attribute(1, label(40, False) + label(41)))
    with Rtnl(kernel) as rtnl:
        rtnl.request(NEWROUTE, CREATE, body)
    (pushed,) = through(router, inner)
    assert pushed[MPLS].label == 40 and pushed[MPLS].payload.label == 41
    assert pushed[IP].dst == "10.9.0.9"


@pytest.mark.needs("IPV6_SEG6_LWTUNNEL")
def test_srv6_end_and_encapsulation(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    """A local segment (End) sends on to the next one; a route puts packets into a header."""
    _, right = router
    here, after, last = "fd0a::1", "fd0b::1", "fd0c::1"
    kernel.route_add("fd0b::/16", via="fd01::2")
    kernel.sysctl["net.ipv6.conf.all.seg6_enabled"] = 1
    kernel.sysctl["net.ipv6.conf.left.seg6_enabled"] = 1

    def route(prefix: str, length: int, kind: int, *encap: bytes) -> None:
        body = struct.pack("=BBBBBBBBI", 10, length, 0, 0, 254, 4, 0, 1, 0)
        body += wire.attribute(RTA_DST, socket.inet_pton(socket.AF_INET6, prefix))
        body += wire.u32(RTA_OIF, right.ifindex) + wire.u16(RTA_ENCAP_TYPE, kind)
        with Rtnl(kernel) as rtnl:
            rtnl.request(NEWROUTE, CREATE, body + wire.nest(RTA_ENCAP, *encap))

    route(here, 128, 7, wire.u32(1, 1))  # LWTUNNEL_ENCAP_SEG6_LOCAL, SEG6_LOCAL_ACTION_END
    segments = IPv6ExtHdrSegmentRouting(addresses=[last, after, here], segleft=2)
    (sent,) = through(router, IPv6(src="fd00::2", dst=here, hlim=64), segments, UDP())
    assert (sent[IPv6].dst, sent[IPv6].hlim) == (after, 63)
    assert sent[IPv6ExtHdrSegmentRouting].segleft == 1
    header = struct.pack("!BBBBBBH", 0, 2, 4, 0, 0, 0, 0)
    header += socket.inet_pton(socket.AF_INET6, after)
    route("fd0e::", 16, 5, wire.attribute(1, struct.pack("=i", 1) + header))  # H.Encaps
    (wrapped,) = through(router, IPv6(src="fd00::2", dst="fd0e::5"), UDP(sport=7))
    assert wrapped[IPv6].dst == after
    assert wrapped[IPv6ExtHdrSegmentRouting].addresses == [after]
    assert wrapped[IPv6ExtHdrSegmentRouting].payload.dst == "fd0e::5"


@pytest.mark.needs("IP_MROUTE", "IP_PIMSM_V2")
def test_multicast_routing(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    left, right = router
    with kernel.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 200, 1)  # MRT_INIT
        for number, device in enumerate(router):
            vif = struct.pack("=HBBIi4x", number, 8, 1, 0, device.ifindex)
            sock.setsockopt(socket.IPPROTO_IP, 202, vif)
        group = IP(src="10.0.0.2", dst="239.1.1.1", ttl=9) / UDP(sport=1, dport=2)
        with right.capture() as frames:
            left.inject(Ether(dst="01:00:5e:01:01:01", src=PEER) / group)
        assert not frames.sent
        route = socket.inet_aton("10.0.0.2") + socket.inet_aton("239.1.1.1")
        route += (
            struct.pack("=H", 0) + bytes([0, 1]) + bytes(30) + struct.pack("=2xIIIi", 0, 0, 0, 0)
        )
        sock.setsockopt(socket.IPPROTO_IP, 204, route)
        with right.capture() as frames:
            left.inject(Ether(dst="01:00:5e:01:01:01", src=PEER) / group)
        sent = list(frames.packets())
        assert [(one.dst, one[IP].ttl) for one in sent] == [("01:00:5e:01:01:01", 8)] * len(sent)
        assert len(sent) in (1, 2), "what waited for the route is sent, too"


@pytest.mark.needs("IPV6_MROUTE", "IPV6_PIMSM_V2")
def test_multicast_routing_of_ipv6(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    left, right = router
    with kernel.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, 200, 1)
        for number, device in enumerate(router):
            mif = struct.pack("=HBBHxxI", number, 0, 1, device.ifindex, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, 202, mif)

        def address(text: str) -> bytes:
            return struct.pack("=HHI16sI", 10, 0, 0, socket.inet_pton(socket.AF_INET6, text), 0)

        group = "ff0e::77"
        route = address("fd00::2") + address(group) + struct.pack("=Hxx", 0)
        sock.setsockopt(socket.IPPROTO_IPV6, 204, route + struct.pack("=8I", 2, *[0] * 7))
        with right.capture() as frames:
            packet = IPv6(src="fd00::2", dst=group, hlim=9) / UDP(sport=1, dport=2)
            left.inject(Ether(dst="33:33:00:00:00:77", src=PEER) / packet)
        assert [(one.dst, one[IPv6].hlim) for one in frames.packets()] == [("33:33:00:00:00:77", 8)]


def test_policy_routing_by_source(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    """The default flavour has it, too: only who comes from 10.0.0.2 finds table 100."""
    kernel.route_add("10.9.0.0/16", via="10.1.0.2", table=100)
    kernel.iproute.rule("add", src="10.0.0.2", src_len=32, table=100)
    found = [
        len(through(router, IP(src=f"10.0.0.{last}", dst="10.9.0.9"), ICMP())) for last in (2, 3)
    ]
    assert found == [1, 0]
