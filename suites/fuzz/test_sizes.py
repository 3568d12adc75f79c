# SPDX-License-Identifier: GPL-2.0
"""Fuzz: frames shorter than any header, cut anywhere, and as long as frames can be"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anykernel.errors import UsageError
from anykernel.fuzz import packets as p

if TYPE_CHECKING:
    from suites.fuzz.conftest import Target


def whole(target: Target) -> list[bytes]:
    """A good frame of each protocol."""
    ends = target.ends
    frames = [ends.ether(p.ETH_ARP, p.Arp(op=1, sha=ends.mac, spa=ends.ip4, tpa=ends.kernel_ip4))]
    bodies4: list[tuple[int, p.Packet]] = [
        (p.ICMP, p.Icmp()),
        (p.UDP, p.Udp(sport=1, dport=2)),
        (p.TCP, p.Tcp(sport=1, dport=2, options=b"\x02\x04\x05\xb4")),
    ]
    for protocol, body in bodies4:
        packet = p.IPv4(src=ends.ip4, dst=ends.kernel_ip4, protocol=protocol, payload=body)
        frames.append(ends.ether(p.ETH_IPV4, packet))
    bodies6: list[tuple[int, p.Packet]] = [(p.ICMPV6, p.Icmpv6()), *bodies4[1:]]
    for following, body in bodies6:
        six = p.IPv6(src=ends.ip6, dst=ends.kernel_ip6, next=following, payload=body)
        frames.append(ends.ether(p.ETH_IPV6, six))
        frames.append(ends.ether(p.ETH_IPV6, six, vlan=7))
    return frames


def test_frames_cut_anywhere(target: Target) -> None:
    """At least one byte is missing: nobody answers."""
    for frame in whole(target):
        assert target.send([frame[:size] for size in range(1, len(frame))]) == []
    assert target.alive()


def echo(target: Target, size: int) -> bytes:
    """A ping as a frame of `size` bytes."""
    ends = target.ends
    request = p.Icmp(payload=bytes(size - 14 - 20 - 8))
    packet = p.IPv4(src=ends.ip4, dst=ends.kernel_ip4, protocol=p.ICMP, payload=request)
    frame = ends.ether(p.ETH_IPV4, packet)
    assert len(frame) == size
    return frame


@pytest.mark.parametrize("size", [1, 13, 1523, 9000, 65535])
def test_the_device_refuses_what_no_wire_carries(target: Target, size: int) -> None:
    """Runts, and more than the MTU with two tags: counted, as by a network card."""
    frame = echo(target, size) if size > 60 else bytes(size)
    before = target.eth0.statistics
    assert target.send([frame]) == []
    after = target.eth0.statistics
    raised = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert raised == {"rx_errors": 1, "rx_length_errors": 1}
    assert target.alive()


@pytest.mark.parametrize("size", [1514, 9000, 32768, 65535])
def test_jumbo_frames(target: Target, size: int) -> None:
    target.eth0.mtu = max(1500, size - 14)
    (answer,) = target.send([echo(target, size)])
    assert len(answer) == size
    assert target.alive()


@pytest.mark.parametrize("size", [1600, 9000, 65535])
def test_answers_are_fragmented(target: Target, size: int) -> None:
    """A large echo through a device that takes it, back through one that doesn't."""
    target.eth0.mtu = size - 14
    target.kernel.iproute.route(
        "add", dst="192.0.2.2/32", oif=target.eth0.ifindex, metrics={"mtu": 1500}
    )
    answers = target.send([echo(target, size)])
    assert all(len(answer) <= 1514 for answer in answers)
    assert sum(len(answer) - 34 for answer in answers) == size - 34
    assert target.alive()


@pytest.mark.parametrize("size", [0, 65558])
def test_impossible_frames_are_refused(target: Target, size: int) -> None:
    with pytest.raises(UsageError, match="1 to 65557 bytes"):
        target.eth0.inject(bytes(size))
    assert target.alive()
