# SPDX-License-Identifier: GPL-2.0
"""User memory: a window of shared memory, the only addresses that the kernel takes as a user's."""

from __future__ import annotations

import threading
from types import TracebackType

from anykernel.errors import UsageError

SMALLEST = 6
"""Sizes are powers of two, from 64 bytes on."""


class Buffer:
    """Some user memory; a context manager that frees it.  Freeing twice does no harm."""

    __slots__ = ("_age", "_memory", "_offset", "_order", "_size")

    def __init__(self, memory: UserMemory, offset: int, size: int, order: int, age: int) -> None:
        self._memory = memory
        self._offset = offset
        self._size = size
        self._order = order
        self._age = age

    @property
    def address(self) -> int:
        """Where the kernel finds it."""
        return self._memory.base + self._offset

    @property
    def view(self) -> memoryview:
        """The same bytes in Python, writable."""
        return self._memory.window[self._offset : self._offset + self._size]

    def __len__(self) -> int:
        return self._size

    def free(self) -> None:
        """Gives it back; its bytes may change from now on."""
        self._memory._give_back(self._offset, self._order, self._age)
        self._age = -1

    def __enter__(self) -> Buffer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.free()


class UserMemory:
    """A buddy-less allocator over the window: free blocks of each power of two are reused.

    Not part of snapshots: restoring one changes no byte here and frees nothing.
    """

    def __init__(self, window: memoryview, base: int) -> None:
        self.window = window
        self.base = base
        self._lock = threading.Lock()
        """Of what single operations on lists, which no thread can interrupt, don't do."""
        self._age = 0
        self._top = 0
        self._odd: dict[int, int] = {}
        self._free: list[list[int]] = [[] for _ in range(65)]

    def alloc(self, size: int, align: int = 16) -> Buffer:
        """`size` bytes of any content, at a multiple of `align` (a power of two, at most 4096).

        Raises MemoryError when the window is full, UsageError for a wrong size or alignment.
        """
        if size < 0 or align < 1 or align & (align - 1) or align > 4096:
            raise UsageError(f"can't allocate {size} bytes of user memory aligned to {align}")
        order = max((max(size, align, 1) - 1).bit_length(), SMALLEST)
        free = self._free[order]
        if free:
            try:
                return Buffer(self, free.pop(), size, order, self._age)
            except IndexError:
                pass  # another thread has just taken the last
        with self._lock:
            return self._fresh(size, order)

    def _fresh(self, size: int, order: int) -> Buffer:
        """A buffer behind all others."""
        # Large blocks needn't be aligned to their size, nor be rounded up that much.
        unit = min(1 << order, 4096)
        offset = (self._top + unit - 1) & -unit
        end = offset + (1 << order)
        if end > len(self.window):
            end = offset + ((size + 4095) & -4096)
            if end > len(self.window):
                raise MemoryError(
                    f"the kernel's user memory ({len(self.window) >> 20} MiB) is full: can't "
                    f"allocate {size} bytes; free buffers, or use smaller ones"
                )
            order = 64
            self._odd[offset] = end
        self._top = end
        return Buffer(self, offset, size, order, self._age)

    def write(self, data: bytes | bytearray | memoryview) -> Buffer:
        """A buffer that holds a copy of `data`."""
        buffer = self.alloc(len(data))
        self.window[buffer._offset : buffer._offset + len(data)] = data
        return buffer

    def reset(self) -> None:
        """Frees everything at once."""
        with self._lock:
            self._age += 1
            self._top = 0
            self._odd = {}
            self._free = [[] for _ in range(65)]

    def _give_back(self, offset: int, order: int, age: int) -> None:
        if age != self._age:
            return
        if order < 64:
            self._free[order].append(offset)
            return
        with self._lock:
            if self._odd.pop(offset) == self._top:
                # Blocks behind it keep what lies below them from being used again.
                self._top = offset
