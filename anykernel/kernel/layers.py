# SPDX-License-Identifier: GPL-2.0
"""Python's buffering and text layers over the kernel's raw streams.

Python closes such objects when it collects them, which may be in the middle of a request to the
host.  Ours are only noted then, and closed before the process' next system call.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anykernel.kernel.process import Process


class _ClosedLater:
    """Mixed into a class of io: a collected object is flushed and closed at a safe moment."""

    orphans: list[Any] | None = None

    def __del__(self) -> None:
        if self.orphans is not None and not self.closed:  # type: ignore[attr-defined]
            self.orphans.append(self)


class Reader(_ClosedLater, io.BufferedReader):
    pass


class Writer(_ClosedLater, io.BufferedWriter):
    pass


class Random(_ClosedLater, io.BufferedRandom):
    pass


class Pair(_ClosedLater, io.BufferedRWPair):
    pass


class Text(_ClosedLater, io.TextIOWrapper):
    pass


def buffered(process: Process, raw: Any, kind: type[Any], size: int = -1) -> Any:
    """One of the classes above over `raw`; a `size` below 2 means the default."""
    size = size if size > 1 else io.DEFAULT_BUFFER_SIZE
    made = kind(raw, raw, size) if kind is Pair else kind(raw, size)
    made.orphans = process.orphans
    return made


def text(
    process: Process,
    buffer: Any,
    mode: str,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    by_line: bool = False,
) -> Any:
    """Text, UTF-8 when not said otherwise, over a buffered stream."""
    made = Text(buffer, encoding or "utf-8", errors, newline, by_line)
    made.mode = mode  # type: ignore[misc]
    made.orphans = process.orphans
    return made
