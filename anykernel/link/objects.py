# SPDX-License-Identifier: GPL-2.0
"""Object: what one object file of a kernel defines, needs and runs at boot.

Hundreds are read at once, so symbol tables are unpacked by struct; pyelftools finds the sections.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

SYMBOL = struct.Struct("<IBBHQQ")
"""Elf64_Sym: name, info, other, section, value, size."""
RELA = struct.Struct("<QQq")
UNDEFINED = 0
LOCAL, WEAK = 0, 2
FUNCTION = 2
ALLOCATED = 2
"""SHF_ALLOC: the section is in memory when the kernel runs."""
LEVELS = {
    "0": "pure",
    "1": "core",
    "2": "postcore",
    "3": "arch",
    "4": "subsys",
    "5": "fs",
    "6": "device",
    "7": "late",
}
"""include/linux/init.h; "early", "rootfs" and "con" have no number."""


@dataclass(frozen=True)
class Object:
    """One relocatable object file."""

    path: str
    """As Kbuild names it: net/ipv4/tcp_input.o."""
    defined: frozenset[str]
    """Global symbols."""
    weak: frozenset[str]
    """Symbols that another definition replaces."""
    undefined: frozenset[str]
    """Symbols that it needs."""
    optional: frozenset[str]
    """Symbols that are 0 when nobody defines them (weak references)."""
    size: int
    """Bytes in memory."""
    initcalls: tuple[tuple[str, str], ...]
    """(level, function) of what do_initcalls() calls, in order: ("fs", "inet_init")."""


def read(file: Path, path: str) -> Object:
    """Reads an object file.  Raises ValueError for what is none."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with file.open("rb") as stream:
            elf = ELFFile(stream)
            sections = list(elf.iter_sections())
            table = next((s for s in sections if s["sh_type"] == "SHT_SYMTAB"), None)
            symbols = list(SYMBOL.iter_unpack(table.data())) if table else []
            strings = elf.get_section(table["sh_link"]).data() if table else b""
            initcalls = [
                (level, at)
                for section in sections
                if section["sh_type"] == "SHT_RELA" and (level := _level(section.name))
                for at in _targets(section.data(), symbols)
            ]
            size = sum(s["sh_size"] for s in sections if s["sh_flags"] & ALLOCATED)
    except ELFError as error:
        raise ValueError(f"{file} is no object file: {error}") from None

    def name(at: int) -> str:
        return strings[at : strings.index(b"\0", at)].decode()

    functions = {(s[3], s[4]): s[0] for s in symbols if s[1] & 15 == FUNCTION}
    bound = [s for s in symbols if s[1] >> 4 != LOCAL]
    return Object(
        path,
        defined=frozenset(name(s[0]) for s in bound if s[3] != UNDEFINED and s[1] >> 4 != WEAK),
        weak=frozenset(name(s[0]) for s in bound if s[3] != UNDEFINED and s[1] >> 4 == WEAK),
        undefined=frozenset(name(s[0]) for s in bound if s[3] == UNDEFINED and s[1] >> 4 != WEAK),
        optional=frozenset(name(s[0]) for s in bound if s[3] == UNDEFINED and s[1] >> 4 == WEAK),
        size=size,
        initcalls=tuple(
            (level, name(functions[at]) if at in functions else "?") for level, at in initcalls
        ),
    )


def _level(section: str) -> str:
    """'fs' of .rela.initcall5.init; '' of other sections."""
    match = re.search(r"\.(con)?_?initcall(early|rootfs|\d)?(s?)\.init$", section)
    if not match:
        return ""
    number = match[2] or match[1] or ""
    return LEVELS.get(number, number) + ("_sync" if match[3] else "")


def _targets(relocations: bytes, symbols: list[tuple[int, ...]]) -> list[tuple[int, int]]:
    """(section, offset) of what the relocations point to."""
    found = []
    for _, info, addend in RELA.iter_unpack(relocations):
        symbol = symbols[info >> 32]
        found.append((symbol[3], symbol[4] + addend))
    return found
