# SPDX-License-Identifier: GPL-2.0
"""Object: what one object file of a kernel defines, needs and runs at boot.

A thousand are read at once, each time that a component is linked: by struct, in a fifth of the time
that pyelftools takes.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<QIHHHHHH")
"""Elf64_Ehdr from e_shoff on."""
SECTION = struct.Struct("<IIQQQQIIQQ")
"""Elf64_Shdr: name, type, flags, address, offset, size, link ..."""
SYMTAB, RELOCATIONS = 2, 4
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
    data = file.read_bytes()
    try:
        return _read(data, path)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"{file} is no object file: {error}") from None


def _read(data: bytes, path: str) -> Object:
    if data[:4] != b"\x7fELF":
        raise ValueError("no ELF")
    at, _, _, _, _, size, count, names_at = HEADER.unpack_from(data, 40)
    sections = [SECTION.unpack_from(data, at + number * size) for number in range(count)]

    def content(number: int) -> bytes:
        return data[sections[number][4] : sections[number][4] + sections[number][5]]

    section_names = content(names_at)
    table = next((n for n, section in enumerate(sections) if section[1] == SYMTAB), None)
    symbols = list(SYMBOL.iter_unpack(content(table))) if table is not None else []
    strings = content(sections[table][6]) if table is not None else b""
    initcalls = [
        (level, target)
        for number, section in enumerate(sections)
        if section[1] == RELOCATIONS and (level := _level(_name(section_names, section[0])))
        for target in _targets(content(number), symbols)
    ]
    functions = {(s[3], s[4]): s[0] for s in symbols if s[1] & 15 == FUNCTION}

    def bound(defined: bool, weak: bool) -> frozenset[str]:
        return frozenset(
            _name(strings, s[0])
            for s in symbols
            if s[1] >> 4 != LOCAL and (s[3] != UNDEFINED) == defined and (s[1] >> 4 == WEAK) == weak
        )

    return Object(
        path,
        defined=bound(True, False),
        weak=bound(True, True),
        undefined=bound(False, False),
        optional=bound(False, True),
        size=sum(section[5] for section in sections if section[2] & ALLOCATED),
        initcalls=tuple(
            (level, _name(strings, functions[target]) if target in functions else "?")
            for level, target in initcalls
        ),
    )


def _name(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode()


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
