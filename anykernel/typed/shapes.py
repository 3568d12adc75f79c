# SPDX-License-Identifier: GPL-2.0
"""How a C type lies in memory: drgn's types, worked out once, for reading and writing fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from anykernel.errors import UsageError
from anykernel.link.debuginfo import LOCK, Signature, of_type, plain


@dataclass(frozen=True)
class Scalar:
    """An integer, bool or enum."""

    name: str
    size: int
    signed: bool
    is_bool: bool = False

    def load(self, data: bytes) -> int | bool:
        value = int.from_bytes(data[: self.size], "little", signed=self.signed)
        return bool(value) if self.is_bool else value

    def store(self, value: Any) -> bytes:
        """Raises UsageError for what doesn't fit: C would cut it off in silence."""
        if self.is_bool:
            return bytes([bool(value)])
        number = int(value)
        bits = 8 * self.size
        if not -(1 << (bits - 1)) <= number < 1 << bits:
            raise UsageError(f"{number} doesn't fit into {self.name} ({self.size} bytes)")
        return (number & ((1 << bits) - 1)).to_bytes(self.size, "little")


class PointerShape:
    """A pointer; what it points to is looked at when asked for."""

    size = 8

    def __init__(self, kind: Any) -> None:
        self.name = kind.type_name()
        self._target = plain(kind).type

    @cached_property
    def target(self) -> Shape:
        return shape_of(self._target)


class FunctionShape:
    """A function, as a pointer's target."""

    size = 1

    def __init__(self, kind: Any) -> None:
        self.name = kind.type_name()
        self.signature: Signature = of_type("", plain(kind))


@dataclass(frozen=True)
class Void:
    name: str = "void"
    size: int = 1


class ArrayShape:
    """length elements; None where the type doesn't say how many."""

    def __init__(self, kind: Any) -> None:
        self.name = kind.type_name()
        kind = plain(kind)
        self.length: int | None = kind.length
        self.element: Shape = shape_of(kind.type)
        self.size: int = self.element.size * (self.length or 0)


@dataclass(frozen=True)
class Field:
    """A member: bit_size is 0 but for bit fields, whose `offset` is in bits then."""

    offset: int
    bit_size: int
    shape: Shape


class StructShape:
    """A struct or union; members of anonymous ones count as its own, as in C."""

    def __init__(self, kind: Any) -> None:
        self.name = kind.type_name()
        self._kind = plain(kind)
        if not self._kind.is_complete():
            raise UsageError(f"{self.name} is only declared here, not defined")
        self.size: int = self._kind.size

    @cached_property
    def _members(self) -> dict[str, tuple[int, Any]]:
        """Name to (offset in bits, drgn's member)."""
        found: dict[str, tuple[int, Any]] = {}

        def add(kind: Any, base: int) -> None:
            for member in plain(kind).members or ():
                if member.name:
                    found.setdefault(member.name, (base + member.bit_offset, member))
                else:
                    add(member.type, base + member.bit_offset)

        with LOCK:
            add(self._kind, 0)
        return found

    @cached_property
    def _fields(self) -> dict[str, Field]:
        return {}

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def field(self, name: str) -> Field:
        """Raises AttributeError."""
        known = self._fields.get(name)
        if known is None:
            if name not in self._members:
                raise AttributeError(f"{self.name} has no member {name!r}")
            offset, member = self._members[name]
            with LOCK:
                bits, shape = member.bit_field_size or 0, shape_of(member.type)
            known = self._fields[name] = Field(offset if bits else offset // 8, bits, shape)
        return known


Shape = Scalar | PointerShape | FunctionShape | Void | ArrayShape | StructShape


def shape_of(kind: Any) -> Shape:
    """The shape of a drgn type.  Raises UsageError for what has none: an incomplete struct."""
    with LOCK:
        return _shape_of(kind)


def _shape_of(kind: Any) -> Shape:
    import drgn

    name = kind.type_name()
    below = plain(kind)
    match below.kind:
        case drgn.TypeKind.VOID:
            return Void(name)
        case drgn.TypeKind.BOOL:
            return Scalar(name, below.size, False, True)
        case drgn.TypeKind.INT:
            return Scalar(name, below.size, below.is_signed)
        case drgn.TypeKind.ENUM:
            inner = below.type
            return Scalar(name, inner.size if inner else 4, inner.is_signed if inner else True)
        case drgn.TypeKind.POINTER:
            return PointerShape(kind)
        case drgn.TypeKind.ARRAY:
            return ArrayShape(kind)
        case drgn.TypeKind.FUNCTION:
            return FunctionShape(kind)
        case drgn.TypeKind.STRUCT | drgn.TypeKind.UNION:
            if not below.is_complete():
                return Void(name)  # its address can be handed on, no more
            return StructShape(kind)
    raise UsageError(f"values of type {name} aren't supported")
