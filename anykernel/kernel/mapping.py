# SPDX-License-Identifier: GPL-2.0
"""What mmap() gave a process, read and written from Python."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, overload

from anykernel.errors import UsageError

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
SHARED = mmap.MAP_SHARED


class Mapping:
    """Some mapped memory, as bytes: len(), `mapping[3]`, `mapping[:8]` and assignments to both, of
    the same length.  A context manager that unmaps it.  Each access copies, as of that moment.

    It lies in the kernel's memory: a snapshot restores what it holds.
    """

    def __init__(
        self, process: Process, fd: int, length: int, prot: int, flags: int, offset: int
    ) -> None:
        self._process = process
        self._length = length
        self._state = process.state
        self._address: int | None = process.syscall("mmap", 0, length, prot, flags, fd, offset)

    @property
    def address(self) -> int:
        """Where the kernel finds it, for system calls.  Raises ValueError when it is closed,
        UsageError when it was restored away."""
        if self._address is None:
            raise ValueError("mmap closed or invalid")
        if not self._state.alive:
            raise UsageError(
                "this mapping was made after the snapshot that is restored now: map again"
            )
        return self._address

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: slice) -> bytes: ...
    def __getitem__(self, key: int | slice) -> int | bytes:
        at = range(self._length)[key]
        if isinstance(at, int):
            return self.read(at, 1)[0]
        if at.step == 1:
            return self.read(at.start, len(at))
        return self.read(0, self._length)[key]

    def __setitem__(self, key: int | slice, value: int | bytes) -> None:
        at = range(self._length)[key]
        data = bytes([value]) if isinstance(value, int) else bytes(value)
        where = range(at, at + 1) if isinstance(at, int) else at
        if where.step != 1 or len(data) != len(where):
            raise IndexError(f"{len(data)} bytes don't fit {len(where)} in a row")
        self.write(where.start, data)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on.  Raises IndexError outside of the mapping."""
        self._inside(offset, size)
        return self._process.instance.read_memory(self.address + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Changes what lies there.  Raises IndexError outside of the mapping."""
        self._inside(offset, len(data))
        self._process.instance.write_memory(self.address + offset, data)

    def _inside(self, offset: int, size: int) -> None:
        if not 0 <= offset <= offset + size <= self._length:
            raise IndexError(f"bytes {offset} to {offset + size} of {self._length}")

    @property
    def closed(self) -> bool:
        """It was closed, or restored away."""
        return self._address is None or not self._state.alive

    def close(self) -> None:
        """munmap(); twice does no harm."""
        address, self._address = self._address, None
        if address is not None and self._state.alive:
            self._process.syscall("munmap", address, self._length)

    def __enter__(self) -> Mapping:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
