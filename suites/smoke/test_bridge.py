# SPDX-License-Identifier: GPL-2.0
"""Bridge, made by netlink: it floods, learns and forwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

LEFT = bytes.fromhex("0200000000a1")
RIGHT = bytes.fromhex("0200000000b1")
BROADCAST = b"\xff" * 6


def frame(target: bytes, source: bytes, text: bytes) -> bytes:
    """An Ethernet frame of a type for experiments."""
    return target + source + b"\x88\xb5" + text.ljust(46, b"\0")


class Ports:
    """Three ports of a bridge without spanning tree."""

    def __init__(self, kernel: Kernel) -> None:
        route = kernel.iproute
        route.link("add", ifname="br0", kind="bridge", br_stp_state=0, br_forward_delay=0)
        bridge = route.link_lookup(ifname="br0")[0]
        self.devices = [kernel.add_netdev(f"port{number}") for number in range(3)]
        for device in self.devices:
            route.link("set", index=device.ifindex, master=bridge)
        route.link("set", index=bridge, state="up")
        kernel.clock.advance(1)

    def send(self, port: int, sent: bytes) -> list[list[bytes]]:
        """Sends on one port; what came out of each (of ours: the kernel has things to say, too)."""
        captures = [device.capture() for device in self.devices]
        self.devices[port].inject(sent)
        return [[out for out in c.sent if out[12:14] == b"\x88\xb5"] for c in captures]


@pytest.fixture
def ports(kernel: Kernel) -> Ports:
    return Ports(kernel)


def test_a_broadcast_goes_to_all_others(ports: Ports) -> None:
    sent = frame(BROADCAST, LEFT, b"all")
    assert ports.send(0, sent) == [[], [sent], [sent]]


def test_an_unknown_target_is_flooded_and_a_learnt_one_is_not(ports: Ports) -> None:
    first = frame(RIGHT, LEFT, b"where are you")
    assert ports.send(0, first) == [[], [first], [first]]
    answer = frame(LEFT, RIGHT, b"here")
    assert ports.send(1, answer) == [[answer], [], []]
    again = frame(RIGHT, LEFT, b"good")
    assert ports.send(0, again) == [[], [again], []]


def test_what_was_learnt_is_forgotten_after_five_minutes(kernel: Kernel, ports: Ports) -> None:
    ports.send(1, frame(BROADCAST, RIGHT, b"hello"))
    kernel.clock.advance(400)
    sent = frame(RIGHT, LEFT, b"still there?")
    assert ports.send(0, sent) == [[], [sent], [sent]]
