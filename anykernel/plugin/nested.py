# SPDX-License-Identifier: GPL-2.0
"""Resets kernels between the examples of a ``@given`` that is called inside a test.

Hypothesis seeds all registered random generators before each example and puts them back after
it, whoever runs it: what we register is no generator, but is told of both.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.plugin import crash
from anykernel.plugin.fixtures import LEASES, give_back

if TYPE_CHECKING:
    from anykernel.plugin.pool import Lease

Level = list[tuple["Lease", int, int]]
"""The kernels that there were when an example began, each with its floor and snapshot of then."""


class HostGone(BaseException):
    """Ends Hypothesis at once: with the host process dead, no example can be tried any more."""


class Examples:
    """What Hypothesis takes for a random generator."""

    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        """The test that runs, if it may hold kernels."""
        self._outermost = 0
        self._depth = 0
        self._levels: list[Level | None] = []
        self._thread = 0

    def begin(self, item: pytest.Item, outermost: int) -> None:
        """A test runs; outermost: levels of examples that are reset without us."""
        self.item, self._outermost = item, outermost
        self._levels = []
        self._thread = threading.get_ident()

    def end(self) -> None:
        self.item = None

    # As random.Random has them

    def getstate(self) -> None:
        """An example begins."""

    def seed(self, value: object) -> None:
        """It has begun.  Raises UsageError."""
        if self.item is None:
            return
        leases: list[Lease] = list(self.item.stash.get(LEASES, ()))
        if threading.get_ident() != self._thread:
            if leases:
                from anykernel.errors import UsageError

                raise UsageError(
                    "a @given that runs in another thread than its test can't have its kernel "
                    "reset between examples: call it in the test itself"
                )
            return
        level: Level | None = None
        if len(self._levels) >= self._outermost:
            level = [(lease, lease.kernel.floor, lease.snapshot()) for lease in leases]
        self._levels.append(level)

    def setstate(self, state: object) -> None:
        """It has ended; what it did to kernels is undone.  Raises as crash.check(), HostGone."""
        if self.item is None or threading.get_ident() != self._thread or not self._levels:
            return
        level = self._levels.pop()
        if level is None:
            return
        before = [lease for lease, *_ in level]
        if any(lease.dead for lease in before):
            raise HostGone from sys.exc_info()[1]
        try:
            crash.check(self.item)
        finally:
            for lease in list(self.item.stash.get(LEASES, ())):
                if lease not in before:  # made by kernel_factory since
                    give_back(self.item, lease)
            for lease, floor, snapshot in level:
                lease.restore(snapshot)
                lease.drop(snapshot, floor)


EXAMPLES = Examples()


def register() -> None:
    """Has Hypothesis tell us of its examples, now or when it is imported."""
    if "hypothesis" not in sys.modules:
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        return
    import hypothesis

    hypothesis.register_random(EXAMPLES)


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for a test that imports Hypothesis itself; those that don't do without it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "hypothesis":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Another one, and what is to be done when the module is there."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        # As if it had never been another's: pytest asks who loaded a module.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        register()
