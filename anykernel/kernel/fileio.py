# SPDX-License-Identifier: GPL-2.0
"""open() for files of the kernel: Python's own buffering and text layers over its descriptors."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from anykernel.errors import KernelError, UsageError
from anykernel.kernel import layers
from anykernel.kernel.collected import ClosedLater

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

MODES = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}


class KernelFile(ClosedLater, io.RawIOBase):
    """A descriptor of the kernel as a raw stream."""

    def __init__(self, process: Process, fd: int, name: Any, flags: int) -> None:
        self.process = process
        self.name = name
        self._fd = fd
        self._flags = flags
        self._state = process.state
        self.closed_later(process)

    def __repr__(self) -> str:
        return f"<kernel file {self.name!r} fd={self._fd}>"

    def fileno(self) -> int:
        if not self._state.alive:
            raise UsageError(
                "this file belongs to a state that was restored away: open it again, or open it "
                "before the snapshot"
            )
        if self._fd < 0:
            raise ValueError("I/O operation on closed file.")
        return self._fd

    def readable(self) -> bool:
        return self._flags & os.O_ACCMODE != os.O_WRONLY

    def writable(self) -> bool:
        return self._flags & os.O_ACCMODE != os.O_RDONLY

    def seekable(self) -> bool:
        try:
            self.process.os.lseek(self.fileno(), 0, 1)
        except OSError:
            return False
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        try:
            return self.process.os.readinto(self.fileno(), buffer)
        except BlockingIOError:
            return None

    def write(self, data: Any) -> int | None:
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        try:
            return self.process.os.write(self.fileno(), data)
        except BlockingIOError:
            return None

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.process.os.lseek(self.fileno(), offset, whence)

    def tell(self) -> int:
        return self.seek(0, 1)

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        self.process.os.ftruncate(self.fileno(), length)
        return length

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._state.alive:
            self.process.os.close(fd)
        super().close()

    def __exit__(self, kind: Any, *exc: Any) -> None:
        if kind is None or not issubclass(kind, KernelError):
            self.close()


def open_file(
    process: Process,
    path: Any,
    mode: str,
    buffering: int,
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> Any:
    """As the built-in open(); `path` may be a descriptor.  Text is UTF-8 when not said otherwise.

    Raises ValueError for a mode or a combination that open() refuses too.
    """
    kinds = [letter for letter in mode if letter in MODES]
    if len(kinds) != 1 or len(set(mode)) != len(mode) or set(mode) - set("rwaxbt+"):
        raise ValueError(f"invalid mode: {mode!r}")
    binary = "b" in mode
    if binary and "t" in mode:
        raise ValueError("can't have text and binary mode at once")
    if binary and (encoding or errors or newline is not None):
        raise ValueError("binary mode takes no encoding, errors or newline argument")
    if buffering == 0 and not binary:
        raise ValueError("can't have unbuffered text I/O")
    flags = MODES[kinds[0]]
    if "+" in mode:
        flags = (flags & ~os.O_ACCMODE) | os.O_RDWR
    fd = path if isinstance(path, int) else process.os.open(path, flags | os.O_CLOEXEC, 0o666)
    raw = KernelFile(process, fd, path, flags)
    if kinds[0] == "a" and raw.seekable():
        raw.seek(0, 2)
    if buffering == 0:
        return raw
    kind = layers.Random if "+" in mode else layers.Reader if kinds[0] == "r" else layers.Writer
    buffer = layers.buffered(raw, kind, buffering)
    if binary:
        return buffer
    return layers.text(buffer, mode, encoding, errors, newline, buffering == 1)
