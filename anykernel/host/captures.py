# SPDX-License-Identifier: GPL-2.0
"""Frames that pass a kernel's netdevs: the last ones for reports, all for those who listen."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from anykernel.host.frames import Frame, Record

if TYPE_CHECKING:
    from anykernel.host.border import Border

Sink = Callable[[Frame], None]
OFF, LAST, ALL = 0, 1, 2
"""hk_kernel.captures."""


class Captures:
    """The capture ring of kernel `index`."""

    def __init__(self, border: Border, index: int) -> None:
        self._raw = border.raw(index)
        self._ring = border.part(index).capture
        self._sinks: list[weakref.WeakMethod[Sink]] = []
        self._taken = 0
        self._since = 0

    def record(self, on: bool) -> None:
        """Whether frames are recorded; who listens to them hears no more where not."""
        if not on:
            self._sinks = []
        self._raw.captures = ALL if self._sinks else LAST if on else OFF

    def listen(self, sink: Sink) -> Callable[[], None]:
        """Calls `sink`, a method of an object that is held weakly, for each frame that passes from
        now on, in order: no later than in drain(), and before the ring overwrites it.  What it
        returns ends that."""
        self.drain()
        ref = weakref.WeakMethod(sink)
        self._sinks.append(ref)
        self._raw.captures = ALL

        def stop() -> None:
            self.drain()
            if ref in self._sinks:
                self._sinks.remove(ref)
                self.record(True)

        return stop

    def drain(self) -> None:
        """Hands on what is new.  The host waits for that rather than overwrite it.

        Raises BorderError when it was overwritten nevertheless.
        """
        begin, self._taken = self._taken, self._ring.head
        listening = [(ref, sink) for ref in self._sinks if (sink := ref()) is not None]
        if listening:
            self._ring.whole_from(begin)
            for record in self._ring.records(begin, self._taken):
                frame = _frame(record)
                for _, sink in listening:
                    sink(frame)
        self._ring.take(self._taken)
        if len(listening) < len(self._sinks):
            self._sinks = [ref for ref, _ in listening]
            self.record(True)

    def forget(self, head: int) -> None:
        """last() begins here: the ring's head is `head`."""
        if self._sinks:
            self.drain()
        self._since = head

    def last(self, dev: int | None) -> list[Frame]:
        """The last frames, of one netdev or of all, as far as the ring holds them."""
        records = self._ring.records(self._since)
        return [_frame(record) for record in records if dev is None or dev == record.port]


def _frame(record: Record) -> Frame:
    way: Literal["rx", "tx"] = "tx" if record.what else "rx"
    return Frame(record.position, record.time_ns, record.port, way, record.data)
