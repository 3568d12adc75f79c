# SPDX-License-Identifier: GPL-2.0
"""Adds to a failing test what its kernels have to say, on one screen; the rest goes to a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.plugin import kept, packets, replay
from anykernel.plugin import options as opts
from anykernel.plugin.crash import HELD
from anykernel.plugin.fixtures import LEASES
from anykernel.plugin.pool import Lease

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

LOG_LINES = 10
PACKETS = 6, 10
"""Where a kernel's failure has much to say itself, and elsewhere."""
NODES = 3
"""Of a network: nodes whose logs are shown."""
STACK = re.compile(r"(?:^.*\[<[0-9a-f]{8,16}>\] .*\n)+", re.M)
WARNING = re.compile(r"^.*-\[ cut here \]-+\n(?:.*\n)*?.*---\[ end trace \w+ \]---\n", re.M)
HIDDEN = "All traceback entries are hidden"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    if call.excinfo is not None:
        _hide_ourselves()
    report = yield
    leases = item.stash.get(LEASES, None) or item.stash.get(HELD, None) or []
    if report.failed and call.excinfo is not None and (leases or _of_kernel(call.excinfo.value)):
        _clean(report)
        error = call.excinfo.value
        for position, lease in enumerate(leases):
            label = f" of kernel {position + 1}" if len(leases) > 1 else ""
            for title, text in _sections(lease, error, len(leases)):
                report.sections.append((f"{title}{label}", text))
        files = kept.keep(item, call.when, leases, error)
        report.sections.append(("Replay", "\n".join([*_replay(item, leases), *files])))
    if call.when == "teardown":
        item.stash[HELD] = []
    return report


def _of_kernel(error: BaseException) -> bool:
    """It is a kernel's failure, perhaps of one that was never there to be lent."""
    from anykernel.errors import KernelError

    return isinstance(error, KernelError)


def _hide_ourselves() -> None:
    """Who reads a failure of the kernel, or of a call, wants the lines of the test: ours are there
    with --full-trace, and in what may be a fault of ours."""
    from anykernel.places import PACKAGE, SUITES

    def hides(error: Any) -> bool:
        from anykernel.errors import AnykernelError

        return isinstance(error.value, AnykernelError | OSError)

    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        ours = name.startswith("anykernel.") and file.startswith(PACKAGE)
        if ours and not file.startswith(SUITES):
            vars(module).setdefault("__tracebackhide__", hides)


def _clean(report: pytest.TestReport) -> None:
    """Where all that failed is the kernel, there are no lines of the test to be shown."""
    trace = getattr(report.longrepr, "reprtraceback", None)
    if str(getattr(trace, "extraline", None) or "").startswith(HIDDEN):
        trace.extraline = None  # type: ignore[union-attr]


def _sections(lease: Lease, error: BaseException, among: int) -> list[tuple[str, str]]:
    """What can still be had; a dead host must not hide the test's own failure."""
    makers = []
    shown = 0
    for name, kernel, printed in lease.kernels:
        title = f"Kernel log{f' of node {name}' if name else ''}"
        most = max(LOG_LINES // among, 4)
        makers.append((title, partial(_log, kernel, printed, most, error)))
    makers.append(("Kernel crash", partial(_crash, lease, error)))
    makers.append(("Last packets", partial(_packets, lease, PACKETS[not _of_kernel(error)])))
    found = []
    for title, make in makers:
        try:
            text = make()
        except Exception as failure:
            text = f"(not to be had: {type(failure).__name__}: {failure})"
        if not text:
            continue
        if " of node " in title:
            shown += 1
            if shown > NODES:
                continue
        found.append((title, text))
    return found


def _log(kernel: Kernel, printed: int, most: int, error: BaseException) -> str:
    """Of this test alone, its last lines; without what a KernelWarning has told already."""
    from anykernel.errors import KernelWarning

    text = kept.log_since(kernel, printed)
    if isinstance(error, KernelWarning):
        text = WARNING.sub("", text)
    text = STACK.sub(lambda found: f"    ({found[0].count(chr(10))} lines of a stack)\n", text)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines and not isinstance(getattr(kernel, "name", None), str):
        return f"... {kernel.log.text()[:printed].count(chr(10))} lines of its boot"
    before = [f"... {len(lines) - most + 1} lines"] if len(lines) > most else []
    return "\n".join([*before, *lines[-most + len(before) :]])


def _crash(lease: Lease, error: BaseException) -> str:
    """Unless it is what the test failed of."""
    from anykernel.errors import KernelCrash

    if isinstance(error, KernelCrash):
        return ""
    reports = [instance.crash for instance in lease.host.instances]
    return "\n".join(report.summary() for report in reports if report is not None)


def _packets(lease: Lease, most: int) -> str:
    if lease.network:
        return "\n".join(packets.passages(lease.kernel, most))
    return "\n".join(packets.frames(lease.host.instances[0].captured(clear=False), most))


def _replay(item: pytest.Item, leases: list[Lease]) -> list[str]:
    images = ", ".join(dict.fromkeys(f"{x.image.release} (image {x.image.id})" for x in leases))
    command = replay.command(item, opts.of_item(item)[0])
    return [command, f"kernel {images}"] if images else [command]
