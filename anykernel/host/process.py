# SPDX-License-Identifier: GPL-2.0
"""Host: one anykernel-host process with its kernels, from start to end."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from anykernel import cache
from anykernel.errors import BorderError, HostDied, UsageError
from anykernel.host import compiled
from anykernel.host.border import Border
from anykernel.host.cmdline import command_line
from anykernel.host.instance import Instance
from anykernel.host.report import CrashReport
from anykernel.host.times import nanoseconds
from anykernel.host.turns import atomic
from anykernel.host.watch import SLICE_NS, Watch
from anykernel.settings import settings

if TYPE_CHECKING:
    from anykernel.build.image import Image

EPOCH_NS = 1_600_000_000_000_000_000
"""CLOCK_REALTIME at boot, the same for every run: 2020-09-13."""

BOOTING = 30.0
"""CPU seconds for booting, beside the kernels' budgets; and seconds that it may be asleep then."""
GRACE = 1.0
"""CPU seconds after each of the signals that are to stop a kernel."""
PATIENCE = 1.0
"""Seconds for a request to end that is interrupted; then its kernel is stopped, and after as many
more the host."""
AGAIN = 10_000
"""Times that it may want something at one moment of a network's time."""
SAID = 16 << 10
"""Bytes of the host's stderr that are shown, its last ones."""
SAID_MOST = 1 << 20
"""Bytes that it may write at all."""


def _in_a_child() -> None:
    """os.fork() has copied our hold on the hosts: they stay the parent's."""
    for host in list(_HOSTS):
        host.is_the_parents()


def _refuse(count: int = 1) -> NoReturn:
    raise UsageError(
        "this process was forked from the one that made the kernel, which alone can use it: boot "
        "another one here"
    )


_HOSTS: weakref.WeakSet[Host] = weakref.WeakSet()
os.register_at_fork(after_in_child=_in_a_child)


