# SPDX-License-Identifier: GPL-2.0
"""Space: the memory of a kernel or a unit, with the types of what is in it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from anykernel.errors import UsageError
from anykernel.link import debuginfo
from anykernel.link.debuginfo import Signature
from anykernel.typed.shapes import (
    ArrayShape,
    PointerShape,
    Scalar,
    Shape,
    StructShape,
    Void,
    shape_of,
)
from anykernel.typed.values import Array, Pointer

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.host import Instance
    from anykernel.typed.functions import Function

Call = Callable[[int, list[int]], tuple[int, int]]
"""Calls a function at an address with words; what it left in rax and rdx."""


class Space:
    """Names, types and bytes.

    whole: the kernel that a unit is of: it knows types that the unit itself doesn't use.
    call: how functions are called.  callback: gives a Python function an address in the space,
    for a parameter of a type; None where that isn't possible.
    """

    def __init__(
        self,
        instance: Instance,
        image: Image,
        call: Call,
        callback: Callable[[Any, Signature], int] | None = None,
        whole: Image | None = None,
    ) -> None:
        self.instance = instance
        self.types = debuginfo.program(image.vmlinux)
        self._whole = whole.vmlinux if whole else image.vmlinux
        self.call = call
        self.callback = callback
        self._shapes: dict[str, Shape] = {}

    # Bytes

    def read(self, address: int, size: int) -> bytes:
        """Raises UsageError for what is no memory of the space."""
        return self.instance.read_memory(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Raises UsageError."""
        self.instance.write_memory(address, data)

    def string(self, address: int, longest: int) -> str:
        """The C string at an address, `longest` bytes at most."""
        found = b""
        while len(found) < longest:
            # Not over the end of a page: behind it there may be none.
            part = self.read(address + len(found), 256 - (address + len(found)) % 256)
            found += part
            if b"\0" in part:
                break
        return found[:longest].split(b"\0")[0].decode(errors="surrogateescape")

    # Types

    def shape(self, name: str) -> Shape:
        """The shape of a type by its name in C.  Raises UsageError."""
        known = self._shapes.get(name)
        if known is None:
            with debuginfo.LOCK:
                known = self._shapes[name] = shape_of(self.type(name))
        return known

    def type(self, name: str) -> Any:
        """drgn's type of that name.  Raises UsageError."""
        for types in self._programs():
            try:
                with debuginfo.LOCK:
                    return types.type(name)
            except LookupError:
                continue
            except SyntaxError as error:
                raise UsageError(f"{name!r} is no type in C: {error}") from None
        raise UsageError(f"there is no type {name!r} in this kernel")

    def _programs(self) -> Iterator[Any]:
        yield self.types
        yield debuginfo.program(self._whole)

    def constant(self, name: str) -> int:
        """The value of an enumerator: ``constant("TCP_ESTABLISHED")``.  Raises UsageError."""
        for types in self._programs():
            try:
                with debuginfo.LOCK:
                    return int(types.constant(name).value_())
            except LookupError:
                continue
        raise UsageError(f"there is no enumerator {name!r}; macros leave no trace in a program")

    # Values

    def at(self, address: int, name: str) -> Pointer:
        """What lies at an address, as a type: ``at(address, "struct sock")``."""
        shape = self.shape(name)
        return Pointer(self, address, shape.target if isinstance(shape, PointerShape) else shape)

    def load(self, address: int, shape: Shape) -> Any:
        """The value at an address: an int, bool, Pointer or Array."""
        if isinstance(shape, Scalar):
            return shape.load(self.read(address, shape.size))
        if isinstance(shape, PointerShape):
            value = int.from_bytes(self.read(address, 8), "little")
            return Pointer(self, value, shape.target)
        if isinstance(shape, ArrayShape):
            return Array(self, address, shape)
        return Pointer(self, address, shape)

    def store(self, address: int, shape: Shape, value: Any) -> None:
        """Writes a value.  Raises UsageError for what doesn't fit the type."""
        if isinstance(shape, Scalar):
            self.write(address, shape.store(value))
        elif isinstance(shape, PointerShape):
            self.write(address, (int(value or 0) & (1 << 64) - 1).to_bytes(8, "little"))
        elif isinstance(shape, ArrayShape):
            self._store_array(address, shape, value)
        elif isinstance(shape, StructShape) and isinstance(value, Pointer):
            self.write(address, value.bytes(shape.size))
        elif isinstance(shape, StructShape) and isinstance(value, dict):
            for name, part in value.items():
                setattr(Pointer(self, address, shape), name, part)
        else:
            raise UsageError(f"{value!r} can't be stored as {shape.name}")

    def _store_array(self, address: int, shape: ArrayShape, value: Any) -> None:
        if isinstance(value, str):
            value = value.encode() + b"\0"
        values = list(value)
        if shape.length is not None and len(values) > shape.length:
            raise UsageError(f"{len(values)} elements don't fit into {shape.name}")
        for index, one in enumerate(values):
            self.store(address + index * shape.element.size, shape.element, one)

    # Functions and variables

    def address(self, name: str) -> int:
        """Where a function or a variable lies.  Raises UsageError, which names similar ones."""
        from anykernel.link.symbols import Symbols

        table = Symbols.of(debuginfo.path_of(self.types)).addresses
        if name not in table:
            near = difflib.get_close_matches(name, table, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"there is no function or variable {name!r} here{hint}")
        return self.instance.image_base + table[name]

    def function(self, signature: Signature, address: int) -> Function:
        from anykernel.typed.functions import Function

        return Function(self, signature, address)

    def find(self, name: str, file: str | None = None) -> Any:
        """A function, or a variable as a Pointer to it, by name.  Raises UsageError."""
        found = debuginfo.signature(self.types, name, file)
        if found is not None:
            return self.function(found, self.address(name))
        try:
            with debuginfo.LOCK:
                shape = shape_of(self.types.variable(name, file).type_)
        except LookupError:
            return Pointer(self, self.address(name), Void())
        address = self.address(name)
        if isinstance(shape, ArrayShape):
            return Array(self, address, shape)
        return Pointer(self, address, shape)
