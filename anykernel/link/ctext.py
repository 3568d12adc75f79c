# SPDX-License-Identifier: GPL-2.0
"""Pieces of C and assembler for generated files."""

from __future__ import annotations

import re
from typing import Any

from anykernel.link.debuginfo import Signature, plain


def names(declared: Signature) -> list[str]:
    """The parameters' names, each once, none a keyword of C."""
    found: list[str] = []
    for number, one in enumerate(declared.parameters):
        name = re.sub(r"\W", "_", one.name)
        taken = name in found or name in KEYWORDS or name in ("args", "answer")
        found.append(f"{name}_{number}" if taken else name)
    return found


def word(kind: Any, name: str) -> str:
    """An argument as the word that is reported."""
    import drgn

    if plain(kind).kind in (drgn.TypeKind.STRUCT, drgn.TypeKind.UNION):
        return f"(u64)&{name}"
    return f"(u64){name}"


def data_lines(data: bytes) -> list[str]:
    """Assembler for `data`; long runs of zeros are one line."""
    lines = []
    for part in re.finditer(rb"\0{16,}|(?:(?!\0{16}).){1,32}", data, re.S):
        text = part[0]
        if not any(text) and len(text) >= 16:
            lines.append(f".zero {len(text)}")
        else:
            lines.append(".byte " + ",".join(str(byte) for byte in text))
    return lines


def escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace('"', '\\"')


RESERVED = """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while asm typeof true false NULL current u32 u64
"""
KEYWORDS = frozenset(RESERVED.split())
"""What no parameter can be called: of C, and of what is included."""
