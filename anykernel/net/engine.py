# SPDX-License-Identifier: GPL-2.0
"""The host's network, as commands: links, ports and time, by number (overlay/host/protocol.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from anykernel.host.border import ENDLESS, MAX_TASKS
from anykernel.host.instance import LIB_TASK_EXITED
from anykernel.host.outcome import failure
from anykernel.host.turns import atomic
from anykernel.net.wire import VERDICTS

if TYPE_CHECKING:
    from anykernel.host import Host

RETURNS = frozenset({"HK_SNAPSHOT", "HK_NET_RUN", "HK_LINK", "HK_PLUG", "HK_ASKED"})
"""Commands that return a number of something."""


ASKED = struct.Struct("<QII")
"""struct hk_asked."""


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
        return self.host.border.now

    @property
    def trace(self) -> int:
        """A hash of all that was sent on links."""
        return self.host.border.trace

    @property
    def progress(self) -> int:
        """When a job last had a round, ns."""
        return self.host.border.progress

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
        status = int(command.status)
        if status == self._c.HK_AGAIN and op == "HK_NET_RUN":
            return -1
        return self._result(command, status, op, kernel)

    def _result(self, command: Any, status: int, op: str, kernel: int) -> int:
        """What it returned, a number of something; raises for what went wrong."""
        if status == self._c.HK_OK:
            # What is left of an argument's -errno where nothing is returned.
            given = int(command.ret) if op in RETURNS else 0
            return self.host.border.below("hk_command.ret", given, 1 << 31)
        what = f"{op} of {self.host.names.get(kernel, kernel)}"
        raise failure(self.host, kernel, status, int(command.ret), what)

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
            if any(one.status == c.HK_CRASHED for one in self.host.commands_of(part)):
                self.host.border.victim()
            for command, (op, kernel, _) in zip(self.host.commands_of(part), part, strict=True):
                done.append(self._result(command, int(command.status), op, kernel))
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
        given = self.host.border.given("hk_pipe_stats")
        stats = given[0]
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
        given = self.host.border.given("hk_back", found)
        return [self._back(given[position]) for position in range(found)]

    @atomic
    def wakeup(self, anew: bool) -> int | None:
        """When something is due (ns) that may wake a task: a kernel's timer that isn't for its own
        chores, or what is under way on links; None: there is nothing.  Who waits asks again when
        that has passed; anew: for the first time since anything came."""
        self.command("HK_NET_WAKEUP", 0, int(anew))
        due = int(self.host.commands[0].extra)
        return due if due < ENDLESS else None

    def _back(self, raw: Any) -> Back:
        below = self.host.border.below
        kernel = below("hk_back.kernel", raw.kernel, len(self.host.instances))
        task = below("hk_back.slot", raw.slot, MAX_TASKS)
        return Back(kernel, task, int(raw.ret), raw.state == LIB_TASK_EXITED)

    @atomic
    def asked(self) -> list[Asked]:
        """The frames that wait for verdicts, in order."""
        border = self.host.border
        if not border.asked:
            return []
        frames = []
        given, at = border.out(self._c.HK_OUT_SIZE, "frames out"), 0
        for _ in range(self.command("HK_ASKED")):
            number, port, length = ASKED.unpack_from(given, at)
            at += ASKED.size
            border.below("hk_asked.length", length, len(given) - at)
            border.below("hk_asked.id", number, ENDLESS)
            frames.append(Asked(number, port, bytes(given[at : at + length])))
            at += length + 7 & ~7
            border.below("hk_command.ret", at, len(given) - ASKED.size)
        return frames

    @atomic
    def verdict(self, asked: Asked, what: str, later_ns: int = 0, data: bytes = b"") -> None:
        """ "pass", "drop" or "double", for the first frame that waits; data: in its place."""
        c = self._c
        self.host.view[c.HK_IN_AT : c.HK_IN_AT + len(data)] = data
        number = {"pass": c.HK_PASS, "drop": c.HK_DROP, "double": c.HK_TWICE}[what]
        self.command("HK_VERDICT", 0, asked.number, number, later_ns, len(data))
