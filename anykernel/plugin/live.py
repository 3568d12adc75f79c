# SPDX-License-Identifier: GPL-2.0
"""Shows on the terminal what kernels print, as they print it: --kernel-log-live, and with -s."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from typing import IO, TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.host import Host
    from anykernel.host.follow import Follower
    from anykernel.plugin.pool import Lease

STEP = 0.05
"""Seconds between two looks, while a test runs."""
LIVE = pytest.StashKey["Live"]()


def configure(config: pytest.Config) -> None:
    """Opens the terminal, before pytest captures what tests print."""
    wanted = config.getoption("kernel_log_live") or config.getini("kernel_log_live")
    # An xdist worker has no terminal; its output is for its master.
    if hasattr(config, "workerinput") or not (wanted or config.getoption("capture") == "no"):
        return
    config.stash[LIVE] = Live(os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace"))


def pytest_unconfigure(config: pytest.Config) -> None:
    live = config.stash.get(LIVE, None)
    if live is not None:
        live.close()


class Live:
    """Reads the consoles of the kernels of the test that runs, in a thread."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._readers: dict[tuple[Host, int], Follower] = {}
        self._end = threading.Event()
        self._spoke = False
        self.item: pytest.Item | None = None

    def run(self) -> None:
        """Until the test is over."""
        while not self._end.wait(STEP):
            self.look()

    def begin(self, item: pytest.Item) -> threading.Thread:
        self.item, self._spoke = item, False
        self._end.clear()
        thread = threading.Thread(target=self.run, name="kernel-log-live", daemon=True)
        thread.start()
        return thread

    def end(self, thread: threading.Thread) -> None:
        self._end.set()
        thread.join()
        self.look()
        self._readers = {key: reader for key, reader in self._readers.items() if key[0].alive}

    def close(self) -> None:
        self._out.close()

    def look(self) -> None:
        """Shows what is new of all kernels that the test holds."""
        with self._lock:
            found = [line for lease in self._leases() for line in self._news(lease)]
            if found:
                # Behind what pytest has begun to say of this test.
                self._out.write("".join(found if self._spoke else ["\n", *found]))
                self._out.flush()
                self._spoke = True

    def _leases(self) -> list[Lease]:
        from anykernel.plugin.fixtures import LEASES  # which imports us

        return list(self.item.stash.get(LEASES, ())) if self.item is not None else []

    def _news(self, lease: Lease) -> list[str]:
        from anykernel.host.follow import Follower
        from anykernel.visible import visible

        host, found = lease.host, []
        # Nodes boot in the middle of a test; what they say then isn't shown either.
        booted = {node.index: printed for _, node, printed in lease.kernels if lease.network}
        for index in range(len(host.instances)):
            try:
                reader = self._readers.get((host, index))
                if reader is None:
                    reader = self._readers[host, index] = Follower(host, index, booted.get(index))
                lines = reader.lines()
            except Exception:  # of a host that is closed, or lies: its test says so
                continue
            name = host.names.get(index, "kernel")
            found += [f"{name}: {visible(line)}\n" for line in lines]
        return found


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    live = item.config.stash.get(LIVE, None)
    if live is None:
        return (yield)
    thread = live.begin(item)
    try:
        return (yield)
    finally:
        live.end(thread)


def look(config: pytest.Config) -> None:
    """Shows what is new at once; of a kernel that is lent just now, all from here on."""
    live = config.stash.get(LIVE, None)
    if live is not None:
        live.look()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    finally:
        look(item.config)
