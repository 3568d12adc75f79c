# SPDX-License-Identifier: GPL-2.0
"""Addresses of an image as function+offset (file:line), and stacks by frame pointer."""

from __future__ import annotations

import functools
import struct
from bisect import bisect_right
from pathlib import Path
from typing import Any


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
    def _functions(self) -> tuple[list[int], list[tuple[str, int]]]:
        from elftools.elf.elffile import ELFFile
        from elftools.elf.sections import SymbolTableSection

        found: list[tuple[int, str, int]] = []
        with self.vmlinux.open("rb") as file:
            table = ELFFile(file).get_section_by_name(".symtab")
            if isinstance(table, SymbolTableSection):
                for symbol in table.iter_symbols():
                    if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_value"]:
                        found.append((symbol["st_value"], symbol.name, symbol["st_size"]))
        found.sort()
        return [f[0] for f in found], [(f[1], f[2]) for f in found]

    @functools.cached_property
    def addresses(self) -> dict[str, int]:
        """Functions and variables by name, counted from the image's start; of those that share a
        name, as static ones do, the first."""
        from anykernel.link.elf import symbol_values

        return symbol_values(self.vmlinux)

    def function(self, offset: int) -> tuple[str, int] | None:
        """(name, offset within) of the function at `offset` from the image's start."""
        starts, functions = self._functions
        position = bisect_right(starts, offset) - 1
        if position < 0:
            return None
        name, size = functions[position]
        within = offset - starts[position]
        return (name, within) if within < max(size, 1) else None

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - one object per image, kept anyway
    def line(self, offset: int) -> str:
        """'net/ipv4/icmp.c:123' of the code at `offset`, or ''."""
        from elftools.elf.elffile import ELFFile

        with self.vmlinux.open("rb") as file:
            elf = ELFFile(file)
            if not elf.has_dwarf_info():
                return ""
            dwarf = elf.get_dwarf_info()
            aranges = dwarf.get_aranges()
            cu_offset = aranges.cu_offset_at_addr(offset) if aranges else None
            if cu_offset is None:
                return ""
            unit = dwarf.get_CU_at(cu_offset)
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                return ""
            return _line_of(program, offset)

    def describe(self, offset: int) -> str:
        """'function+0x12 (file.c:34)', or '' for what is no code of the image."""
        found = self.function(offset)
        if found is None:
            return ""
        where = self.line(offset)
        return f"{found[0]}+{found[1]:#x}" + (f" ({where})" if where else "")

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

    @staticmethod
    def _in_stack(bp: int, stack: bytes, stack_from: int) -> bool:
        return 0 <= bp - stack_from <= len(stack) - 16


def _line_of(program: Any, offset: int) -> str:
    """The row of a line program that covers `offset`."""
    previous = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if previous is not None and previous.address <= offset < state.address:
            return f"{_file_name(program, previous.file)}:{previous.line}"
        previous = None if state.end_sequence else state
    return ""


def _file_name(program: Any, number: int) -> str:
    """Path within the tree: build systems give an absolute or a relative one."""
    header = program.header
    version_5 = header["version"] >= 5
    entry = header["file_entry"][number if version_5 else number - 1]
    name = entry.name.decode(errors="replace")
    directories = header["include_directory"]
    index = entry.dir_index if version_5 else entry.dir_index - 1
    if 0 <= index < len(directories):
        folder = directories[index]
        folder = folder.decode(errors="replace") if isinstance(folder, bytes) else str(folder)
        name = f"{folder}/{name}"
    parts = name.split("/")
    # .../linux-6.1/net/ipv4/icmp.c: from the last folder that a kernel tree has at its top.
    for position, part in enumerate(parts):
        if part in TOP_FOLDERS and position < len(parts) - 1:
            return "/".join(parts[position:])
    return str(name)


TOP_FOLDERS = frozenset(
    [
        "arch",
        "block",
        "crypto",
        "drivers",
        "fs",
        "include",
        "init",
        "io_uring",
        "ipc",
        "kernel",
        "lib",
        "mm",
        "net",
        "security",
        "sound",
        "virt",
    ]
)
