# SPDX-License-Identifier: GPL-2.0
"""ELF by struct: sections, symbols and relocations of an x86-64 file.

A thousand objects are read each time that a component is linked: a fifth of a second this way,
a second and more with pyelftools.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct("<QIHHHHHH")
"""Elf64_Ehdr from e_shoff on."""
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")
PROGRAM = struct.Struct("<IIQQQQQQ")
"""Elf64_Phdr."""
LOADED = 1
"""PT_LOAD."""
SYMTAB, RELOCATIONS, NOBITS = 2, 4, 8


class Section(NamedTuple):
    """Elf64_Shdr."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class RawSymbol(NamedTuple):
    """Elf64_Sym."""

    name: int
    info: int
    other: int
    section: int
    value: int
    size: int

    @property
    def bind(self) -> int:
        return self.info >> 4

    @property
    def kind(self) -> int:
        return self.info & 15


class Raw:
    """A file as it is.  Raises ValueError for what is no ELF."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        try:
            if self._data[:4] != b"\x7fELF":
                raise ValueError("no ELF")
            at, _, _, _, _, size, count, names = HEADER.unpack_from(self._data, 40)
            self.sections = [
                Section(*SECTION.unpack_from(self._data, at + number * size))
                for number in range(count)
            ]
            self._names = self.content(names)
            table = next((n for n, one in enumerate(self.sections) if one.type == SYMTAB), None)
            rows = b"" if table is None else self.content(table)
            self.symbols = [RawSymbol(*row) for row in SYMBOL.iter_unpack(rows)]
            self._strings = b"" if table is None else self.content(self.sections[table].link)
        except (struct.error, IndexError, ValueError) as error:
            raise ValueError(f"{path} is no object file: {error}") from None

    def content(self, number: int) -> bytes:
        """The bytes of a section; zeros where it has none in the file."""
        one = self.sections[number]
        if one.type == NOBITS:
            return bytes(one.size)
        return self._data[one.offset : one.offset + one.size]

    def section_name(self, section: Section) -> str:
        return _text(self._names, section.name)

    def name(self, symbol: RawSymbol) -> str:
        return _text(self._strings, symbol.name)

    def relocations(self, number: int) -> Iterator[tuple[int, int, int, int]]:
        """(offset, type, index of the symbol, addend) of a section of relocations."""
        for offset, info, addend in RELA.iter_unpack(self.content(number)):
            yield offset, info & 0xFFFFFFFF, info >> 32, addend


def begin(path: Path) -> int:
    """The address from which on a linked file lies in memory."""
    with path.open("rb") as file:
        head = file.read(64)
        (at,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        file.seek(at)
        rows = [PROGRAM.unpack(file.read(size)[: PROGRAM.size]) for _ in range(count)]
    found = [address for kind, _, _, address, _, _, room, _ in rows if kind == LOADED and room]
    return min(found, default=0)


def _text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(b"\0", at)].decode()
