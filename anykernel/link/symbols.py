# SPDX-License-Identifier: GPL-2.0
"""Addresses of an image as function+offset (file:line), and stacks by frame pointer."""

from __future__ import annotations

import functools
import struct
from bisect import bisect_right
from pathlib import Path

from anykernel.errors import UsageError
from anykernel.link import debuginfo
from anykernel.link.elf import SECTION
from anykernel.link.objects import FUNCTION
from anykernel.link.raw import Raw, RawSymbol
from anykernel.places import short

EXECUTABLE = 4
FILE = 4
"""STT_FILE."""


class Symbols:
    """The symbols and line tables of an unstripped vmlinux, read when first asked for."""

    def __init__(self, vmlinux: Path) -> None:
        self.vmlinux = vmlinux

    @classmethod
    @functools.cache
    def of(cls, vmlinux: Path) -> Symbols:
        """One object per file."""
        return cls(vmlinux)

    @functools.cached_property
    def _named(self) -> list[tuple[str, RawSymbol]]:
        """Functions and data, in the file's order."""
        return [(name, one) for name, one, _ in self._ranked]

    @functools.cached_property
    def _ranked(self) -> list[tuple[str, RawSymbol, bool]]:
        """The same, and whether other files may refer to it: a linker writes the static ones of
        each file behind that file's name, and behind an empty name what files share."""
        raw = Raw(self.vmlinux)
        files = (number for number, one in enumerate(raw.symbols) if one.kind == FILE)
        last = max(files, default=0)
        return [
            (raw.name(one), one, number > last)
            for number, one in enumerate(raw.symbols)
            if one.section and one.kind < SECTION
        ]

    @functools.cached_property
    def _functions(self) -> tuple[list[int], list[tuple[str, int]]]:
        found = sorted(
            (one.value, name, one.size)
            for name, one in self._named
            if one.kind == FUNCTION and one.value
        )
        return [f[0] for f in found], [(f[1], f[2]) for f in found]

    @functools.cached_property
    def addresses(self) -> dict[str, int]:
        """Functions and variables by name, counted from the image's start; of those that share a
        name the one that isn't static, or the first."""
        found: dict[str, int] = {}
        for name, one in self._named:
            found.setdefault(name, one.value)
        return found | self.shared

    @functools.cached_property
    def shared(self) -> dict[str, int]:
        """The functions and variables that are not static, as addresses has them."""
        return {name: one.value for name, one, shared in self._ranked if shared}

    def static(self, name: str) -> set[int]:
        """Where the static functions and variables of a name lie."""
        return {one.value for found, one, shared in self._ranked if found == name and not shared}

    def function(self, offset: int) -> tuple[str, int] | None:
        """(name, offset within) of the function at `offset` from the image's start."""
        starts, functions = self._functions
        position = bisect_right(starts, offset) - 1
        if position < 0:
            return None
        name, size = functions[position]
        within = offset - starts[position]
        return (name, within) if within < max(size, 1) else None

    def lines(self, offset: int) -> list[tuple[str, str]]:
        """(function, 'net/ipv4/icmp.c:123') of the code at `offset`: the function that it is of,
        then those that were inlined there, the innermost last; [] for what has no lines."""
        try:
            with debuginfo.LOCK:
                found = debuginfo.program(self.vmlinux).source_location(offset)
        except (LookupError, OverflowError, UsageError):
            return []
        return [(one.name() or "", f"{self.path(one.filename)}:{one.line}") for one in found][::-1]

    @staticmethod
    def path(name: str) -> str:
        """What people call a file of debugging information."""
        return _tree_path(name)

    def describe(self, offset: int) -> str:
        """'function+0x12 (file.c:34, inlined include/linux/file.h:5)', or '' for what is no code
        of the image."""
        found = self.function(offset)
        if found is None:
            return ""
        lines = self.lines(offset)
        where = [
            line if not depth else f"{name} {line}" for depth, (name, line) in enumerate(lines)
        ]
        return f"{found[0]}+{found[1]:#x}" + (f" ({', '.join(where)})" if where else "")

    def unwind(
        self, ip: int, bp: int, stack: bytes, stack_from: int, image: int, image_end: int
    ) -> list[int]:
        """Return addresses, innermost first, from a copy of the stack.  Callers' addresses
        are one less, so that they lie within the call."""
        frames = [ip] if image <= ip < image_end else []
        if not frames and len(stack) >= 8:
            # A jump to nowhere: the return address is on top of the stack.
            (top,) = struct.unpack_from("<Q", stack)
            if image <= top < image_end:
                frames.append(top - 1)
        while self._in_stack(bp, stack, stack_from) and len(frames) < 200:
            next_bp, address = struct.unpack_from("<QQ", stack, bp - stack_from)
            if image <= address < image_end:
                frames.append(address - 1)
            if next_bp <= bp:
                break
            bp = next_bp
        return frames

    def guess(
        self, bp: int, stack: bytes, stack_from: int, image: int, image_end: int
    ) -> list[int]:
        """Where calls may have come from that unwind() can't tell, since the chain of frame
        pointers is broken: what lies on the stack beyond it and follows a call instruction.  Some
        of it may be left from earlier calls."""
        begin = stack_from
        while self._in_stack(bp, stack, stack_from):
            (next_bp,) = struct.unpack_from("<Q", stack, bp - stack_from)
            if not next_bp:
                return []  # the chain's end
            begin = bp + 16
            if next_bp <= bp:
                break
            bp = next_bp
        words = struct.iter_unpack("<Q", stack[begin - stack_from : len(stack) & -8])
        return [
            word - 1
            for (word,) in words
            if image <= word < image_end and self._follows_call(word - image)
        ]

    @functools.cached_property
    def _code(self) -> tuple[list[int], list[tuple[int, bytes]]]:
        """Executable sections: where they begin, and (where they end, content)."""
        raw = Raw(self.vmlinux)
        found = sorted(
            (one.address, one.address + one.size, raw.content(number))
            for number, one in enumerate(raw.sections)
            if one.flags & EXECUTABLE
        )
        return [one[0] for one in found], [(one[1], one[2]) for one in found]

    def _follows_call(self, offset: int) -> bool:
        starts, sections = self._code
        position = bisect_right(starts, offset) - 1
        if position < 0 or offset > sections[position][0]:
            return False
        at = offset - starts[position]
        before = sections[position][1][max(at - 7, 0) : at]
        # A relative call, or an indirect one: its second byte says so in three bits.
        return before[-5:-4] == b"\xe8" or any(
            before[-size:][:1] == b"\xff" and before[-size + 1] >> 3 & 7 == 2
            for size in range(2, min(7, len(before)) + 1)
        )

    @staticmethod
    def _in_stack(bp: int, stack: bytes, stack_from: int) -> bool:
        return 0 <= bp - stack_from <= len(stack) - 16


class OwnSymbols(Symbols):
    """Of a test's C (code.py), whose lines are in a file of the test's."""

    @staticmethod
    def path(name: str) -> str:
        inside = _tree_path(name)
        return short(name) if name.startswith("/") and not inside.startswith("include/") else inside


def _tree_path(name: str) -> str:
    """Path within the tree: from the last folder that a kernel tree has at its top."""
    parts = name.split("/")
    for position, part in enumerate(parts):
        if part in TOP_FOLDERS and position < len(parts) - 1:
            return "/".join(parts[position:])
    return name


# fmt: off
TOP_FOLDERS = frozenset({
    "arch", "block", "crypto", "drivers", "fs", "include", "init", "io_uring", "ipc", "kernel",
    "lib", "mm", "net", "security", "sound", "virt",
})
# fmt: on
