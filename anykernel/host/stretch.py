# SPDX-License-Identifier: GPL-2.0
"""Stretches of a kernel's life between snapshots: what was made in one ends when it is restored
away."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Stretch:
    """One stretch.  Objects keep the one in which they were made, and ask whether it is alive."""

    __slots__ = ("_ended", "_part_of")

    def __init__(self) -> None:
        self._ended = False
        self._part_of: Stretch | None = None

    @property
    def alive(self) -> bool:
        """False once an earlier state was restored."""
        one: Stretch | None = self
        while one is not None:
            if one._ended:
                return False
            one = one._part_of
        return True

    def end(self) -> None:
        """It was restored away."""
        self._ended = True

    def join(self, earlier: Stretch) -> None:
        """The snapshot between both was dropped: they end together."""
        self._part_of = earlier


class Stretches:
    """The present stretch, and those before each of the snapshots that there are."""

    def __init__(self) -> None:
        self._now: Stretch | None = None
        """None: nobody has asked for it yet."""
        self._before: list[Stretch] = []

    @property
    def now(self) -> Stretch:
        """The present stretch."""
        if self._now is None:
            self._now = Stretch()
        return self._now

    def __len__(self) -> int:
        """How many snapshots there are."""
        return len(self._before)

    def save(self) -> None:
        """A snapshot was taken."""
        self._before.append(self.now)
        self._now = None

    def restore(self, snapshot: int) -> None:
        """Number `snapshot`, from 1, was restored, and those behind it are no more."""
        if self._now is not None:
            self._now.end()
            self._now = None
        if len(self._before) > snapshot:
            for one in self._before[snapshot:]:
                one.end()
            del self._before[snapshot:]

    def drop(self, snapshot: int) -> None:
        """Number `snapshot` and those behind it are no more; nothing was restored."""
        earlier, *later = self._before[snapshot - 1 :]
        for one in (*later, self.now):
            one.join(earlier)
        del self._before[snapshot - 1 :]
        self._now = earlier


class Since(Generic[T]):
    """What Python knows of something in the kernel, such as that it is closed: what was set in a
    stretch that was restored away never happened."""

    __slots__ = ("_first", "_set")

    def __init__(self, value: T) -> None:
        self._first = value
        self._set: list[tuple[Stretch, T]] = []

    @property
    def value(self) -> T:
        """As it is now."""
        known = self._set
        while known:
            stretch, value = known[-1]
            if stretch.alive:
                return value
            known.pop()
        return self._first

    def set(self, value: T, now: Stretch) -> None:
        """It is so from now on; `now`: the present stretch."""
        self._set = [known for known in self._set if known[0] is not now and known[0].alive]
        self._set.append((now, value))
