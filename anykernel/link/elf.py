# SPDX-License-Identifier: GPL-2.0
"""What lies where in one object file: for copying a datum out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anykernel.link.raw import NOBITS, Raw, RawSymbol, Section
from anykernel.link.raw import RELOCATIONS as RELOCATION_SECTION

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
SHF_CODE = 4
SHF_WRITE = 1
LOCAL = 0
KINDS = {0: "STT_NOTYPE", 1: "STT_OBJECT", 2: "STT_FUNC", 3: "STT_SECTION", 4: "STT_FILE"}
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
        raw = self._raw = Raw(path)
        names = [raw.section_name(section) for section in raw.sections]
        self._numbers = {name: number for number, name in enumerate(names)}
        self._relocations = {
            names[section.info]: number
            for number, section in enumerate(raw.sections)
            if section.type == RELOCATION_SECTION
        }
        self.symbols = [self._symbol(one, names) for one in raw.symbols]
        self.named = {one.name: one for one in self.symbols if one.name and not one.local}

    def _symbol(self, symbol: RawSymbol, names: list[str]) -> Symbol:
        # Beyond are numbers that mean "absolute", "common" and the like.
        section = names[symbol.section] if symbol.section < len(names) else ""
        name = section if symbol.kind == SECTION else self._raw.name(symbol)
        kind = KINDS.get(symbol.kind, "")
        return Symbol(name, section, symbol.value, symbol.size, kind, symbol.bind == LOCAL)

    def _references(self, section: str) -> Iterator[Reference]:
        number = self._relocations.get(section)
        for offset, kind, index, addend in self._raw.relocations(number) if number else ():
            size, relative = RELOCATIONS.get(kind, (0, False))
            yield Reference(offset, size, relative, self.symbols[index], addend)

    def _section(self, name: str) -> Section:
        return self._raw.sections[self._numbers[name]]

    def content(self, section: str, start: int, size: int) -> tuple[bytes, list[Reference]]:
        """The bytes there, and what in them are addresses (offsets from `start`)."""
        if self.is_zero(section):
            return bytes(size), []
        data = self._raw.content(self._numbers[section])
        found = [
            Reference(one.offset - start, one.size, one.relative, one.symbol, one.addend)
            for one in self._references(section)
            if start <= one.offset < start + size
        ]
        return data[start : start + size], found

    def is_code(self, section: str) -> bool:
        return bool(self._section(section).flags & SHF_CODE)

    def is_writable(self, section: str) -> bool:
        return bool(self._section(section).flags & SHF_WRITE)

    def is_zero(self, section: str) -> bool:
        """Takes no room in the file: .bss."""
        return self._section(section).type == NOBITS

    def string(self, section: str, offset: int) -> bytes | None:
        """The C string there, with its end, if the section holds strings."""
        if not self._section(section).flags & SHF_STRINGS:
            return None
        data = self._raw.content(self._numbers[section])
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
        whole = max(self._section(section).alignment, 1)
        return min(whole, offset & -offset) if offset else whole

    def aliases(self, symbol: Symbol) -> list[str]:
        """All names of what `symbol` names."""
        return [
            one.name
            for one in self.symbols
            if one.place == symbol.place and one.kind == symbol.kind
        ]
