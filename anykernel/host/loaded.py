# SPDX-License-Identifier: GPL-2.0
"""Which code was put into a kernel after its boot, and what its addresses are called."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from anykernel.host.memory import UserMemory
from anykernel.host.stretch import Since, Stretch


class Loaded(NamedTuple):
    """One piece of code."""

    place: range
    """Its addresses."""
    elf: Path
    """With its symbols and lines, at these addresses."""
    what: str
    """The same for the same object."""
    born: Stretch
    gone: Since[bool]
    """It was unloaded."""


class Loads:
    """The code that a kernel has now: what was loaded in a state that was restored away isn't."""

    def __init__(self, memory: UserMemory) -> None:
        self._memory = memory
        self._all: list[Loaded] = []

    @property
    def alive(self) -> list[Loaded]:
        self._all = [one for one in self._all if one.born.alive]
        return [one for one in self._all if not one.gone.value]

    def add(self, place: range, elf: Path, what: str) -> Loaded:
        """Code was written."""
        made = Loaded(place, elf, what, self._memory.stretch, Since(False))
        self._all.append(made)
        return made

    def remove(self, one: Loaded) -> None:
        """It isn't used any more, unless a restore brings it back."""
        one.gone.set(True, self._memory.stretch)

    def describe(self, address: int) -> str:
        """As Symbols.describe(); '' for what is none of this code."""
        from anykernel.link.symbols import OwnSymbols

        for one in self.alive:
            if address in one.place:
                return OwnSymbols.of(one.elf).describe(address)
        return ""
