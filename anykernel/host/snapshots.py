# SPDX-License-Identifier: GPL-2.0
"""Snapshot: the number of a saved state that also knows whose it is, for with blocks."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from anykernel.errors import HostDied, KernelCrash, UsageError


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


def check_above(floor: int, snapshot: int) -> None:
    """Raises UsageError for a snapshot below `floor`: those are of who lent the kernel, and is to
    have it back as it was then."""
    if snapshot < floor:
        raise UsageError(
            f"snapshot {snapshot} isn't this test's: the fixture that gave the kernel took it, or "
            "one around the test; the test's own are those that its snapshot() returned.  Of a "
            "@given that is called in a test, each example is restored without being asked: "
            "leave such a restore() out"
        )
