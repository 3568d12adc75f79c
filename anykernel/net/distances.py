# SPDX-License-Identifier: GPL-2.0
"""The table of a distance-vector protocol, with RIPng's rules (RFC 2080, section 2.4); no input or
output, and time is what it is told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import NamedTuple

Prefix = IPv6Network
INFINITY = 16
"""The metric of what can't be reached."""


@dataclass(frozen=True)
class Timers:
    """Seconds, as RFC 2080 has them."""

    update: float = 30.0
    """Between a router's regular updates; each is up to `spread` earlier or later."""
    spread: float = 15.0
    timeout: float = 180.0
    """A route that nobody has confirmed for so long can't be reached any more."""
    garbage: float = 120.0
    """For so long neighbours are told that it can't."""
    triggered: tuple[float, float] = (1.0, 5.0)
    """From a triggered update to the next one, at random between these."""

    def bound(self, diameter: int) -> float:
        """Seconds after which a network is in order again when devices tell of a link's end.

        News travel a hop in the time between two triggered updates, or less.  False routes grow
        by one with each hop, so that they end after INFINITY hops; then somebody's next regular
        update tells of the right one, which is known everywhere `diameter` hops later.
        """
        return (INFINITY + diameter) * self.triggered[1] + self.update + self.spread


class Heard(NamedTuple):
    """What a neighbour says: its metric of a network, and whom packets are to be sent to."""

    prefix: Prefix
    metric: int
    gateway: str


@dataclass(slots=True)
class Entry:
    """What is known about a network."""

    metric: int
    ifindex: int
    gateway: str
    """Link-local; empty for a network that the router is connected to."""
    sender: str
    changed: bool
    due: float
    """When it times out or, with an infinite metric, is deleted."""


class Table:
    """Networks, and how to reach them."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._entries: dict[Prefix, Entry] = {}
        self.pending = False
        """Something changed, and neighbours have not been told."""

    def __len__(self) -> int:
        return len(self._entries)

    def metric(self, prefix: Prefix) -> int:
        """INFINITY when it can't be reached."""
        entry = self._entries.get(prefix)
        return INFINITY if entry is None else entry.metric

    @property
    def due(self) -> float:
        """When tick() has something to do."""
        return min((entry.due for entry in self._entries.values()), default=math.inf)

    def routes(self) -> dict[Prefix, tuple[int, str]]:
        """{network: (ifindex, gateway)}, without those that the kernel knows by itself."""
        return {
            prefix: (entry.ifindex, entry.gateway)
            for prefix, entry in self._entries.items()
            if entry.gateway and entry.metric < INFINITY
        }

    def news(self, ifindex: int, *, everything: bool) -> list[tuple[Prefix, int]]:
        """What to tell over a device: all, or what changed.  What is reached over that device is
        said to be unreachable (split horizon with poisoned reverse)."""
        return [
            (prefix, INFINITY if entry.gateway and entry.ifindex == ifindex else entry.metric)
            for prefix, entry in self._entries.items()
            if everything or entry.changed
        ]

    def told(self) -> None:
        """Neighbours know all changes."""
        self.pending = False
        for entry in self._entries.values():
            entry.changed = False

    def connect(self, now: float, prefixes: Mapping[Prefix, int]) -> None:
        """The router is connected to these networks now: {network: ifindex}."""
        for prefix, ifindex in prefixes.items():
            entry = self._entries.get(prefix)
            if entry is None or entry.gateway or entry.metric > 1:
                self._entries[prefix] = Entry(1, ifindex, "", "", True, math.inf)
                self.pending = True
        for prefix, entry in self._entries.items():
            if not entry.gateway and prefix not in prefixes:
                self._end(now, entry)

    def lose(self, now: float, ifindex: int) -> None:
        """Nothing is reached over that device any more."""
        for entry in self._entries.values():
            if entry.ifindex == ifindex and entry.gateway:
                self._end(now, entry)

    def hear(
        self, now: float, ifindex: int, heard: Iterable[Heard], sender: str, cost: int
    ) -> None:
        """A neighbour told something over a device of that cost."""
        for prefix, told, gateway in heard:
            metric = min(told + cost, INFINITY)
            entry = self._entries.get(prefix)
            if entry is None:
                if metric < INFINITY:
                    self._adopt(now, prefix, metric, ifindex, gateway, sender)
                continue
            if not entry.gateway and entry.metric < INFINITY:
                continue
            same = entry.sender == sender and entry.ifindex == ifindex
            if metric < entry.metric or (same and INFINITY > metric != entry.metric):
                self._adopt(now, prefix, metric, ifindex, gateway, sender)
            elif same and metric == INFINITY:
                self._end(now, entry)
            elif same:
                entry.due = now + self._timers.timeout

    def tick(self, now: float) -> None:
        """Timeouts and deletions that are due."""
        for prefix, entry in list(self._entries.items()):
            if entry.due > now:
                continue
            if entry.metric < INFINITY:
                self._end(now, entry)
            else:
                del self._entries[prefix]

    def _adopt(
        self, now: float, prefix: Prefix, metric: int, ifindex: int, gateway: str, sender: str
    ) -> None:
        due = now + self._timers.timeout
        self._entries[prefix] = Entry(metric, ifindex, gateway, sender, True, due)
        self.pending = True

    def _end(self, now: float, entry: Entry) -> None:
        if entry.metric < INFINITY:
            entry.metric, entry.changed = INFINITY, True
            entry.due = now + self._timers.garbage
            self.pending = True
