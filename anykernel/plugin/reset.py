# SPDX-License-Identifier: GPL-2.0
"""Gives every Hypothesis example a pristine kernel, without the user asking."""

from __future__ import annotations

import functools
import sys
from collections.abc import Generator
from typing import Any

import pytest

from anykernel.plugin import crash
from anykernel.plugin.fixtures import LEASES, OURS, give_back


class _HostGone(BaseException):
    """Ends Hypothesis at once: with the host process dead, no example can be tried any more."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    # An item that uses Hypothesis has imported it; nobody else pays for that.
    test = getattr(item, "obj", None)
    if (
        "hypothesis" not in sys.modules
        or not getattr(test, "is_hypothesis_test", False)
        or not OURS.intersection(getattr(item, "fixturenames", ()))
    ):
        return (yield)

    assert test is not None
    _allow_our_fixtures(item)
    handle = test.hypothesis
    inner = handle.inner_test
    handle.inner_test = _Examples(item, inner).wrapped()
    try:
        return (yield)
    except _HostGone as gone:
        assert gone.__cause__ is not None
        raise gone.__cause__ from None
    finally:
        handle.inner_test = inner


class _Examples:
    """The examples of one test: each starts from what the fixtures had made of the kernel."""

    def __init__(self, item: pytest.Item, inner: Any) -> None:
        self.item = item
        self.inner = inner
        self.held: int | None = None
        """Kernels that were there before the first example."""

    def wrapped(self) -> Any:
        @functools.wraps(self.inner)
        def example(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            self.restore()
            try:
                result = self.inner(*args, **kwargs)
                crash.check(self.item)
            except Exception as error:
                if any(lease.dead for lease in self.leases()):
                    drawn = {name: value for name, value in kwargs.items() if name not in OURS}
                    error.add_note(f"Falsifying example (not shrunk: the host died): {drawn!r}")
                    raise _HostGone from error
                raise
            return result

        return example

    def leases(self) -> list[Any]:
        return list(self.item.stash.get(LEASES, []))

    def restore(self) -> None:
        leases = self.leases()
        if self.held is None:
            self.held = len(leases)
            for lease in leases:
                lease.example = lease.kernel.snapshot()
            return
        for lease in leases[self.held :]:  # made by the last example with kernel_factory
            give_back(self.item, lease)
        for lease in leases[: self.held]:
            lease.kernel.restore(lease.example)


def _allow_our_fixtures(item: pytest.Item) -> None:
    """Suppresses Hypothesis' function_scoped_fixture check when it would complain about fixtures
    that are restored for each example, and about no others."""
    if not all(_is_restored(item, name) for name in item._fixtureinfo.argnames):  # type: ignore[attr-defined]
        return
    from hypothesis import HealthCheck, settings

    test = item.obj  # type: ignore[attr-defined]
    function = getattr(test, "__func__", test)
    # Where Hypothesis' own pytest plugin reads and writes the settings of a test, too.
    current = getattr(function, "_hypothesis_internal_use_settings", settings.default)
    suppressed = {*current.suppress_health_check, HealthCheck.function_scoped_fixture}
    function._hypothesis_internal_use_settings = settings(
        parent=current, suppress_health_check=suppressed
    )


def _is_restored(item: pytest.Item, name: str) -> bool:
    """A fixture of wider scope, or one of ours, or one that is made of such and uses ours."""
    definitions = item._fixtureinfo.name2fixturedefs.get(name)  # type: ignore[attr-defined]
    if name in OURS or not definitions or definitions[-1].scope != "function":
        return True
    parents = [parent for parent in definitions[-1].argnames if parent != "request"]
    return _uses_ours(item, name) and all(_is_restored(item, parent) for parent in parents)


def _uses_ours(item: pytest.Item, name: str) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs.get(name, ())  # type: ignore[attr-defined]
    return any(
        parent in OURS or (parent != name and _uses_ours(item, parent))
        for definition in definitions
        for parent in definition.argnames
    )
