# SPDX-License-Identifier: GPL-2.0
"""Links between nodes' devices: what they do to frames, and rules for single ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anykernel.errors import UsageError
from anykernel.host.frames import LONGEST
from anykernel.kernel.rtnl import interface
from anykernel.net import units
from anykernel.net.wire import ON_THE_WIRE, VERDICTS, Passage

if TYPE_CHECKING:
    from anykernel.kernel.netdev import Netdev
    from anykernel.net.network import Network
    from anykernel.net.node import Node

KINDS = {"p2p": "HK_P2P", "segment": "HK_SEGMENT", "switch": "HK_SWITCH"}
"""What protocol.h calls them."""
WHOLE = 1 << 17
"""Bytes of each frame that are recorded for a pcap file: all."""
MOST_QUEUED = 1_000_000


class Verdict(NamedTuple):
    """What a rule decides about a frame."""

    what: str
    """"pass", "drop" or "double"."""
    delay: float = 0.0
    """Seconds that the frame is held back before it is sent."""
    data: bytes = b""
    """What is sent in its place, if not empty."""


PASS = Verdict("pass")
DROP = Verdict("drop")
DOUBLE = Verdict("double")


def delay(time: float | str) -> Verdict:
    """The frame is sent later: seconds, or "1.5ms"."""
    return Verdict("pass", units.duration(time) / 1e9)


def change(data: bytes) -> Verdict:
    """Other bytes are sent in the frame's place.  Raises UsageError for none or too many."""
    if not 1 <= len(data) <= LONGEST:
        raise UsageError(f"a frame has 1 to {LONGEST} bytes, not {len(data)}")
    return Verdict("pass", 0.0, bytes(data))


@dataclass(frozen=True)
class Cable:
    """How one direction of a link treats frames; each value as Network.link() takes it."""

    rate: float | str | None = None
    delay: float | str = 0
    jitter: float | str = 0
    loss: float | str = 0.0
    duplicate: float | str = 0.0
    reorder: float | str = 0.0
    reorder_delay: float | str | None = None
    corrupt: float | str = 0.0
    queue: int | None = None

    def raw(self) -> dict[str, int]:
        """The fields of struct hk_pipe.  Raises UsageError for impossible values."""
        if self.queue is not None and (
            type(self.queue) is not int or not 1 <= self.queue <= MOST_QUEUED
        ):
            raise UsageError(
                f"queue={self.queue!r}: from 1 to {MOST_QUEUED} frames, or None for the "
                "kernel's own queue (qdisc)"
            )
        ns = units.duration(self.delay)
        later = self.reorder_delay
        return {
            "rate": 0 if self.rate is None else units.rate(self.rate),
            "delay": ns,
            "jitter": units.duration(self.jitter),
            "late": max(ns, 1_000_000) if later is None else units.duration(later),
            "limit": self.queue or 0,
        } | {
            name: round(units.probability(getattr(self, name)) * (1 << 32))
            for name in ("loss", "duplicate", "reorder", "corrupt")
        }


OPTIONS = tuple(field.name for field in fields(Cable))


def cable(base: Cable, options: dict[str, Any]) -> Cable:
    """`base` with options over it.  Raises UsageError for unknown ones and impossible values."""
    for name in options:
        if name not in OPTIONS:
            raise UsageError(f"a link has no option {name!r}; there are {', '.join(OPTIONS)}")
    made = replace(base, **options)
    made.raw()
    return made


class Frame:
    """A frame that a rule decides about."""

    def __init__(self, link: Link, port: Port, data: bytes, time_ns: int) -> None:
        self.link = link
        self.port = port
        self.data = data
        self.time_ns = time_ns

    @property
    def sender(self) -> Node:
        return self.port.node

    @cached_property
    def packet(self) -> Any:
        """As scapy sees it."""
        from anykernel.kernel.netdev import to_scapy

        return to_scapy(self.data)

    def __contains__(self, layer: Any) -> bool:
        """``TCP in frame``: whether scapy finds that layer."""
        return layer in self.packet

    def __getitem__(self, layer: Any) -> Any:
        return self.packet[layer]


Decide = Callable[[Frame], Verdict | None]


