# SPDX-License-Identifier: GPL-2.0
"""IPv6 autoconfiguration from a router advertisement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.netdev import Netdev

ROUTER = "02:00:00:00:00:fe"
ROUTER_IP = "fe80::ff:fe00:fe"
MADE = "2001:db8:5::ff:fe00:1"
"""The prefix and the interface identifier of 02:00:00:00:00:01."""


def advertisement(lifetime: int = 1800) -> bytes:
    packet = (
        Ether(src=ROUTER, dst="33:33:00:00:00:01")
        / IPv6(src=ROUTER_IP, dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=lifetime)
        / ICMPv6NDOptSrcLLAddr(lladdr=ROUTER)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:5::", prefixlen=64, L=1, A=1)
    )
    return bytes(packet)


def up(kernel: Kernel) -> Netdev:
    return kernel.add_netdev("eth0", mac="02:00:00:00:00:01")


def addresses(kernel: Kernel, index: int) -> dict[str, int]:
    """Address to flags."""
    found = kernel.iproute.get_addr(family=10, index=index)
    return {
        message.get_attr("IFA_ADDRESS"): message.get_attr("IFA_FLAGS") or message["flags"]
        for message in found
    }


def test_link_local_address_then_solicitations(kernel: Kernel) -> None:
    eth0 = kernel.add_netdev("eth0", mac="02:00:00:00:00:01", up=False)
    with eth0.capture() as capture:
        eth0.up()
        kernel.clock.advance(30)  # by RFC 7559 within 1, 5.4 and 14.7 s after DAD
    sent = [Ether(frame) for frame in capture.sent]
    probes = [packet for packet in sent if ICMPv6ND_NS in packet]
    assert [packet[ICMPv6ND_NS].tgt for packet in probes] == ["fe80::ff:fe00:1"]
    assert [packet[IPv6].src for packet in probes] == ["::"]
    assert len([packet for packet in sent if ICMPv6ND_RS in packet]) >= 3
    assert "fe80::ff:fe00:1" in addresses(kernel, eth0.ifindex)


def test_address_and_route_from_an_advertisement(kernel: Kernel) -> None:
    tentative = 0x40
    eth0 = up(kernel)
    kernel.clock.advance(3)
    eth0.inject(advertisement())
    assert addresses(kernel, eth0.ifindex)[MADE] & tentative
    kernel.clock.advance(3)  # duplicate address detection: a second, and a random delay
    assert not addresses(kernel, eth0.ifindex)[MADE] & tentative
    gateways = {
        route.get_attr("RTA_GATEWAY")
        for route in kernel.iproute.get_routes(family=10)
        if route["dst_len"] == 0
    }
    assert ROUTER_IP in gateways


def test_the_route_ends_with_its_lifetime(kernel: Kernel) -> None:
    eth0 = up(kernel)
    kernel.clock.advance(3)
    eth0.inject(advertisement(lifetime=60))

    def default_routes() -> int:
        return len(
            [
                route
                for route in kernel.iproute.get_routes(family=10)
                if route["dst_len"] == 0 and route.get_attr("RTA_GATEWAY")
            ]
        )

    assert default_routes() == 1
    kernel.clock.advance(120)
    assert default_routes() == 0
