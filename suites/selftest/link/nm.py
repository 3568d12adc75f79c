# SPDX-License-Identifier: GPL-2.0
"""Binutils' opinion of object files."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DEFINED = set("ABCDGRSTVWuiI")


@dataclass(frozen=True)
class Symbols:
    """What nm says of some files together."""

    needed: frozenset[str]
    """By those that can't do without."""
    defined: frozenset[str]
    """Global ones."""
    local: frozenset[str]


def of(folder: Path, paths: Iterable[str]) -> Symbols:
    return _of(folder, tuple(paths))


@functools.cache
def _of(folder: Path, paths: tuple[str, ...]) -> Symbols:
    said = subprocess.run(
        ["nm", *paths], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    kinds: dict[str, set[str]] = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) >= 2 and not line.endswith(":"):
            kinds.setdefault(words[-2], set()).add(words[-1])
    return Symbols(
        needed=frozenset(kinds.get("U", ())),
        defined=frozenset().union(*(kinds.get(kind, ()) for kind in DEFINED)),
        local=frozenset().union(*(v for k, v in kinds.items() if k.islower() and k not in "uiwv")),
    )


def addresses(file: Path) -> dict[str, int]:
    """Of all symbols of a linked file."""
    said = subprocess.run(["nm", file], capture_output=True, text=True, check=True, timeout=60)
    rows = (line.split() for line in said.stdout.splitlines())
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}
