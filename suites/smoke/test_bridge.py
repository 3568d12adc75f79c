# SPDX-License-Identifier: GPL-2.0
"""Bridge: made by netlink, it floods, learns and forwards between two ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel import Kernel, Netdev

LEFT = bytes.fromhex("0200000000a1")
RIGHT = bytes.fromhex("0200000000b1")
BROADCAST = b"\xff" * 6


def frame(target: bytes, source: bytes, text: bytes) -> bytes:
    """An Ethernet frame of a type for experiments."""
    return target + source + b"\x88\xb5" + text.ljust(46, b"\0")


@pytest.fixture
def ports(kernel: Kernel) -> list[Netdev]:
    """Three ports of a bridge without spanning tree."""
    route = kernel.iproute
    route.link("add", ifname="br0", kind="bridge", br_stp_state=0, br_forward_delay=0)
    bridge = route.link_lookup(ifname="br0")[0]
    ports = [kernel.add_netdev(f"port{n}") for n in range(3)]
    for port in ports:
        route.link("set", index=port.ifindex, master=bridge)
        route.link("set", index=port.ifindex, state="up")
    route.link("set", index=bridge, state="up")
    kernel.clock.advance(1)
    for port in ports:
        port.capture()
    return ports


def heard(port: Netdev) -> list[bytes]:
    """Our frames that came out of the port (the kernel has things to say, too)."""
    frames = [bytes(frame.data) for frame in port.capture() if frame.direction == "tx"]
    return [data for data in frames if data[12:14] == b"\x88\xb5"]


def test_a_broadcast_goes_to_all_others(ports: list[Netdev]) -> None:
    sent = frame(BROADCAST, LEFT, b"all")
    ports[0].inject([sent])
    assert [heard(port) for port in ports] == [[], [sent], [sent]]


def test_an_unknown_target_is_flooded_and_a_learnt_one_is_not(ports: list[Netdev]) -> None:
    first = frame(RIGHT, LEFT, b"where are you")
    ports[0].inject([first])
    assert [heard(port) for port in ports] == [[], [first], [first]]
    answer = frame(LEFT, RIGHT, b"here")
    ports[1].inject([answer])
    assert [heard(port) for port in ports] == [[answer], [], []]
    again = frame(RIGHT, LEFT, b"good")
    ports[0].inject([again])
    assert [heard(port) for port in ports] == [[], [again], []]


def test_what_was_learnt_is_forgotten_after_five_minutes(
    kernel: Kernel, ports: list[Netdev]
) -> None:
    ports[1].inject([frame(BROADCAST, RIGHT, b"hello")])
    for port in ports:
        port.capture()
    kernel.clock.advance(400)
    sent = frame(RIGHT, LEFT, b"still there?")
    ports[0].inject([sent])
    assert [heard(port) for port in ports] == [[], [sent], [sent]]
