# SPDX-License-Identifier: GPL-2.0
"""The host's network, as commands: links, ports and time, by number (overlay/host/protocol.h)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from anykernel.errors import KernelCrash, UsageError
from anykernel.host.instance import LIB_TASK_EXITED, refusal
from anykernel.host.report import CrashReport
from anykernel.host.turns import atomic
from anykernel.net.wire import VERDICTS

if TYPE_CHECKING:
    from anykernel.host import Host


class Back(NamedTuple):
    """A task whose call is over."""

    kernel: int
    task: int
    result: int
    ended: bool
    """The task is no more; the result is its exit code."""


class Asked(NamedTuple):
    """A frame that waits for a verdict."""

    number: int
    port: int
    data: bytes


class Engine:
    """What a Network asks of its host.  Raises KernelCrash, which names the node, HostDied, and
    UsageError for what the host refuses."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.lock = host.lock
        self._c = host.c

    @property
    def now(self) -> int:
        """ns since the boot of the first kernel."""
        return int(self.host.header.now)

    @property
    def trace(self) -> int:
        """A hash of all that was sent on links."""
        return int(self.host.header.trace)

    @property
    def progress(self) -> int:
        """When a job last had a round, ns."""
        return int(self.host.header.progress)

    @atomic
    def command(self, op: str, slot: int = 0, *args: int, kernel: int = 0) -> int:
        """Executes a command of protocol.h; what it returns, -1: it is to be given again."""
        command = self.host.commands[0]
        command.op = getattr(self._c, op)
        command.kernel = kernel
        command.slot = slot
        for position in range(6):
            command.args[position] = args[position] if position < len(args) else 0
        self.host.call()
        return -1 if self._check(command, op, kernel) else int(command.ret)

    def _check(self, command: Any, op: str, kernel: int) -> bool:
        """Raises for what went wrong; true: the host asks for something first."""
        c = self._c
        if command.status == c.HK_OK:
            return False
        if command.status == c.HK_AGAIN:
            return True
        if command.status in (c.HK_CRASHED, c.HK_DEAD):
            dead = int(self.host.header.crashed) - 1 if command.status == c.HK_CRASHED else kernel
            raise KernelCrash(CrashReport.read(self.host, dead))
        raise UsageError(f"{op} of {self.host.names.get(kernel, kernel)}: {refusal(command.ret)}")

    @atomic
    def batch(self, commands: list[tuple[str, int, int]]) -> list[int]:
        """Executes (operation, kernel, first argument) at once; what they return."""
        c = self._c
        done: list[int] = []
        for start in range(0, len(commands), c.HK_MAX_COMMANDS):
            part = commands[start : start + c.HK_MAX_COMMANDS]
            for command, (op, kernel, argument) in zip(
                self.host.commands_of(part), part, strict=True
            ):
                command.op = getattr(c, op)
                command.kernel = kernel
                command.slot = 0
                command.args[0] = argument
            self.host.call(len(part))
            for command, (op, kernel, _) in zip(self.host.commands_of(part), part, strict=True):
                self._check(command, op, kernel)
                done.append(int(command.ret))
        return done

    # Links

    @atomic
    def set_pipe(self, port: int, towards: bool, values: Mapping[str, int]) -> None:
        """One direction of a port's cable; values: the fields of struct hk_pipe."""
        pipe = self.host.ffi.cast("struct hk_pipe *", self.host.base + self._c.HK_IN_AT)
        for field, value in values.items():
            setattr(pipe, field, value)
        self.command("HK_PIPE", port, int(towards))

    @atomic
    def pipe_stats(self, port: int, towards: bool) -> dict[str, int]:
        """Counters of one direction: frames, bytes, and one for each of VERDICTS."""
        self.command("HK_PIPE_STATS", port, int(towards))
        at = self.host.base + self._c.HK_OUT_AT
        stats = self.host.ffi.cast("struct hk_pipe_stats *", at)
        found = {"frames": int(stats.frames), "bytes": int(stats.bytes)}
        return found | {name: int(stats.verdicts[i]) for i, name in enumerate(VERDICTS)}

    # Time

    @atomic
    def run(self, until: int) -> list[Back] | None:
        """Lets time pass until `until`, or until tasks are back; None: the host asks for
        something before it goes on."""
        found = self.command("HK_NET_RUN", 0, until)
        if found < 0:
            return None
        at = self.host.base + self._c.HK_OUT_AT
        backs = self.host.ffi.cast("struct hk_back *", at)[0:found]
        return [Back(b.kernel, b.slot, b.ret, b.state == LIB_TASK_EXITED) for b in backs]

    @atomic
    def asked(self) -> list[Asked]:
        """The frames that wait for verdicts, in order."""
        if not self.host.header.asked:
            return []
        host, size = self.host, self.host.ffi.sizeof("struct hk_asked")
        frames = []
        at = self._c.HK_OUT_AT
        for _ in range(self.command("HK_ASKED")):
            head = host.ffi.cast("struct hk_asked *", host.base + at)
            data = bytes(host.view[at + size : at + size + head.length])
            frames.append(Asked(int(head.id), int(head.port), data))
            at += size + (int(head.length) + 7 & ~7)
        return frames

    @atomic
    def verdict(self, asked: Asked, what: str, later_ns: int = 0, data: bytes = b"") -> None:
        """ "pass", "drop" or "double", for the first frame that waits; data: in its place."""
        c = self._c
        self.host.view[c.HK_IN_AT : c.HK_IN_AT + len(data)] = data
        number = {"pass": c.HK_PASS, "drop": c.HK_DROP, "double": c.HK_TWICE}[what]
        self.command("HK_VERDICT", 0, asked.number, number, later_ns, len(data))
