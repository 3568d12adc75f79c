# SPDX-License-Identifier: GPL-2.0
"""What lies where in one object file: for copying a datum out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anykernel.link.objects import SYMBOL

RELOCATIONS = {
    1: (8, False),
    2: (4, True),
    4: (4, True),
    10: (4, False),
    11: (4, False),
    24: (8, True),
}
"""R_X86_64_64, PC32, PLT32, 32, 32S and PC64: (bytes, relative to where they stand)."""
SHF_STRINGS = 0x20
SHF_WRITE = 1
SECTION = 3
"""STT_SECTION: the types below it are those of functions and data."""


@dataclass(frozen=True)
class Symbol:
    """A symbol of an object file."""

    name: str
    section: str
    value: int
    size: int
    kind: str
    """STT_FUNC, STT_OBJECT, STT_NOTYPE, STT_SECTION."""
    local: bool

    @property
    def place(self) -> tuple[str, int]:
        """The same for all aliases."""
        return self.section, self.value


@dataclass(frozen=True)
class Reference:
    """A relocation: `size` bytes at `offset` are an address (relative: minus their own)."""

    offset: int
    size: int
    relative: bool
    symbol: Symbol
    addend: int


class ObjectFile:
    """Symbols, section contents and relocations of an object file."""

    def __init__(self, path: Path) -> None:
        from elftools.elf.elffile import ELFFile

        with path.open("rb") as file:
            elf = ELFFile(file)
            self._sections: dict[str, Any] = {}
            self._alignments: dict[str, int] = {}
            names = {}
            for number, section in enumerate(elf.iter_sections()):
                names[number] = section.name
                nobits = section["sh_type"] == "SHT_NOBITS"
                data = bytes(section["sh_size"]) if nobits else section.data()
                self._sections[section.name] = (data, section["sh_flags"], nobits)
                self._alignments[section.name] = section["sh_addralign"]
            table = elf.get_section_by_name(".symtab")
            self.symbols = [self._symbol(symbol, names) for symbol in table.iter_symbols()]
            self._references: dict[str, list[Reference]] = {}
            for section in elf.iter_sections():
                if section["sh_type"] == "SHT_RELA":
                    self._references[names[section["sh_info"]]] = [
                        self._reference(relocation) for relocation in section.iter_relocations()
                    ]
        self.named = {one.name: one for one in self.symbols if one.name and not one.local}

    @staticmethod
    def _symbol(symbol: Any, names: dict[int, str]) -> Symbol:
        index = symbol["st_shndx"]
        section = names.get(index, "") if isinstance(index, int) else ""
        kind = symbol["st_info"]["type"]
        return Symbol(
            section if kind == "STT_SECTION" else symbol.name,
            section,
            symbol["st_value"],
            symbol["st_size"],
            kind,
            symbol["st_info"]["bind"] == "STB_LOCAL",
        )

    def _reference(self, relocation: Any) -> Reference:
        size, relative = RELOCATIONS.get(relocation["r_info_type"], (0, False))
        return Reference(
            relocation["r_offset"],
            size,
            relative,
            self.symbols[relocation["r_info_sym"]],
            relocation["r_addend"],
        )

    def content(self, section: str, start: int, size: int) -> tuple[bytes, list[Reference]]:
        """The bytes there, and what in them are addresses (offsets from `start`)."""
        data, _, nowhere = self._sections[section]
        if nowhere:
            return bytes(size), []
        found = [
            Reference(one.offset - start, one.size, one.relative, one.symbol, one.addend)
            for one in self._references.get(section, ())
            if start <= one.offset < start + size
        ]
        return data[start : start + size], found

    def is_code(self, section: str) -> bool:
        return bool(self._sections[section][1] & 4)

    def is_writable(self, section: str) -> bool:
        return bool(self._sections[section][1] & SHF_WRITE)

    def is_zero(self, section: str) -> bool:
        """Takes no room in the file: .bss."""
        return bool(self._sections[section][2])

    def string(self, section: str, offset: int) -> bytes | None:
        """The C string there, with its end, if the section holds strings."""
        data, flags, _ = self._sections[section]
        if not flags & SHF_STRINGS:
            return None
        return bytes(data[offset : data.index(b"\0", offset) + 1])

    def covering(self, section: str, offset: int) -> Symbol | None:
        """The function or datum that `offset` of a section lies in."""
        # Labels without a size may lie in it; of aliases any will do.
        return max(
            (
                one
                for one in self.symbols
                if one.section == section
                and one.kind != "STT_SECTION"
                and one.value <= offset < one.value + max(one.size, 1)
            ),
            key=lambda symbol: symbol.size,
            default=None,
        )

    def alignment(self, section: str, offset: int) -> int:
        """What `offset` of a section is aligned to at least."""
        whole: int = max(self._alignments[section], 1)
        return min(whole, offset & -offset) if offset else whole

    def aliases(self, symbol: Symbol) -> list[str]:
        """All names of what `symbol` names."""
        return [
            one.name
            for one in self.symbols
            if one.place == symbol.place and one.kind == symbol.kind
        ]


def symbol_values(path: Path) -> dict[str, int]:
    """The values of a linked file's functions and data by name."""
    from elftools.elf.elffile import ELFFile

    found: dict[str, int] = {}
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        strings = table.stringtable.data()
        for at, info, _, section, value, _ in SYMBOL.iter_unpack(table.data()):
            if section and info & 15 < SECTION:  # NOTYPE, OBJECT, FUNC
                found.setdefault(strings[at : strings.index(b"\0", at)].decode(), value)
    return found
