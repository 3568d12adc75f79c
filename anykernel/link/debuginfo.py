# SPDX-License-Identifier: GPL-2.0
"""Types, signatures and constants of a kernel, by name: drgn over an image's debugging
information, without any memory."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anykernel import cache
from anykernel.errors import UsageError
from anykernel.link.raw import begin

LOCK = threading.RLock()
"""Held while drgn looks for types: two threads in one of its programs end the process."""


def program(vmlinux: Path) -> Any:
    """A drgn.Program that knows the types of `vmlinux`.  Raises UsageError, cache.Damaged."""
    with LOCK:
        return _program(vmlinux)


@functools.cache
def _program(vmlinux: Path) -> Any:
    import drgn

    # libdw maps the files: one that was cut off would kill this process.
    cache.sound([vmlinux], read=False)
    _sound((vmlinux.parent / "objects").resolve())
    flags = drgn.PlatformFlags.IS_64_BIT | drgn.PlatformFlags.IS_LITTLE_ENDIAN
    made = drgn.Program(drgn.Platform(drgn.Architecture.X86_64, flags))
    module = made.extra_module(str(vmlinux), create=True)
    module.address_range = (begin(vmlinux), 1 << 40)  # as it was linked: of an image, offsets
    try:
        module.try_file(str(vmlinux), force=True)
    except OSError as error:
        raise UsageError(f"{vmlinux} can't be read: {error}") from None
    if module.debug_file_status != drgn.ModuleFileStatus.HAVE:
        raise UsageError(f"{vmlinux} has no debugging information: anykernel build makes it anew")
    return made


@functools.cache
def _sound(objects: Path) -> None:
    """Raises cache.Damaged unless the types of kept objects are there as they were."""
    cache.sound((path for path in cache.listed(objects) if path.suffix == ".dwo"), read=False)


def path_of(prog: Any) -> Path:
    """The file that program() was made of."""
    (module,) = prog.modules()
    return Path(module.name)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function, in the shape that the ABI sees."""

    name: str
    c_type: str
    """As the kernel writes it: 'struct sk_buff *'."""
    type: Any
    """drgn.Type."""


@dataclass(frozen=True)
class Signature:
    """A function's type."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: Any
    """drgn.Type."""
    variadic: bool

    def __str__(self) -> str:
        listed = [declaration(one.c_type, one.name) for one in self.parameters]
        listed += ["..."] if self.variadic else []
        return declaration(self.returns.type_name(), f"{self.name}({', '.join(listed) or 'void'})")


def declaration(c_type: str, name: str) -> str:
    """C for `name` of a type: 'int (*)(void)' and 'char [4]' have it within."""
    if "(*" in c_type:
        before, star, after = c_type.partition("(*")
        return f"{before}{star}{name}{after}"
    before, bracket, after = c_type.partition(" [")
    return f"{before} {name}{bracket.strip()}{after}".replace("* ", "*")


def signature(prog: Any, name: str, file: str | None = None) -> Signature | None:
    """The signature of function `name` (of source `file`, where several have one), or None for
    what has no type: assembler."""
    import drgn

    with LOCK:
        try:
            found = prog.function(name, file)
        except (LookupError, drgn.BadDataError):  # the latter for what `as -g` says of its own
            return None
        return of_type(name, found.type_)


def of_type(name: str, function: Any) -> Signature:
    """A Signature of a drgn function type."""
    parameters = tuple(
        Parameter(one.name or f"a{number}", one.type.type_name(), one.type)
        for number, one in enumerate(function.parameters)
    )
    return Signature(name, parameters, function.type, function.is_variadic)


def plain(kind: Any) -> Any:
    """A type without typedefs."""
    import drgn

    while kind.kind == drgn.TypeKind.TYPEDEF:
        kind = kind.type
    return kind


def askew(kind: Any) -> bool:
    """Has a member that isn't aligned, as in a packed struct."""
    import drgn

    kind = plain(kind)
    if kind.kind == drgn.TypeKind.ARRAY:
        return askew(kind.type)
    if kind.kind not in (drgn.TypeKind.STRUCT, drgn.TypeKind.UNION) or not kind.is_complete():
        return False
    return any(
        member.offset % drgn.alignof(member.type) or askew(member.type)
        for member in kind.members
        if member.bit_field_size is None
    )
