# SPDX-License-Identifier: GPL-2.0
"""Snapshot: the number of a saved state that also knows whose it is, for with blocks."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from anykernel.errors import HostDied, KernelCrash


class Owner(Protocol):
    """What can be saved: a kernel, a unit, a network."""

    def restore(self, snapshot: int) -> None: ...
    def drop(self, snapshot: int) -> None: ...


class Snapshot(int):
    """What snapshot() gives: a number for restore() and drop().

    As a context manager it is restored and dropped at the end of the block; when the block ends
    by KernelCrash or HostDied, everything stays as it is, for the report.
    """

    _owner: Owner

    def __new__(cls, number: int, owner: Owner) -> Snapshot:
        made = super().__new__(cls, number)
        made._owner = owner
        return made

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, (KernelCrash, HostDied)):
            return
        self._owner.restore(self)
        self._owner.drop(self)
