# SPDX-License-Identifier: GPL-2.0
"""Makes a failure of the kernel a failure of the test, even when the test didn't notice."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from anykernel.plugin import options as opts
from anykernel.plugin.fixtures import LEASES
from anykernel.plugin.pool import Lease

if TYPE_CHECKING:
    from anykernel.kernel.log import Log


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    result = yield
    check(item)
    return result


def check(item: pytest.Item) -> None:
    """Raises KernelCrash, HostDied or KernelWarning for what the kernels of `item` went through,
    as far as its marker doesn't allow it."""
    __tracebackhide__ = True
    leases = item.stash.get(LEASES, None)
    if not leases:
        return
    allowed = opts.of_item(item)[1]
    for lease in leases:
        if lease.crashed:
            if not allowed.crash:
                raise _crash(lease)
        elif lease.unit:
            lease.kernel.check()
        elif not allowed.warnings:
            for name, kernel, printed in lease.kernels:
                _check_log(name, kernel.log, printed)


def _crash(lease: Lease) -> Exception:
    from anykernel.errors import HostDied, KernelCrash

    for instance in lease.host.instances:
        report = instance.crash
        if report is not None:
            return KernelCrash(report)
    return HostDied("the host process of this test's kernel is gone")


def _check_log(name: str, log: Log, printed: int) -> None:
    __tracebackhide__ = True
    from anykernel.errors import KernelWarning

    if len(log.text()) == printed:
        return  # as nearly always: nothing was printed since the boot
    failures = log.failures()
    if failures:
        lines = "\n".join(f"  {failure}" for failure in failures)
        raise KernelWarning(
            f"the kernel{f' of node {name}' if name else ''} complained during this test:\n"
            f"{lines}\nIf that is expected: @pytest.mark.kernel(allow_warnings=True)"
        )
