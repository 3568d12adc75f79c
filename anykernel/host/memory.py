# SPDX-License-Identifier: GPL-2.0
"""User memory: a window of shared memory, the only addresses that the kernel takes as a user's."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import NamedTuple

from anykernel.errors import UsageError
from anykernel.host.stretch import Stretch, Stretches

SMALLEST = 6
"""Sizes are powers of two, from 64 bytes on."""


class Buffer:
    """Some user memory; a context manager that frees it.  Freeing twice does no harm."""

    __slots__ = ("_born", "_freed", "_memory", "_offset", "_order", "_size")

    def __init__(self, memory: UserMemory, offset: int, size: int, order: int) -> None:
        self._memory = memory
        self._offset = offset
        self._size = size
        self._order = order
        self._born: Stretch = memory.stretch
        self._freed = False

    @property
    def alive(self) -> bool:
        """Whether it is nobody else's: not freed, not restored away."""
        return not self._freed and self._born.alive

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
        if self.alive:
            self._memory._give_back(self._offset, self._order)
        self._freed = True

    def __enter__(self) -> Buffer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.free()


class Allocated(NamedTuple):
    """Which parts of the window are in use."""

    top: int
    odd: dict[int, int]
    free: dict[int, list[int]]


class UserMemory:
    """A buddy-less allocator over the window: free blocks of each power of two are reused.

    What is allocated is part of snapshots: after a restore the same calls get the same addresses
    again, which kernels store.  The bytes are not: restoring changes none of them.
    """

    def __init__(self, window: memoryview, base: int) -> None:
        self.window = window
        self.base = base
        self._lock = threading.Lock()
        """Of what single operations on lists, which no thread can interrupt, don't do."""
        self._top = 0
        self._odd: dict[int, int] = {}
        self._free: dict[int, list[int]] = {}
        self._stretches = Stretches()
        self._saved: list[Allocated] = []
        self._as_saved = False
        """Nothing has changed since save() or restore()."""

    def alloc(self, size: int, align: int = 16) -> Buffer:
        """`size` bytes of any content, at a multiple of `align` (a power of two, at most 4096).

        Raises MemoryError when the window is full, UsageError for a wrong size or alignment.
        """
        if size < 0 or align < 1 or align & (align - 1) or align > 4096:
            raise UsageError(f"can't allocate {size} bytes of user memory aligned to {align}")
        order = max((max(size, align, 1) - 1).bit_length(), SMALLEST)
        self._as_saved = False
        free = self._free.get(order)
        if free:
            try:
                return Buffer(self, free.pop(), size, order)
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
        return Buffer(self, offset, size, order)

    def write(self, data: bytes | bytearray | memoryview) -> Buffer:
        """A buffer that holds a copy of `data`."""
        buffer = self.alloc(len(data))
        self.window[buffer._offset : buffer._offset + len(data)] = data
        return buffer

    # Snapshots

    @property
    def stretch(self) -> Stretch:
        """To which buffers belong that are made now."""
        return self._stretches.now

    def save(self) -> None:
        """A snapshot was taken, inside those that there are."""
        self._stretches.save()
        self._saved.append(self._copy(self._top, self._odd, self._free))
        self._as_saved = True

    def restore(self, snapshot: int) -> None:
        """Number `snapshot`, from 1, was restored.  Buffers made since then are no more, and to
        free them changes nothing; one that was freed since stays unused."""
        self._stretches.restore(snapshot)
        if not self._as_saved or snapshot < len(self._saved):
            del self._saved[snapshot:]
            self._top, self._odd, self._free = self._copy(*self._saved[-1])
            self._as_saved = True

    def drop(self, snapshot: int) -> None:
        """Number `snapshot`, and those inside it, are no more."""
        self._stretches.drop(snapshot)
        del self._saved[snapshot - 1 :]
        self._as_saved = False

    @staticmethod
    def _copy(top: int, odd: dict[int, int], free: dict[int, list[int]]) -> Allocated:
        return Allocated(top, dict(odd), {order: list(blocks) for order, blocks in free.items()})

    def _give_back(self, offset: int, order: int) -> None:
        self._as_saved = False
        if order < 64:
            self._free.setdefault(order, []).append(offset)
            return
        with self._lock:
            if self._odd.pop(offset) == self._top:
                # Blocks behind it keep what lies below them from being used again.
                self._top = offset
