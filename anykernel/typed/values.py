# SPDX-License-Identifier: GPL-2.0
"""Pointer and Array: C's lvalues in Python."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from anykernel.errors import UsageError
from anykernel.typed.shapes import (
    ArrayShape,
    FunctionShape,
    Scalar,
    Shape,
    StructShape,
)

if TYPE_CHECKING:
    from anykernel.typed.space import Space

MAX_ERRNO = 4095
"""include/linux/err.h: pointers above -MAX_ERRNO are errors."""


class Pointer:
    """The address of a C object, with its type.

    ``p.field`` reads a member and ``p.field = 1`` writes it, whether C would say ``.`` or ``->``;
    ``p[3]`` is an element; ``p.value`` what a pointer to a scalar points to; ``int(p)`` the
    address.  A member that is a struct is such a pointer, too.  NULL is false.
    """

    __slots__ = ("_address", "_shape", "_space")

    _address: int
    _shape: Shape
    _space: Space

    def __init__(self, space: Space, address: int, shape: Shape) -> None:
        object.__setattr__(self, "_space", space)
        object.__setattr__(self, "_address", address)
        object.__setattr__(self, "_shape", shape)

    def __int__(self) -> int:
        return self._address

    __index__ = __int__

    def __bool__(self) -> bool:
        return self._address != 0

    def __eq__(self, other: object) -> bool:
        if other is None:
            return self._address == 0
        if isinstance(other, Pointer | int):
            return self._address == int(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._address)

    def __repr__(self) -> str:
        if is_error(self._address):
            return f"<ERR_PTR(-{errno.errorcode.get(self.errno, self.errno)})>"
        return f"<{self._shape.name} at {self._address:#x}>" if self else "<NULL>"

    @property
    def errno(self) -> int:
        """The error that an ERR_PTR stands for, or 0."""
        return (1 << 64) - self._address if is_error(self._address) else 0

    # Members

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):  # Python's, not C's
            raise AttributeError(name)
        field = self._struct(name).field(name)
        if field.bit_size:
            return self._bits(field.offset, field.bit_size, field.shape)
        return self._space.load(self._address + field.offset, field.shape)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "value":
            object.__setattr__(self, name, value)
            return
        field = self._struct(name).field(name)
        if field.bit_size:
            self._set_bits(field.offset, field.bit_size, int(value))
        else:
            self._space.store(self._address + field.offset, field.shape, value)

    def __dir__(self) -> list[str]:
        own = self._shape.names if isinstance(self._shape, StructShape) else []
        return [*super().__dir__(), *own]

    def _struct(self, name: str) -> StructShape:
        if not isinstance(self._shape, StructShape):
            raise AttributeError(f"{self._shape.name} has no members, so no {name!r}")
        self._checked()
        return self._shape

    def _checked(self) -> int:
        if is_error(self._address):
            text = os.strerror(self.errno)
            raise UsageError(f"this is no {self._shape.name} but an error: {text}")
        if not self._address:
            raise UsageError(f"NULL is no {self._shape.name}")
        return self._address

    def _bits(self, offset: int, size: int, shape: Shape) -> int:
        first, shift = divmod(offset, 8)
        raw = self._space.read(self._address + first, (shift + size + 7) // 8)
        value = int.from_bytes(raw, "little") >> shift & ((1 << size) - 1)
        if isinstance(shape, Scalar) and shape.signed and value >> (size - 1):
            value -= 1 << size
        return value

    def _set_bits(self, offset: int, size: int, value: int) -> None:
        if not -(1 << (size - 1)) <= value < 1 << size:
            raise UsageError(f"{value} doesn't fit into {size} bits")
        first, shift = divmod(offset, 8)
        length = (shift + size + 7) // 8
        mask = ((1 << size) - 1) << shift
        old = int.from_bytes(self._space.read(self._address + first, length), "little")
        new = old & ~mask | value << shift & mask
        self._space.write(self._address + first, new.to_bytes(length, "little"))

    # What it points to

    @property
    def value(self) -> Any:
        """What it points to."""
        return self._space.load(self._checked(), self._shape)

    @value.setter
    def value(self, value: Any) -> None:
        self._space.store(self._checked(), self._shape, value)

    def __getitem__(self, index: int) -> Any:
        return self._space.load(self._checked() + index * self._shape.size, self._shape)

    def __setitem__(self, index: int, value: Any) -> None:
        self._space.store(self._checked() + index * self._shape.size, self._shape, value)

    def __call__(self, *args: Any) -> Any:
        """Calls what a pointer to a function points to."""
        if not isinstance(self._shape, FunctionShape):
            raise UsageError(f"{self._shape.name} can't be called")
        return self._space.function(self._shape.signature, self._checked())(*args)

    def bytes(self, size: int | None = None) -> bytes:
        """`size` bytes from here, or those of the object."""
        return self._space.read(self._checked(), self._shape.size if size is None else size)

    def string(self, longest: int = 65536) -> str:
        """The C string that is here."""
        return self._space.string(self._checked(), longest)

    def cast(self, name: str) -> Pointer:
        """The same address as another type: ``p.cast("struct sock")``."""
        return self._space.at(self._address, name)

    def container(self, name: str, member: str) -> Pointer:
        """container_of(): the struct `name` whose `member` this is."""
        shape = self._space.shape(name)
        if not isinstance(shape, StructShape):
            raise UsageError(f"{name} is no struct")
        return Pointer(self._space, self._address - shape.field(member).offset, shape)


class Array:
    """An array within a C object: elements by index, iteration, and slices as lists."""

    __slots__ = ("_address", "_shape", "_space")

    def __init__(self, space: Space, address: int, shape: ArrayShape) -> None:
        self._space = space
        self._address = address
        self._shape = shape

    def __int__(self) -> int:
        return self._address

    __index__ = __int__

    def __len__(self) -> int:
        if self._shape.length is None:
            raise UsageError(f"{self._shape.name} doesn't say how long it is")
        return self._shape.length

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._space.load(self._at(index), self._shape.element)

    def __setitem__(self, index: int, value: Any) -> None:
        self._space.store(self._at(index), self._shape.element, value)

    def _at(self, index: int) -> int:
        length = self._shape.length
        if length is not None and not -length <= index < length:
            raise IndexError(f"{index} is outside of {self._shape.name}")
        index += length if length is not None and index < 0 else 0
        return self._address + index * self._shape.element.size

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, list | tuple | Array) else False

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._shape.name} at {self._address:#x}>"

    def bytes(self) -> bytes:
        return self._space.read(self._address, self._shape.size)

    def string(self) -> str:
        """The C string that it holds."""
        if self._shape.length is None:
            return self._space.string(self._address, 65536)
        return self.bytes().split(b"\0")[0].decode(errors="surrogateescape")


def is_error(address: int) -> bool:
    """IS_ERR()."""
    return address > (1 << 64) - 1 - MAX_ERRNO
