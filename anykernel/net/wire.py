# SPDX-License-Identifier: GPL-2.0
"""What the host records of the frames on links: the last ones for reports, all for pcap files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anykernel.host.frames import records

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
        c = host.c
        self._view = host.view[c.HK_WIRE_AT : c.HK_WIRE_AT + c.HK_WIRE_SIZE]
        self._sinks: list[Sink] = []
        self._began = int(host.header.wire_head)

    def forget(self) -> None:
        """What has passed so far was another life."""
        self._began = int(self._host.header.wire_head)

    def listen(self, sink: Sink) -> Callable[[], None]:
        """Calls `sink` for each frame from now on, in order; what it returns ends that."""
        self.drain()
        self._sinks.append(sink)
        self._host.tap = self._make_room

        def stop() -> None:
            self.drain()
            self._sinks.remove(sink)
            if not self._sinks:
                self._host.tap = None

        return stop

    def _make_room(self) -> None:
        """While time passes the host waits for drain() by itself; calls that end at once don't."""
        if self._host.header.wire_head - self._host.header.wire_taken > len(self._view) // 2:
            self.drain()

    def drain(self) -> None:
        """Hands on what is new; the host may go on."""
        header = self._host.header
        if self._sinks:
            for passage in self._read(int(header.wire_taken)):
                for sink in self._sinks:
                    sink(passage)
        header.wire_taken = header.wire_head

    def recent(self) -> list[Passage]:
        """The last frames of all links, as many as the ring holds."""
        return list(self._read(self._began))

    def _read(self, at: int) -> Iterator[Passage]:
        header = self._host.header
        for one in records(self._view, max(at, int(header.wire_tail)), int(header.wire_head)):
            verdict = VERDICTS[one.what & 0xFF]
            towards = bool(one.what & self._host.c.HK_TOWARDS)
            yield Passage(one.time_ns, one.port, towards, verdict, one.length, one.data)
