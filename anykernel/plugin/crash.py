# SPDX-License-Identifier: GPL-2.0
"""Makes a failure of the kernel a failure of the test, even when the test didn't notice."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

from anykernel.plugin import options as opts
from anykernel.plugin.fixtures import LEASES, POOL
from anykernel.plugin.pool import Lease

if TYPE_CHECKING:
    from anykernel.errors import KernelError

CAUGHT = (
    "(The test itself didn't fail of this: it caught it, or didn't wait for it.  If the crash is "
    "expected: @pytest.mark.kernel(allow_crash=True).  pytest.raises(KernelCrash) alone is not "
    "enough: no test passes on a kernel that died unless it says so.)"
)
HELD = pytest.StashKey[list[Lease]]()
"""On an item: the kernels that its test held when its teardown began."""
KNOWN = pytest.StashKey[dict[int, int]]()
"""On an item, by id(): failures that the logs of its living kernels had then."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    result = yield
    check(item)
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """A kernel that fails in a teardown fails its test, too; what failed before it doesn't do so
    twice.  So does one that has damaged what it is to be restored from."""
    __tracebackhide__ = True
    leases = item.stash[HELD] = list(item.stash.get(LEASES, ()))
    known: dict[int, int] = {}
    living = [lease for lease in leases if _begin(lease, known)]
    item.stash[KNOWN] = known
    result = yield
    check(item, living, known)
    if living:
        item.config.stash[POOL].make_pristine(living)
    return result


def _begin(lease: Lease, known: dict[int, int]) -> bool:
    """What the kernels of `lease` warned of is known from now on, and how often their logs say so;
    whether they live."""
    try:
        if lease.crashed:
            return False
        for _, kernel, printed in lease.kernels:
            kernel.instance.life.noticed.clear()
            quiet = len(kernel.log.text()) == printed
            known[id(kernel)] = 0 if quiet else len(kernel.log.failures())
    except Exception:  # of a kernel that is not well, which its test was told already
        return False
    return True


def check(
    item: pytest.Item, leases: Sequence[Lease] | None = None, known: Mapping[int, int] | None = None
) -> None:
    """Raises KernelCrash, HostDied or KernelWarning for what the kernels of `item` went through,
    as far as its marker doesn't allow it.  known: failures in the log of each that are not new."""
    __tracebackhide__ = True
    leases = item.stash.get(LEASES, ()) if leases is None else leases
    for lease in leases:
        allowed = opts.of_item(item)[1]
        if lease.crashed:
            if not allowed.crash:
                raise _crash(lease)
        elif lease.unit:
            lease.kernel.check()
        elif not allowed.warnings:
            _check_warnings(lease, known or {})


def _crash(lease: Lease) -> KernelError:
    from anykernel.errors import HostDied, KernelCrash

    for instance in lease.host.instances:
        report = instance.crash
        if report is not None:
            error = KernelCrash(report)
            for place in report.places:
                error.add_note(f"  at {place}: {place.source}")
            error.add_note(CAUGHT)
            return error
    return HostDied("the host process of this test's kernel is gone")


def _check_warnings(lease: Lease, known: Mapping[int, int]) -> None:
    __tracebackhide__ = True
    for name, kernel, printed in lease.kernels:
        # As nearly always, nothing was counted and nothing printed since the boot.
        if not kernel.instance.life.noticed and len(kernel.log.text()) == printed:
            continue
        failures = kernel.log.failures()[(known or lease.known).get(id(kernel), 0) :]
        if failures or kernel.instance.life.noticed or (kernel.log.lost and not known):
            from anykernel.errors import KernelWarning
            from anykernel.plugin.complaint import complaint

            raise KernelWarning(complaint(name, kernel, failures))
