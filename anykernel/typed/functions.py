# SPDX-License-Identifier: GPL-2.0
"""Function: a C function that is called from Python, with typed arguments and result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anykernel.errors import UsageError
from anykernel.host.instance import LIB_CALL_ARGS
from anykernel.link.debuginfo import Signature
from anykernel.typed.shapes import (
    ArrayShape,
    FunctionShape,
    PointerShape,
    Scalar,
    Shape,
    StructShape,
    Void,
    shape_of,
)
from anykernel.typed.values import Array, Pointer

if TYPE_CHECKING:
    from anykernel.host import Buffer
    from anykernel.typed.space import Space

WORD = (1 << 64) - 1
IN_REGISTERS = 16
"""Bytes up to which a struct is passed and returned in registers (System V ABI)."""


class Function:
    """``function(1, pointer, "text", b"bytes", None)``: integers must fit their parameter, text and
    bytes are lent for the call, structs are passed by value where C does.

    Raises UsageError for arguments that don't fit, KernelCrash when it crashes.
    """

    def __init__(self, space: Space, signature: Signature, address: int) -> None:
        self._space = space
        self.signature = signature
        self.address = address
        self._parameters = [shape_of(one.type) for one in signature.parameters]
        self._result = shape_of(signature.returns)
        self._simple = all(isinstance(s, Scalar | PointerShape) for s in self._parameters)
        self.__doc__ = str(signature)

    def __int__(self) -> int:
        return self.address

    __index__ = __int__

    def __repr__(self) -> str:
        return f"<{self.signature}>"

    def __call__(self, *args: Any) -> Any:
        lent: list[Buffer] = []
        try:
            words = self._words(args, lent)
            hidden = None
            if isinstance(self._result, StructShape) and self._result.size > IN_REGISTERS:
                hidden = self._space.instance.user.alloc(self._result.size)
                words.insert(0, hidden.address)
            if len(words) > LIB_CALL_ARGS:
                raise UsageError(f"{self.signature}: {LIB_CALL_ARGS} words of arguments at most")
            low, high = self._space.call(self.address, words)
        finally:
            for buffer in lent:
                buffer.free()
        return self._returned(low, high, hidden)

    def _words(self, args: tuple[Any, ...], lent: list[Buffer]) -> list[int]:
        known = self._parameters
        if len(args) < len(known) or (len(args) > len(known) and not self.signature.variadic):
            raise UsageError(f"{self.signature}: called with {len(args)} arguments")
        words: list[int] = []
        for number, value in enumerate(args):
            shape = known[number] if number < len(known) else None
            if isinstance(shape, StructShape):
                words += self._by_value(shape, value)
            else:
                words.append(self._word(shape, value, number, lent))
        return words

    def _word(self, shape: Shape | None, value: Any, number: int, lent: list[Buffer]) -> int:
        """One argument that fits a register; shape is None behind a `...`."""
        if value is None:
            return 0
        if isinstance(value, str | bytes | bytearray) and not isinstance(shape, Scalar):
            data = value.encode() + b"\0" if isinstance(value, str) else bytes(value)
            buffer = self._space.instance.user.write(data)
            lent.append(buffer)
            return buffer.address
        if isinstance(shape, Scalar):
            self._fits(shape, value, number)
            return int(value) & WORD
        if not hasattr(value, "__index__") and callable(value):
            return self._callback(shape, value, number)
        try:
            return int(value) & WORD
        except (TypeError, ValueError):
            raise UsageError(f"{self._named(number)} can't be {value!r}") from None

    def _fits(self, shape: Scalar, value: Any, number: int) -> None:
        try:
            shape.store(value)
        except (UsageError, TypeError, ValueError) as error:
            raise UsageError(f"{self._named(number)}: {error}") from None

    def _named(self, number: int) -> str:
        known = self.signature.parameters
        name = known[number].name if number < len(known) else f"argument {number + 1}"
        return f"{self.signature}: {name}"

    def _callback(self, shape: Shape | None, value: Callable[..., Any], number: int) -> int:
        if not isinstance(shape, PointerShape) or not isinstance(shape.target, FunctionShape):
            raise UsageError(f"{self._named(number)} is no pointer to a function")
        if self._space.callback is None:
            raise UsageError(f"{self._named(number)}: only units can call Python")
        return self._space.callback(value, shape.target.signature)

    def _by_value(self, shape: StructShape, value: Any) -> list[int]:
        if shape.size > IN_REGISTERS:
            raise UsageError(f"{self.signature}: {shape.name} by value is too large to be passed")
        if not isinstance(value, Pointer):
            raise UsageError(f"{self.signature}: {shape.name} by value needs a struct in memory")
        data = value.bytes(shape.size).ljust(-(-shape.size // 8) * 8, b"\0")
        return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]

    def _returned(self, low: int, high: int, hidden: Buffer | None) -> Any:
        shape = self._result
        if isinstance(shape, Scalar):
            return shape.load(low.to_bytes(8, "little"))
        if isinstance(shape, PointerShape):
            return Pointer(self._space, low, shape.target)
        if isinstance(shape, Void):
            return None
        if isinstance(shape, StructShape):
            if hidden is None:
                hidden = self._space.instance.user.alloc(16)
                assert hidden is not None
                hidden.view[:] = low.to_bytes(8, "little") + high.to_bytes(8, "little")
            return Pointer(self._space, hidden.address, shape)
        raise UsageError(f"{self.signature}: {shape.name} can't be returned")


def from_word(space: Space, shape: Shape, word: int) -> Any:
    """An argument, as a word, as a value in Python."""
    if isinstance(shape, Scalar):
        return shape.load(word.to_bytes(8, "little"))
    if isinstance(shape, PointerShape):
        return Pointer(space, word, shape.target)
    if isinstance(shape, ArrayShape):
        return Array(space, word, shape)
    return Pointer(space, word, shape)
