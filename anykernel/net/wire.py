# SPDX-License-Identifier: GPL-2.0
"""What the host records of the frames on links: the last ones for reports, all for pcap files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.host import Host

VERDICTS = ("passed", "lost", "queue full", "link down", "dropped", "corrupted", "doubled", "late")
"""By enum hk_verdict of protocol.h."""
ON_THE_WIRE = frozenset({"passed", "lost", "corrupted", "doubled", "late"})
"""Verdicts of frames that left their sender."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A frame that a port sent, or that a switch sent to a port."""

    time_ns: int
    """When its first bit left."""
    port: int
    towards: bool
    """From the switch to the port."""
    verdict: str
    """One of VERDICTS."""
    length: int
    """Bytes of the frame."""
    data: bytes
    """The frame, or its first bytes."""


Sink = Callable[[Passage], None]


class Wire:
    """The ring that the host writes."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._ring = host.border.wire
        self._sinks: list[Sink] = []
        self._began = self._taken = self._ring.head
        host.full[host.c.HK_WIRE_FULL] = self.drain

    def forget(self) -> None:
        """What has passed so far was another life."""
        self._began = self._ring.head

    def listen(self, sink: Sink) -> Callable[[], None]:
        """Calls `sink` for each frame from now on, in order; what it returns ends that."""
        self.drain()
        self._sinks.append(sink)
        self._host.border.keep_wire(True)

        def stop() -> None:
            self.drain()
            self._sinks.remove(sink)
            if not self._sinks:
                self._host.border.keep_wire(False)

        return stop

    def drain(self) -> None:
        """Hands on what is new; the host may go on.  While somebody listens, it waits for that
        before it overwrites what is new."""
        begin, self._taken = self._taken, self._ring.head
        if self._sinks:
            self._ring.whole_from(begin)
            for passage in self._read(begin, self._taken):
                for sink in self._sinks:
                    sink(passage)
        self._ring.take(self._taken)

    def recent(self) -> list[Passage]:
        """The last frames of all links, as many as the ring holds."""
        return list(self._read(self._began))

    def _read(self, at: int, to: int | None = None) -> Iterator[Passage]:
        for one in self._ring.records(at, to):
            verdict = VERDICTS[one.what & 0xFF]
            towards = bool(one.what & self._host.c.HK_TOWARDS)
            yield Passage(one.time_ns, one.port, towards, verdict, one.length, one.data)
