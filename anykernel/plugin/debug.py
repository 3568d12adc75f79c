# SPDX-License-Identifier: GPL-2.0
"""--kernel-gdb: where a kernel fails, gdb is attached to it before its test is torn down."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.plugin.fixtures import LEASES

if TYPE_CHECKING:
    from anykernel.plugin.pool import Lease


def configure(config: pytest.Config) -> None:
    """Raises pytest.UsageError where nobody could use gdb."""
    if config.getoption("kernel_gdb") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--kernel-gdb needs the terminal: leave -n out")


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any]
) -> None:
    if not isinstance(node, pytest.Item) or not node.config.getoption("kernel_gdb"):
        return
    from anykernel.errors import KernelError

    leases = node.stash.get(LEASES, ())
    if call.excinfo is None or not call.excinfo.errisinstance(KernelError):
        return
    living = [lease for lease in leases if not lease.dead]
    # Of several kernels, that which crashed.
    for lease in [one for one in living if one.crashed][:1] or living[:1]:
        with _terminal(node.config):
            _stop(lease, str(call.excinfo.value).partition("\n")[0])
        # Whatever was changed there, nobody else is to have it.
        lease.retired = not lease.crashed


def _stop(lease: Lease, what: str) -> None:
    from anykernel.errors import AnykernelError
    from anykernel.host import gdb

    pid, images = lease.host.pid, gdb.of_host(lease.host)
    print(f"\n>>> {what}\n>>> gdb on process {pid}; the test goes on when you leave it", flush=True)
    crashed = any(one.crash is not None for one in lease.host.instances)
    try:
        with _interrupts_are_gdbs():
            gdb.attach(pid, images, ["crash"] if crashed else [])
    except AnykernelError as error:
        print(f">>> {error}\n>>> by hand: {gdb.by_hand(pid, images)}", flush=True)


@contextlib.contextmanager
def _terminal(config: pytest.Config) -> Iterator[None]:
    """Nothing is captured, as with --pdb."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        yield
        return
    capture.suspend(in_=True)
    try:
        yield
    finally:
        capture.resume()


@contextlib.contextmanager
def _interrupts_are_gdbs() -> Iterator[None]:
    """Ctrl-C stops what gdb runs, not pytest."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
