# SPDX-License-Identifier: GPL-2.0
"""Makes a failure of the kernel a failure of the test, even when the test didn't notice."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from anykernel.plugin import options as opts
from anykernel.plugin.fixtures import LEASES
from anykernel.plugin.pool import Lease


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
            _check_log(lease)


def _crash(lease: Lease) -> Exception:
    from anykernel.errors import HostDied, KernelCrash

    report = lease.host.instances[0].crash
    if report is not None:
        return KernelCrash(report)
    return HostDied("the host process of this test's kernel is gone")


def _check_log(lease: Lease) -> None:
    __tracebackhide__ = True
    from anykernel.errors import KernelWarning

    if len(lease.kernel.log.text()) == lease.printed:
        return  # as nearly always: nothing was printed since the boot
    failures = lease.kernel.log.failures()
    if failures:
        lines = "\n".join(f"  {failure}" for failure in failures)
        raise KernelWarning(
            f"the kernel complained during this test:\n{lines}\n"
            "If that is expected: @pytest.mark.kernel(allow_warnings=True)"
        )