class Rule:
    """A function that decides about each frame of a link, until it is removed."""

    def __init__(self, link: Link, decide: Decide, sender: Node | None) -> None:
        self.link = link
        self.decide = decide
        self.sender = sender
        self.seen = 0
        """Frames that it was asked about."""

    def remove(self) -> None:
        """It is asked no more.  Twice does no harm."""
        self.link._drop_rule(self)

    def __enter__(self) -> Rule:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Port:
    """One end of a link: a node's device."""

    def __init__(self, link: Link, node: Node, netdev: Netdev, number: int) -> None:
        self.link = link
        self.node = node
        self.netdev = netdev
        self.number = number
        self.plugged = True
        self.cable = link.cable
        self.given: list[str] = []
        """The addresses that it was given, by plug() or network.address()."""

    def __repr__(self) -> str:
        has = f": {', '.join(self.given)}" if self.given else ""
        return f"<Port {self.node.name}.{self.netdev.last.name} of {self.link.name}{has}>"

    @property
    def addresses(self) -> list[str]:
        """The addresses that its device has now, with prefix lengths, IPv4 first; link-local ones
        only where it was given them.  Of a dead kernel: those that it was given."""
        if self.node.crashed:
            return list(self.given)
        found = self.netdev.addresses
        return [one for one in found if one in self.given or not interface(one).ip.is_link_local]

    @property
    def sent(self) -> dict[str, int]:
        """Counters of what its device sent: frames, bytes, and one for each verdict."""
        return self.link.network.engine.pipe_stats(self.number, towards=False)

    def save(self) -> tuple[bool, Cable, list[str]]:
        """What a snapshot keeps of it."""
        return self.plugged, self.cable, list(self.given)

    def load(self, saved: tuple[bool, Cable, list[str]]) -> None:
        """Back to save(); the node's ports are gathered anew."""
        self.plugged, self.cable, given = saved
        self.given = list(given)
        if self.plugged:
            self.node.ports.append(self)

    @property
    def received(self) -> dict[str, int]:
        """Counters of what a switch sent to its device, as `sent`; elsewhere all are 0."""
        return self.link.network.engine.pipe_stats(self.number, towards=True)

    def begin(self, fresh: bool, addresses: Sequence[str]) -> None:
        """It is plugged in: its device, if it is new, comes up; it gets a carrier, addresses."""
        if fresh:
            self.netdev.up()
        self.netdev.carrier = self.link.is_up
        if addresses:
            self.netdev.add_address(*addresses)

    def unplug(self) -> None:
        """Pulls the cable: the device has no carrier, frames on the cable are lost.  Its addresses
        and routes stay; link.plug(node, netdev=...) plugs it in again, there or elsewhere."""
        if self.plugged:
            self.plugged = False
            self.link.ports.remove(self)
            self.node.ports.remove(self)
            self.link.network.engine.command("HK_UNPLUG", self.number)
            if not self.node.crashed:
                self.netdev.carrier = False


