# SPDX-License-Identifier: GPL-2.0
"""Life: what a kernel has said and gone through, in the life that the last restore gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from anykernel.places import Place, Warned, places

if TYPE_CHECKING:
    from anykernel.host.process import Host

MOST = 64 << 20
"""Bytes of a kernel's log that are kept."""


class Mark(NamedTuple):
    """What a snapshot has of it."""

    said: int
    lost: int
    noticed: int
    warned: int


class Life:
    """Of kernel `index` of a host; read as the host has news, so that its rings never overrun
    between two requests."""

    def __init__(self, host: Host, index: int) -> None:
        self._part = host.border.part(index)
        self._half = int(host.c.HK_CONSOLE_SIZE) // 2
        self._said = bytearray()
        self._read_to = 0
        self._warned = 0
        self._marked = 0
        self.lost = 0
        """Bytes of said() that are missing: it was more than could be kept."""
        self.noticed: list[Warned] = []
        """Each time that it was seen to have warned.  Restores take nothing back."""
        self.died_at: tuple[Place, ...] = ()
        """Where the caller was when it crashed."""

    def said(self) -> bytearray:
        """What it printed from its boot to now: a restore takes back what came since the
        snapshot.  `lost` counts what is missing."""
        head, new = self._part.console(self._read_to)
        if head != self._read_to:
            room = MOST - len(self._said)
            self._said += new[:room]
            self.lost += max(head - self._read_to - min(len(new), room), 0)
            self._seen(head)
        return self._said

    def _seen(self, head: int) -> None:
        self._read_to = head
        self._part.console_seen(head)

    def look(self) -> None:
        """The host has news, perhaps of this kernel."""
        count = self._part.warnings
        if count > self._warned:
            self.said()  # its words are not to be overrun by what follows
            self.noticed.append(Warned(count - self._warned, places()))
        self._warned = count
        if self._part.printed - self._read_to > self._half:
            self.said()

    def died(self) -> None:
        """It has crashed, in what the caller does now."""
        self.died_at = places()

    def mark(self) -> Mark:
        """Where it is, for back()."""
        self._marked = len(self.noticed)
        return Mark(len(self.said()), self.lost, self._marked, self._warned)

    def back(self, mark: Mark, printed: int) -> None:
        """A restore has brought it back to where it was; it has printed so many bytes."""
        if printed != self._read_to:
            self._seen(printed)  # what is there was another life
        said, self.lost, noticed, self._warned = mark
        if len(self._said) > said:
            del self._said[said:]
        here = len(self.noticed)
        self._marked = noticed if noticed < here else here
        self.died_at = ()

    def take(self, mark: Mark) -> str:
        """What it said since mark(), which it then has not said."""
        text = self.said()[mark.said :].decode(errors="replace")
        del self._said[mark.said :]
        self.lost = mark.lost
        return text

    def forget(self) -> None:
        """What was noticed since the present snapshot concerns nobody any more."""
        del self.noticed[self._marked :]
