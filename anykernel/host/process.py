# SPDX-License-Identifier: GPL-2.0
"""Host: one anykernel-host process with its kernels, from start to end."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anykernel.errors import HostDied, UsageError
from anykernel.host import compiled
from anykernel.host.instance import Instance
from anykernel.host.report import CrashReport
from anykernel.host.turns import atomic

if TYPE_CHECKING:
    from anykernel.build.image import Image

EPOCH_NS = 1_600_000_000_000_000_000
"""CLOCK_REALTIME at boot, the same for every run: 2020-09-13."""

SLICE_NS = 20_000_000
"""How long a wait for the host lasts before we look whether it lives."""


class Host:
    """Runs `kernels` kernels of one image.  Close it, or use it with `with`.

    With the clock 'network', none is booted at first: boot() adds one, `kernels` at most, and
    those that join() have one clock and can be linked.

    memory: RAM of each kernel in bytes, a multiple of 4 MiB, 16 MiB at least.
    seed: of the kernels' random numbers.  clock: see design.md.
    budget: wall seconds that one request may keep a kernel busy; then it is a lockup.
    stubs: what a stub without a grant does when it is reached: 'strict', it crashes its kernel;
    'report', it returns 0 and is only counted (Instance.stubs).

    Raises UsageError, HostDied (with what the host or the kernel said), ToolError.
    """

    def __init__(
        self,
        image: Image,
        *,
        kernels: int = 1,
        memory: int = 64 << 20,
        seed: int = 0,
        clock: Literal["virtual", "real", "network"] = "virtual",
        cmdline: str = "",
        budget: float = 10.0,
        stubs: Literal["strict", "report"] = "strict",
        program: Path | None = None,
    ) -> None:
        if memory < 16 << 20 or memory % (4 << 20):
            raise UsageError(
                f"memory={memory}: a kernel needs 16 MiB at least, in multiples of 4 MiB"
            )
        if clock not in ("virtual", "real", "network"):
            raise UsageError(f"clock={clock!r}: it is 'virtual', 'real' or 'network'")
        if stubs not in ("strict", "report"):
            raise UsageError(f"stubs={stubs!r}: it is 'strict' or 'report'")
        if not 1 <= kernels <= 4096:
            raise UsageError(f"kernels={kernels}: from 1 to 4096")
        self.image = image
        self.lock = threading.RLock()
        """Held while commands are filled in, executed and their results read."""
        self.budget = budget
        self._program = program or compiled.host_program()
        self.kernels = kernels
        self.network = clock == "network"
        self.names: dict[int, str] = {}
        """What reports call a kernel, by its index."""
        self.tap: Callable[[], None] | None = None
        """Called before each call: somebody reads a ring and makes room in it."""
        self.attend: Callable[[], None] = lambda: None
        """Called when time can't go on before the client has read or decided something."""
        self.ffi, self.lib, self.c = compiled.client()
        self._process: subprocess.Popen[bytes] | None = None
        size = self.c.HK_KERNELS_AT + kernels * self.c.HK_KERNEL_SIZE
        fd = os.memfd_create("anykernel", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            self.map = mmap.mmap(fd, size)
            self.view = memoryview(self.map)
            base = self.ffi.from_buffer(self.map)
            self.base: Any = base
            self.header = self.ffi.cast("struct hk_header *", base)
            self.commands = self.ffi.cast("struct hk_command *", base + self.c.HK_COMMANDS_AT)
            self.header.magic = self.c.HK_MAGIC
            self.header.version = self.c.HK_VERSION
            for index in range(kernels):
                self.kernel_struct(index).stubs_pass = stubs == "report"
                self.kernel_struct(index).captures = not self.network
            self._start(fd, kernels, memory, seed, clock, cmdline)
        finally:
            os.close(fd)
        self.instances = [] if self.network else [Instance(self, i) for i in range(kernels)]

    @atomic
    def boot(self) -> Instance:
        """Boots one more kernel of a host whose clock is 'network'.  Raises UsageError when it
        is full, KernelCrash, HostDied."""
        index = len(self.instances)
        if not self.network or index == self.kernels:
            raise UsageError(f"this host was made for {self.kernels} kernels: it has them")
        booted = Instance(self, index)
        booted.command("HK_BOOT")
        self.instances.append(booted)
        return booted

    def _start(
        self, fd: int, kernels: int, memory: int, seed: int, clock: str, cmdline: str
    ) -> None:
        # A signal about a parent's death comes when the thread that started the host ends.
        parent = os.getpid()
        if threading.get_native_id() != parent:
            parent = -parent
        argv = [str(self._program), str(self.image.library), str(fd), str(parent)]
        argv += [str(kernels), str(memory), str(seed & (1 << 64) - 1), str(EPOCH_NS), clock]
        argv += ["lazy" if clock == "network" else "boot", cmdline]
        # A file, not a pipe: nobody reads while the host runs.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            argv,
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env={},
            start_new_session=True,  # Ctrl-C is for pytest
        )
        end = time.monotonic() + 30 + (0 if self.network else kernels * self.budget)
        pause = 0.0002
        while self.header.ready != kernels:
            if self._process.poll() is not None:
                raise self.died("while its kernels booted", self._crashes())
            if time.monotonic() > end:
                self.close()
                raise HostDied(
                    "the kernel doesn't boot: it runs, but never reaches init\n"
                    + self._console_tail()
                )
            time.sleep(pause)
            pause = min(pause * 1.2, 0.01)

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def commands_of(self, batch: Sequence[object]) -> list[Any]:
        """The first commands, as many as `batch` has."""
        return [self.commands[i] for i in range(len(batch))]

    def kernel_struct(self, index: int) -> Any:
        """struct hk_kernel of kernel `index`."""
        offset = self.c.HK_KERNELS_AT + index * self.c.HK_KERNEL_SIZE
        return self.ffi.cast("struct hk_kernel *", self.base + offset)

    def call(self, count: int = 1) -> None:
        """Executes commands[0:count].  Raises HostDied.  A kernel that outlasts the budget is
        stopped: its command ends as crashed, with a lockup report."""
        if self.tap is not None:
            self.tap()
        if self.lib.hk_call(self.header, count, SLICE_NS):
            return
        if self._process is None:
            raise HostDied("this kernel's host was closed")
        end = time.monotonic() + self.budget
        stopped = 0
        while not self.lib.hk_wait(self.header, SLICE_NS):
            if self._process.poll() is not None:
                raise self.died("in the middle of a request")
            if time.monotonic() > end:
                if stopped == 3:
                    self._process.kill()
                    self._process.wait()
                    raise self.died("stuck, and deaf to its budget's signal")
                os.kill(self._process.pid, signal.SIGALRM)
                stopped += 1
                end = time.monotonic() + 1

    def _crashes(self) -> str:
        """How kernels crashed that never came to be instances."""
        found = range((len(self.map) - self.c.HK_KERNELS_AT) // self.c.HK_KERNEL_SIZE)
        dead = [index for index in found if self.kernel_struct(index).crash]
        return "\n".join(CrashReport.read(self, index).render() for index in dead)

    def died(self, when: str, crashes: str = "") -> HostDied:
        """What is known of the host's end."""
        code = self._process.returncode if self._process else None
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"killed by {signal.Signals(-code).name}"
        said = ""
        with contextlib.suppress(ValueError, OSError):
            self._stderr.seek(0)
            said = self._stderr.read().decode(errors="replace")
        parts = [f"the host process died {when} ({how})", said.strip()]
        parts.append(crashes or self._console_tail())
        return HostDied("\n".join(part for part in parts if part))

    def _console_tail(self) -> str:
        text = self.console_bytes(0, 0)[1].decode(errors="replace")
        lines = text.strip().splitlines()[-15:]
        return "last lines of the kernel's log:\n" + "\n".join(lines) if lines else ""

    def console_bytes(self, index: int, since: int) -> tuple[int, bytes]:
        """(bytes written so far, those from `since` on as far as the ring holds them)."""
        head = int(self.kernel_struct(index).console_head)
        size = self.c.HK_CONSOLE_SIZE
        start = max(since, head - size, 0)
        base = self.c.HK_KERNELS_AT + index * self.c.HK_KERNEL_SIZE + self.c.HK_CONSOLE_AT
        first, last = start % size, head % size
        if start >= head:
            return head, b""
        if first < last:
            return head, bytes(self.view[base + first : base + last])
        return head, bytes(self.view[base + first : base + size]) + bytes(
            self.view[base : base + last]
        )

    def console_lost(self, index: int, since: int) -> int:
        """Bytes from `since` on that the ring doesn't hold any more."""
        head = int(self.kernel_struct(index).console_head)
        return max(0, head - int(self.c.HK_CONSOLE_SIZE) - since)

    def close(self) -> None:
        """Ends the process.  Twice does no harm."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._stderr.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
