# SPDX-License-Identifier: GPL-2.0
"""The machine's own kernel behind the Instance interface: an oracle, since the ABI is the same.

Tests that pass on it and not on the kernel under test show a fault of the latter; tests that fail
on both show one of ours.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from typing import Any

from anykernel.host.stretch import Stretches
from anykernel.kernel.background import Workers
from anykernel.kernel.process import SPAWN, Process

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Buffer:
    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size)
        self._pin = ctypes.c_char.from_buffer(self._memory)
        self.address = ctypes.addressof(self._pin)
        self.view = memoryview(self._memory)

    def free(self) -> None:
        """Left to the collector."""


class UserMemory:
    def alloc(self, size: int, align: int = 16) -> Buffer:
        return Buffer(size)


def execute(nr: int, args: tuple[int, ...]) -> int:
    values = [ctypes.c_ulong(arg & (1 << 64) - 1) for arg in args]
    result = libc.syscall(ctypes.c_long(nr), *values)
    return -ctypes.get_errno() if result == -1 else int(result)


class Machine:
    """Tasks are threads of this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.user = UserMemory()
        self.warnings = 0
        self._results: dict[int, list[int]] = {}
        self._threads: dict[int, threading.Thread] = {}

    @property
    def now(self) -> int:
        return time.monotonic_ns()

    def syscall(self, nr: int, *args: int, task: int = 0, timeout: float | None = None) -> int:
        if nr == SPAWN:
            self._results[len(self._results) + 1] = []
            return len(self._results)
        if timeout is None:
            return execute(nr, args)
        self._results.setdefault(-1, [])
        self.post(nr, *args, task=-1)
        return self.wait(-1, timeout)

    def post(self, nr: int, *args: int, task: int) -> None:
        result = self._results[task] = []
        thread = threading.Thread(target=lambda: result.append(execute(nr, args)), daemon=True)
        self._threads[task] = thread
        thread.start()

    def poll(self, task: int) -> int | None:
        result = self._results[task]
        return result[0] if result else None

    def wait(self, task: int, timeout: float | None = None) -> int:
        self._threads[task].join(10 if timeout is None else timeout)
        result = self.poll(task)
        if result is None:
            raise TimeoutError("timed out")
        return result

    def read_memory(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def write_memory(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def run(self, until: int | None = None) -> None:
        time.sleep(0.005)

    def cancel(self, task: int) -> None:
        raise NotImplementedError

    settle = netdev_add = netdev_del = netdev_carrier = inject = exchange = captured = cancel
    snapshot = restore = console = cancel


def process() -> Process:
    """This process, seen as one of a kernel under test."""
    instance: Any = Machine()
    made = Process(instance, 0, Workers(), None)
    made._stretches = Stretches()
    return made
