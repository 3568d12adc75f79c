# SPDX-License-Identifier: GPL-2.0
"""Frames of our own on links, without any that kernels send by themselves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anykernel.kernel.netdev import Netdev
    from anykernel.net import Network
    from anykernel.net.link import Port
    from anykernel.net.node import Node

SNDBUFFORCE = 32
BROADCAST = b"\xff" * 6
NOBODY = b"\x02\xaa\0\0\0\x01"
TYPE = b"\x88\xb5"
"""IEEE 802's local experimental type: nobody listens, nobody answers."""


def mute(network: Network, *names: str) -> list[Node]:
    """Nodes that say nothing unasked: without IPv6."""
    nodes = [network.node(name) for name in names]
    for node in nodes:
        node.sysctl["net.ipv6.conf.default.disable_ipv6"] = 1
        node.sysctl["net.ipv6.conf.all.disable_ipv6"] = 1
    return nodes


def frame(to: bytes, sender: bytes, number: int = 0, size: int = 60) -> bytes:
    """`size` bytes in all; `number` tells frames apart."""
    head = to + sender + TYPE + number.to_bytes(4, "big")
    return head + bytes((number + i) & 0xFF for i in range(size - len(head)))


def number_of(data: bytes) -> int:
    return int.from_bytes(data[14:18], "big")


class Station:
    """Sends frames by a port's device and hears what arrives there."""

    def __init__(self, port: Port, room: int = 0) -> None:
        self.port = port
        self.netdev: Netdev = port.netdev
        self.mac = bytes.fromhex(self.netdev.mac.replace(":", ""))
        self._sock = port.node.socket(socket.AF_PACKET, socket.SOCK_RAW)
        if room:
            self._sock.setsockopt(socket.SOL_SOCKET, SNDBUFFORCE, room)
        self._sock.bind((self.netdev.name, 0))
        self._heard = self.netdev.capture()

    def send(self, *numbers: int, to: bytes = BROADCAST, size: int = 60) -> None:
        for number in numbers:
            self._sock.send(frame(to, self.mac, number, size))

    def send_raw(self, data: bytes) -> None:
        self._sock.send(data)

    @property
    def heard(self) -> list[tuple[int, int]]:
        """(ns, number) of the frames that arrived."""
        return [
            (one.time_ns, number_of(one.data))
            for one in self._heard
            if one.direction == "rx" and one.data[12:14] == TYPE
        ]

    @property
    def all_received(self) -> list[bytes]:
        """Whatever arrived, also what is not ours."""
        return self._heard.received

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.heard]


def pair(network: Network, room: int = 0, **options: Any) -> tuple[Station, Station]:
    """Two stations on a link."""
    a, b = mute(network, "a", "b")
    link = network.link(a, b, **options)
    return Station(link.port(a), room), Station(link.port(b), room)


def wire_ns(size: int, rate: float) -> int:
    """What a frame (without FCS) of `size` takes on Ethernet, in ns, by IEEE 802.3: at least 64
    bytes with its FCS, preamble and start of frame 8, interpacket gap 12."""
    return ceil(Fraction((max(size + 4, 64) + 8 + 12) * 8 * 10**9) / Fraction(rate))


def crash(node: Node) -> None:
    """A wild write in its kernel."""
    node.inside.memset(16, 1, 8)


def gaps(times: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise(times)]


def frequency(trials: int, chance: float, sigmas: float = 5.0) -> Callable[[int], bool]:
    """Whether a count of `trials` may come from that chance."""
    mean, spread = trials * chance, (trials * chance * (1 - chance)) ** 0.5
    return lambda count: abs(count - mean) <= sigmas * max(spread, 1)
