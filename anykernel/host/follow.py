# SPDX-License-Identifier: GPL-2.0
"""Follower: what a kernel prints, as it prints it, read from another thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anykernel.host.border import Part

if TYPE_CHECKING:
    from anykernel.host.process import Host


class Follower:
    """Of the console of one kernel, from a place on; None: from where it is now."""

    def __init__(self, host: Host, index: int, start: int | None = None) -> None:
        # Not the host's own, which another thread uses.
        self._part = Part(host.border, index)
        self._read_to = self._part.printed if start is None else start
        self._begun = b""

    def lines(self) -> list[str]:
        """What is new, in whole lines.  Raises BorderError."""
        self._read_to, new = self._part.console(self._read_to)
        *whole, self._begun = (self._begun + new).split(b"\n")
        return [line.decode(errors="replace").rstrip("\r") for line in whole]
