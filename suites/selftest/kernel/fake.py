# SPDX-License-Identifier: GPL-2.0
"""An instance without a kernel: every system call succeeds, frames echo, snapshots are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.kernel.rtnl import LinkInfo
from suites.selftest.kernel.machine import UserMemory

ENOENT = 2


class Frame(NamedTuple):
    time_ns: int
    dev: int
    direction: str
    data: bytes
    number: int


class Image(NamedTuple):
    release: str = "6.1.0-fake"
    config: Path = Path("/nonexistent")


class FakeInstance:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.user = UserMemory()
        self.now = 0
        self.warnings = self.lost = 0
        self.life = self
        self.signals: list[tuple[int, int, int]] = []
        self.depth = 0
        self.calls: list[int] = []
        self.frames: list[Frame] = []
        self.sinks: list[Callable[[Frame], None]] = []
        self.devices = 0
        self.written = b""
        self.next_fd = 3
        self.results: dict[int, int] = {NUMBERS["newfstatat"]: -ENOENT}

    def syscall(self, nr: int, *args: int, task: int = 0, timeout: float | None = None) -> int:
        self.calls.append(nr)
        if nr == NUMBERS["socket"]:
            self.next_fd += 1
            return self.next_fd
        return self.results.get(nr, 0)

    def netdev_add(
        self,
        name: str,
        mac: bytes,
        mtu: int,
        carrier: bool = True,
        features: int = 0,
        super_frames: bool = False,
    ) -> tuple[int, int]:
        self.devices += 1
        return self.devices - 1, self.devices + 1

    def netdev_del(self, dev: int) -> None:
        pass

    def _pass(self, dev: int, direction: str, data: bytes) -> None:
        self.frames.append(Frame(self.now, dev, direction, data, len(self.frames)))
        for sink in self.sinks:
            sink(self.frames[-1])

    def inject(self, dev: int, frames: Sequence[bytes], gso_size: int = 0) -> None:
        for frame in frames:
            self._pass(dev, "rx", frame)

    def exchange(self, dev: int, frames: Sequence[bytes]) -> list[list[bytes]]:
        """A frame of n bytes is answered n % 3 times."""
        self.inject(dev, frames)
        answers = [[frame] * (len(frame) % 3) for frame in frames]
        for group in answers:
            for answer in group:
                self._pass(dev, "tx", answer)
        return answers

    def listen(self, sink: Callable[[Frame], None]) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def drain(self) -> None:
        pass

    def captured(self, dev: int | None = None, clear: bool = True) -> list[Frame]:
        return [frame for frame in self.frames if dev is None or frame.dev == dev]

    def run(self, until: int | None = None) -> None:
        self.now = max(self.now, until or 0)

    def settle(self, limit_ns: int) -> int:
        self.now += limit_ns
        return self.now

    def said(self) -> bytes:
        return self.written

    def snapshot(self) -> int:
        self.depth += 1
        return self.depth

    def restore(self, snapshot: int) -> None:
        assert 0 < snapshot <= self.depth
        self.depth = snapshot

    def drop(self, snapshot: int) -> None:
        assert 0 < snapshot <= self.depth
        self.depth = snapshot - 1


class FakeKernel(Kernel):
    """Whose devices stay as they were made: there is no netlink to ask."""

    def look(self, netdev: Netdev) -> tuple[LinkInfo, int | None]:
        return netdev.last, None


def kernel() -> tuple[Kernel, FakeInstance]:
    """A Kernel over a fake instance, and that."""
    instance: Any = FakeInstance()
    image: Any = Image()
    return FakeKernel(instance, image), instance
