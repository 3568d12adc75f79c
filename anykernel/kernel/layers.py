# SPDX-License-Identifier: GPL-2.0
"""Python's buffering and text layers over the kernel's raw streams."""

from __future__ import annotations

import io
from typing import Any

from anykernel.kernel.collected import ClosedLater


class _Layer(ClosedLater):
    """The outermost layer is flushed and closed when it is collected, and closes those below."""

    def over(self, below: Any) -> None:
        """Takes over from the layer that it was put on."""
        self._open_since, below._open_since = below._open_since, None

    def detach(self) -> Any:
        below: Any = super().detach()  # type: ignore[misc]
        below._open_since, self._open_since = self._open_since, None
        return below


class Reader(_Layer, io.BufferedReader):
    pass


class Writer(_Layer, io.BufferedWriter):
    pass


class Random(_Layer, io.BufferedRandom):
    pass


class Pair(_Layer, io.BufferedRWPair):
    pass


class Text(_Layer, io.TextIOWrapper):
    pass


def buffered(raw: Any, kind: type[Any], size: int = -1) -> Any:
    """One of the classes above over `raw`; a `size` below 2 means the default."""
    size = size if size > 1 else io.DEFAULT_BUFFER_SIZE
    made = kind(raw, raw, size) if kind is Pair else kind(raw, size)
    made.over(raw)
    return made


def text(
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
    made.over(buffer)
    return made
