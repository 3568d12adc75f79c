# SPDX-License-Identifier: GPL-2.0
"""Files over sockets: what socket.makefile() returns."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from anykernel.kernel import layers
from anykernel.kernel.collected import ClosedLater

if TYPE_CHECKING:
    from anykernel.kernel.sockets import Socket


class SocketIO(ClosedLater, io.RawIOBase):
    """The raw stream under makefile()."""

    def __init__(self, sock: Socket, reading: bool, writing: bool) -> None:
        self._sock: Socket | None = sock
        self._reading, self._writing = reading, writing
        self.closed_later(sock.process)

    def readable(self) -> bool:
        return self._reading

    def writable(self) -> bool:
        return self._writing

    def fileno(self) -> int:
        return -1 if self._sock is None else self._sock.fileno()

    def _socket(self) -> Socket:
        if self._sock is None:
            raise ValueError("I/O operation on closed file.")
        return self._sock

    def readinto(self, buffer: Any) -> int | None:
        try:
            return self._socket().recv_into(buffer)
        except BlockingIOError:
            return None

    def write(self, data: Any) -> int | None:
        try:
            return self._socket().send(data)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if self._sock is not None:
            super().close()
            sock, self._sock = self._sock, None
            sock.release()


def makefile(
    sock: Socket,
    mode: str,
    buffering: int | None,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    """The layers of Python's own socket.makefile()."""
    if not set(mode) <= {"r", "w", "b"}:
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    writing, binary = "w" in mode, "b" in mode
    reading = "r" in mode or not writing
    sock.hold()
    raw = SocketIO(sock, reading, writing)
    if buffering == 0:
        if not binary:
            raise ValueError("unbuffered streams must be binary")
        return raw
    kind = layers.Reader if not writing else layers.Pair if reading else layers.Writer
    buffer = layers.buffered(raw, kind, buffering or -1)
    if binary:
        return buffer
    return layers.text(buffer, mode, encoding, errors, newline)
