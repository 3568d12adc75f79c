# SPDX-License-Identifier: GPL-2.0
"""Memory that a test lends to a unit: zeroed, owned by the test, checked for what it overruns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anykernel.errors import KernelError

if TYPE_CHECKING:
    from anykernel.host import Buffer, UserMemory

FENCE = b"\xa5" * 64
"""Before and behind each block: nobody's."""


class MemoryDamage(KernelError):
    """A unit wrote where nothing of its own is."""


class Owned:
    """The blocks of one unit."""

    def __init__(self, memory: UserMemory) -> None:
        self._memory = memory
        self._blocks: dict[int, tuple[Buffer, int]] = {}

    def alloc(self, size: int) -> int:
        """The address of `size` zero bytes."""
        buffer = self._memory.alloc(size + 2 * len(FENCE), align=64)
        view = buffer.view
        view[: len(FENCE)] = FENCE
        view[len(FENCE) : len(FENCE) + size] = bytes(size)
        view[len(FENCE) + size :] = FENCE
        address = buffer.address + len(FENCE)
        self._blocks[address] = buffer, size
        return address

    def free(self, address: int) -> None:
        """Raises MemoryDamage."""
        buffer, size = self._blocks.pop(address)
        try:
            self._check(address, buffer, size)
        finally:
            buffer.free()

    def check(self) -> None:
        """Raises MemoryDamage."""
        for address, (buffer, size) in self._blocks.items():
            self._check(address, buffer, size)

    def save(self) -> dict[int, bytes]:
        """The blocks and what is in them."""
        return {at: bytes(buffer.view) for at, (buffer, _) in self._blocks.items()}

    def load(self, saved: dict[int, bytes]) -> None:
        """Back to that; what was allocated since goes, unchecked.  A block that was freed since
        stays so."""
        for address in [*self._blocks]:
            if address in saved and self._blocks[address][0].alive:
                self._blocks[address][0].view[:] = saved[address]
            else:
                self._blocks.pop(address)[0].free()

    @staticmethod
    def _check(address: int, buffer: Buffer, size: int) -> None:
        view = buffer.view
        before, behind = bytes(view[: len(FENCE)]), bytes(view[len(FENCE) + size :])
        for name, fence in (("before", before), ("behind", behind)):
            if fence != FENCE:
                wrong = [at for at, byte in enumerate(fence) if byte != FENCE[0]]
                distance = len(FENCE) - wrong[-1] if name == "before" else wrong[0]
                raise MemoryDamage(
                    f"the unit wrote {name} a block of {size} bytes at {address:#x}: "
                    f"{distance} bytes from its {'begin' if name == 'before' else 'end'}"
                )
