# SPDX-License-Identifier: GPL-2.0
"""Object: what one object file of a kernel defines, needs and runs at boot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from anykernel.link.raw import RELOCATIONS, Raw

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
    raw = Raw(file)
    initcalls = [
        (level, (raw.symbols[index].section, raw.symbols[index].value + addend))
        for number, section in enumerate(raw.sections)
        if section.type == RELOCATIONS and (level := _level(raw.section_name(section)))
        for _, _, index, addend in raw.relocations(number)
    ]
    functions = {(s.section, s.value): s for s in raw.symbols if s.kind == FUNCTION}
    bound = [(raw.name(s), s.section != UNDEFINED, s.bind) for s in raw.symbols if s.bind != LOCAL]

    def those(defined: bool, weak: bool) -> frozenset[str]:
        return frozenset(
            name for name, has, bind in bound if has == defined and (bind == WEAK) == weak
        )

    return Object(
        path,
        defined=those(True, False),
        weak=those(True, True),
        undefined=those(False, False),
        optional=those(False, True),
        size=sum(section.size for section in raw.sections if section.flags & ALLOCATED),
        initcalls=tuple(
            (level, raw.name(functions[target]) if target in functions else "?")
            for level, target in initcalls
        ),
    )


def _level(section: str) -> str:
    """'fs' of .rela.initcall5.init; '' of other sections."""
    match = re.search(r"\.(con)?_?initcall(early|rootfs|\d)?(s?)\.init$", section)
    if not match:
        return ""
    number = match[2] or match[1] or ""
    return LEVELS.get(number, number) + ("_sync" if match[3] else "")