class Host:
    """Runs `kernels` kernels of one image.  Close it, or use it with `with`.

    With the clock 'network', none is booted at first: boot() adds one, `kernels` at most, and
    those that join() have one clock and can be linked.

    memory: RAM of each kernel in bytes, a multiple of 4 MiB, 16 MiB at least.
    seed: of the kernels' random numbers.  clock: see design.md.
    cmdline: the kernels' parameters; they follow those of cmdline.py, and win.
    budget: CPU seconds that one request may keep a kernel busy; then it is a lockup.  A host that
    sleeps so long in the middle of one never answers: it is ended.
    cost: virtual seconds that each system call takes, each packet that a device of the kernel
    receives, and each that a netdev sends: 1e-6 is near a real machine's.  0: a kernel works in no
    time.  Rounded to ns.
    stubs: what a stub without a grant does when it is reached: 'strict', it crashes its kernel;
    'report', it returns 0 and is only counted (Instance.stubs).
    keys: use the CPU's protection keys, if it has them, against writes of a kernel into memory
    that isn't its own.

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
        cost: float = 0.0,
        stubs: Literal["strict", "report"] = "strict",
        program: Path | None = None,
        keys: bool = True,
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
        cache.sound([self._program, image.library])
        self.kernels = kernels
        self.network = clock == "network"
        self.real = clock == "real"
        self.names: dict[int, str] = {}
        """What reports call a kernel, by its index."""
        self.attend: Callable[[], None] = lambda: None
        """Called when time can't go on before the client has read or decided something."""
        self._again = self._again_at = 0
        self.full: dict[int, Callable[[], None]] = {}
        """Who reads a ring when it is full, by its number in hk_header.full."""
        self._process: subprocess.Popen[bytes] | None = None
        _HOSTS.add(self)
        self.instances: list[Instance] = []
        fd = os.memfd_create("anykernel", os.MFD_CLOEXEC)
        try:
            self.border = border = Border(fd, kernels, self._kill)
            self.ffi, self.c = border.ffi, border.c
            self.commands, self.view, self.base = border.commands, border.view, border.base
            for index in range(kernels):
                raw = border.raw(index)
                raw.stubs_pass = stubs == "report"
                raw.captures = not self.network
            self._keys = keys and not settings().hides("keys")
            words = [f"{nanoseconds(cost, 'the cost')}", command_line(image, cmdline)]
            self._start(fd, kernels, memory, seed, clock, words)
            if not self.network:
                self.instances += [Instance(self, i) for i in range(kernels)]
            for instance in self.instances:
                instance.booted()
        except BaseException:
            self.close()
            raise
        finally:
            os.close(fd)

    @atomic
    def boot(self) -> Instance:
        """Boots one more kernel of a host whose clock is 'network'.  Raises UsageError when it
        is full, KernelCrash, HostDied."""
        index = len(self.instances)
        if not self.network or index == self.kernels:
            raise UsageError(f"this host was made for {self.kernels} kernels: it has them")
        booted = Instance(self, index)
        booted.command("HK_BOOT")
        booted.booted()
        self.instances.append(booted)
        booted.life.look()
        return booted

    def _start(
        self, fd: int, kernels: int, memory: int, seed: int, clock: str, more: list[str]
    ) -> None:
        # A signal about a parent's death comes when the thread that started the host ends.
        parent = os.getpid()
        if threading.get_native_id() != parent:
            parent = -parent
        argv = [str(self._program), str(self.image.library), str(fd), str(parent)]
        argv += [str(kernels), str(memory), str(seed & (1 << 64) - 1), str(EPOCH_NS), clock]
        boots = "lazy" if clock == "network" else "boot"
        argv += [boots if self._keys else f"{boots}-nokeys", *more]
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
        # The file can't grow without end, whatever the host does.
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (SAID_MOST, SAID_MOST))
        self._wait_ready(BOOTING + (0 if self.network else kernels * self.budget))

    def _wait_ready(self, seconds: float) -> None:
        assert self._process is not None
        watch = Watch(self._process.pid, seconds, BOOTING)
        pause, looked = 0.0002, time.monotonic()
        while not self.border.ready():
            if self._process.poll() is not None:
                raise self.died("while its kernels booted", self._crashes())
            if time.monotonic() - looked > SLICE_NS / 1e9:
                looked = time.monotonic()
                if found := watch.look():
                    self._kill()
                    how = "it runs" if found == "busy" else f"its host is {found}"
                    raise HostDied(
                        f"the kernel doesn't boot: {how}, but never reaches init\n"
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

    def call(self, count: int = 1) -> None:
        """Executes commands[0:count].  Raises HostDied, BorderError.  A kernel that outlasts the
        budget is stopped: its command ends as crashed, with a lockup report."""
        try:
            found = self.border.ring(count, SLICE_NS)
            if found:  # nearly always it is HK_CALL_DONE, 0
                if found != self.c.HK_CALL_NEWS:
                    found = self._wait(found)
                self._over(found)
        except HostDied:
            raise
        except BaseException:  # Ctrl-C, at any place here, or who reads a ring
            self._finish(count)
            raise

    def _over(self, found: int) -> None:
        """A request is over: looks at the kernels if one has something to say."""
        if found == self.c.HK_CALL_NEWS:
            for instance in self.instances:
                instance.life.look()

    def _wait(self, found: int) -> int:
        """Until a request is over: HK_CALL_DONE or HK_CALL_NEWS."""
        c, process = self.c, self._process
        if process is None:
            raise HostDied("this kernel's host was closed")
        if process.poll() is not None:
            raise self.died("in the middle of a request")
        asleep = self.budget + (self.commands[0].timeout / 1e9 if self.real else 0)
        watch = Watch(process.pid, self.budget, asleep)
        stopped = 0
        while found not in (c.HK_CALL_DONE, c.HK_CALL_NEWS):
            if found == c.HK_CALL_LIES:
                raise self.border.bell()
            if found == c.HK_CALL_FULL:
                self._read_full()
            elif process.poll() is not None:
                raise self.died("in the middle of a request")
            if wrong := watch.look():
                self._out_of_budget(wrong, stopped)
                watch.allow(GRACE)
                stopped += 1
            found = self.border.wait(SLICE_NS)
        return found

    def _out_of_budget(self, wrong: str, times: int) -> None:
        """A request takes too long: the kernel is "busy" in it, or the host "asleep" or "stopped".
        Ends the request, or the host.  times: how often that was tried."""
        assert self._process is not None
        if wrong != "busy":
            self._kill()
            raise self.died(f"in the middle of a request: it was {wrong}, and never answered")
        if times == 3:
            self._kill()
            raise self.died("stuck, and deaf to its budget's signal")
        os.kill(self._process.pid, signal.SIGALRM)

    def _finish(self, count: int) -> None:
        """Has the host end a request that nobody waits for any more, or ends the host.  The kernel
        lives, if it doesn't spin."""
        self.border.interrupt(True)
        try:
            self._ended(count)
        finally:
            self.border.interrupt(False)

    def _ended(self, count: int) -> None:
        begin, told = time.monotonic(), False
        while (passed := time.monotonic() - begin) < 2 * PATIENCE:
            found = self.border.wait(SLICE_NS)
            if not self.alive:
                return
            if found in (self.c.HK_CALL_DONE, self.c.HK_CALL_NEWS):
                if any(self.commands[i].status == self.c.HK_CRASHED for i in range(count)):
                    self.border.victim()
                self._over(self.c.HK_CALL_NEWS)  # nobody may have looked at those it had
                return
            if found == self.c.HK_CALL_FULL:
                self._read_full()
            if passed > PATIENCE and not told:
                told = True
                os.kill(self.pid, signal.SIGALRM)
        self._kill()

    def _read_full(self) -> None:
        """In the middle of a request: a ring has to be read."""
        number = self.border.full()
        if number is None:
            return
        reader = self.full.get(number)
        if reader is None:
            raise self.border.lie("hk_header.full", number, "a ring that somebody reads")
        reader()
        self.border.go_on()

    def attended(self) -> None:
        """After HK_AGAIN: sees to what the host wants.  Raises BorderError when that happens again
        and again, and time stands still."""
        now = self.border.now
        self._again = self._again + 1 if now == self._again_at else 0
        self._again_at = now
        if self._again > AGAIN:
            raise self.border.lie("hk_command.status", "HK_AGAIN", f"an answer: it is {now} ns yet")
        self.attend()

    def _kill(self) -> None:
        """Ends the process; what is known of it stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _crashes(self) -> str:
        """How kernels crashed that never came to be instances."""
        found = range(self.kernels)
        dead = [index for index in found if self.border.raw(index).crash]
        return "\n".join(CrashReport.read(self, index).summary() for index in dead)

    def died(self, when: str, crashes: str = "") -> HostDied:
        """What is known of the host's end."""
        code = self._process.returncode if self._process else None
        how = f"exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"killed by {signal.Signals(-code).name}"
        said = ""
        with contextlib.suppress(ValueError, OSError):
            self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - SAID))
            said = self._stderr.read(SAID).decode(errors="replace")
        parts = [f"the host process died {when} ({how})", said.strip()]
        try:
            parts += [crashes or self._crashes(), self._console_tail()]
        except BorderError as error:
            parts.append(str(error))
        return HostDied("\n".join(part for part in parts if part))

    def _console_tail(self) -> str:
        text = self.said(0).decode(errors="replace")
        lines = text.strip().splitlines()[-15:]
        return "last lines of the kernel's log:\n" + "\n".join(lines) if lines else ""

    def said(self, index: int) -> bytes:
        """What kernel `index` printed in its present life, as far as it is known."""
        if index < len(self.instances):
            return bytes(self.instances[index].life.said())
        return self.border.part(index).console(0)[1]  # it never came to be an instance

    def close(self) -> None:
        """Ends the process.  Twice does no harm."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        self._stderr.close()

    def is_the_parents(self) -> None:
        """After a fork, in the child: it neither uses the process nor ends it."""
        self._process = None
        vars(self)["call"] = _refuse

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