class Link:
    """Joins devices; made by network.link(), segment() and switch()."""

    def __init__(self, network: Network, kind: str, name: str, number: int, with_: Cable) -> None:
        self.network = network
        self.kind = kind
        self.name = name
        self.number = number
        self.cable = with_
        self.ports: list[Port] = []
        self.is_up = True
        self.rules: tuple[Rule, ...] = ()
        self._captures = 0

    def __repr__(self) -> str:
        ends = ", ".join(port.node.name for port in self.ports)
        return f"<Link {self.name} ({self.kind}) of {ends}{'' if self.is_up else ', down'}>"

    def plug(
        self,
        node: Node | str,
        *,
        netdev: Netdev | None = None,
        addresses: str | tuple[str, ...] | list[str] = (),
        mtu: int = 1500,
        **options: Any,
    ) -> Port:
        """Adds a node, with a new device or one that was unplugged; options of the cable are the
        link's unless given.  Raises UsageError."""
        return self.network.plug(self, node, netdev, addresses, mtu, cable(self.cable, options))

    def port(self, node: Node | str) -> Port:
        """The end at `node`.  Raises UsageError."""
        name = node if isinstance(node, str) else node.name
        for port in self.ports:
            if port.node.name == name:
                return port
        raise UsageError(f"{self.name} has no end at {name}")

    def set(self, *, sender: Node | str | None = None, **options: Any) -> None:
        """Changes options of all that the link has, for frames from now on; with `sender`, only
        those of what it sends (on a switch, of its cable, both ways).  Raises UsageError."""
        if sender is None:
            self.cable = cable(self.cable, options)
        for port in self.ports if sender is None else [self.port(sender)]:
            self.network.set_cable(port, cable(port.cable, options))

    def down(self) -> None:
        """Cuts it: devices lose their carrier, and frames on their way are lost."""
        self._up(False)

    def up(self) -> None:
        """Mends it."""
        self._up(True)

    def _up(self, up: bool) -> None:
        self.is_up = up
        self.network.engine.command("HK_LINK_UP", self.number, int(up))
        for port in self.ports:
            if not port.node.crashed:
                port.netdev.carrier = up

    @contextmanager
    def cut(self) -> Iterator[Link]:
        """Down for a with block."""
        self.down()
        try:
            yield self
        finally:
            self.up()

    # Rules

    def rule(self, decide: Decide, *, sender: Node | str | None = None) -> Rule:
        """Asks `decide(frame)` about each frame that is sent from now on; with `sender`, only
        about its.  It returns PASS (or None), DROP, DOUBLE, delay(time) or change(bytes); the
        first rule that says other than PASS counts.  As a with block it ends there::

            with link.rule(lambda frame: DROP if TCP in frame else PASS):
                ...

        It may look at the frame, but not use kernels.
        """
        port = None if sender is None else self.port(sender)
        made = Rule(self, decide, None if port is None else port.node)
        self.rules += (made,)
        self.ask()
        return made

    def _drop_rule(self, rule: Rule) -> None:
        if rule in self.rules:
            self.rules = tuple(other for other in self.rules if other is not rule)
            self.ask()

    def ask(self) -> None:
        """Tells the host whose frames rules are asked about."""
        for port in self.ports:
            asks = any(rule.sender in (None, port.node) for rule in self.rules)
            self.network.engine.command("HK_ASK", port.number, int(asks))

    def decide(self, frame: Frame) -> Verdict:
        """What the rules say."""
        for rule in self.rules:
            if rule.sender is None or rule.sender is frame.sender:
                rule.seen += 1
                verdict = rule.decide(frame)
                if verdict is not None and not isinstance(verdict, Verdict):
                    raise UsageError(
                        f"a rule of {self.name} said {verdict!r}: it returns PASS (or None), "
                        "DROP, DOUBLE, delay(time) or change(bytes)"
                    )
                if verdict is not None and verdict != PASS:
                    return verdict
        return PASS

    # Snapshots

    def save(self) -> tuple[Cable, list[Port], bool, tuple[Rule, ...]]:
        """What a snapshot keeps of it."""
        return self.cable, list(self.ports), self.is_up, self.rules

    def load(self, saved: tuple[Cable, list[Port], bool, tuple[Rule, ...]]) -> None:
        """Back to save(); captures go on."""
        self.cable, ports, self.is_up, self.rules = saved
        self.ports = list(ports)
        self.snap()

    # What passed

    @property
    def statistics(self) -> dict[str, int]:
        """The sum of what its ports sent: frames, bytes, and one for each verdict."""
        total = dict.fromkeys(("frames", "bytes", *VERDICTS), 0)
        for port in self.ports:
            for name, value in port.sent.items():
                total[name] += value
        return total

    @contextmanager
    def capture(self) -> Iterator[list[Passage]]:
        """A list that gets each frame that is sent during the with block, whole: those that are
        lost on the way, too, and those that are corrupted as they arrive.  In order of time when
        the block has ended."""
        found: list[Passage] = []
        numbers = {port.number for port in self.ports}

        def take(passage: Passage) -> None:
            if passage.port in numbers and not passage.towards and passage.verdict in ON_THE_WIRE:
                found.append(passage)

        self._captures += 1
        stop = self.network.wire.listen(take)
        self.snap()
        try:
            yield found
        finally:
            stop()
            self._captures -= 1
            self.snap()
            found.sort(key=lambda passage: passage.time_ns)

    def snap(self) -> None:
        """Tells the host how much of each frame to record."""
        if self in self.network.links:  # and not restored away
            length = WHOLE if self._captures else self.network.host.c.HK_WIRE_SNAP
            self.network.engine.command("HK_LINK_SNAP", self.number, length)

    @contextmanager
    def pcap(self, path: str | Path) -> Iterator[list[Passage]]:
        """As capture(); writes a pcap file (nanoseconds) at the end, also when the block fails."""
        from anykernel.kernel.pcap import write_pcap

        with self.capture() as found:
            try:
                yield found
            finally:
                self.network.wire.drain()
                write_pcap(path, sorted(found, key=lambda passage: passage.time_ns))
