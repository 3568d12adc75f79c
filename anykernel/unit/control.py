# SPDX-License-Identifier: GPL-2.0
"""The memory that a unit's stubs and Python share; overlay/unit/unit.h is its one definition."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from anykernel.errors import BorderError
from anykernel.host import compiled
from anykernel.host.border import ENDLESS

if TYPE_CHECKING:
    from anykernel.host import Instance

HEADER = compiled.OVERLAY / "unit" / "unit.h"


@functools.cache
def definitions() -> tuple[Any, dict[str, int]]:
    """(cffi's view of the header, its numbers)."""
    import cffi

    text, numbers = compiled.header(HEADER)
    ffi = cffi.FFI()
    ffi.cdef(text)
    return ffi, numbers


class Control:
    """What each stub does, and what was called."""

    def __init__(self, instance: Instance) -> None:
        self.ffi, self.numbers = definitions()
        self._border = instance.border
        size = self.ffi.sizeof("struct unit_control")
        self.buffer = instance.user.alloc(size)
        self._raw = self.ffi.from_buffer(self.buffer.view)
        self.struct = self.ffi.cast("struct unit_control *", self._raw)
        self.reset()

    def reset(self, stubs: bytes | None = None) -> None:
        """Nothing called; all stubs loud, or as save() found them."""
        self.struct.head = 0
        self.ffi.memmove(self.struct.stubs, stubs or bytes(self._stubs), self._stubs)

    def save(self) -> bytes:
        """What each stub does."""
        return bytes(self.ffi.buffer(self.struct.stubs, self._stubs))

    @property
    def _stubs(self) -> int:
        return int(self.ffi.sizeof(self.struct.stubs))

    @property
    def calls(self) -> int:
        """How many calls of stubs there were.  Raises BorderError, as call() does: a unit can write
        here."""
        return self._border.below("unit_control.head", self.struct.head, ENDLESS)

    def call(self, index: int) -> tuple[int, list[int]]:
        """(the stub's number, its arguments as words) of a call."""
        one = self.struct.calls[index % self.numbers["UNIT_CALLS"]]
        most, stubs = self.numbers["UNIT_ARGS"], self.numbers["UNIT_STUBS"]
        count = self._border.below("unit_call.count", one.count, most + 1)
        number = self._border.below("unit_call.number", one.number, stubs)
        return number, [int(one.args[i]) for i in range(count)]

    def unknown(self, number: int) -> BorderError:
        """The error for a call of a stub that there isn't."""
        return self._border.lie("unit_call.number", number, "that of a stub or a function")

    def kept(self) -> int:
        """The first call that the ring still holds."""
        return max(0, self.calls - self.numbers["UNIT_CALLS"])

    def behave(self, number: int, mode: str, value: tuple[int, int] = (0, 0)) -> None:
        """Stub `number` does UNIT_LOUD, UNIT_RETURNS or UNIT_ASK from now on."""
        stub = self.struct.stubs[number]
        stub.mode = self.numbers[mode]
        stub.value[0], stub.value[1] = value
