# SPDX-License-Identifier: GPL-2.0
"""Jobs: tasks that repeat system calls inside the host, at full speed, while Python waits."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from greenlet import GreenletExit

from anykernel.errors import UsageError
from anykernel.host.border import ENDLESS
from anykernel.host.syscalls import NUMBERS

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net.network import Network

ROUND = struct.Struct("<QQqq")
U64 = (1 << 64) - 1


class Round(NamedTuple):
    """One round of a job: ns of its beginning and end, results of its first and last call."""

    begin_ns: int
    end_ns: int
    first: int
    last: int


class JobStats(NamedTuple):
    """How far a job is."""

    over: bool
    error: int
    """The errno that ended it; 0: its limits, or the end of a stream; ESRCH: its process ended."""
    rounds: int
    failed: int
    """Calls that failed and were tolerated."""
    moved: int
    """The sum of its first call's results."""
    first_ns: int
    """When its first call returned for the first time, and for the last."""
    last_ns: int


class Job:
    """A process that repeats up to four system calls, each ("name", arguments ...).

    bytes: until the first call has moved so many (its third argument is shortened at the end);
    rounds: so many; end_ns: no further round from then on.  interval_ns: between the beginnings
    of rounds.  tolerate: the positions of calls that may fail.  log: rounds that are written
    down.  A first call that returns 0 is the end of a stream.
    """

    def __init__(
        self,
        network: Network,
        process: Process,
        calls: Sequence[tuple[str | int, ...]],
        *,
        bytes: int = 0,
        rounds: int = 0,
        interval_ns: int = 0,
        begin_ns: int = 0,
        end_ns: int = 0,
        tolerate: Sequence[int] = (),
        log: int = 0,
    ) -> None:
        most = network.host.c.HK_JOB_CALLS
        if not 1 <= len(calls) <= most:
            raise UsageError(f"a job has 1 to {most} calls, not {len(calls)}")
        self._network = network
        self.process = process
        self._log = process.instance.user.alloc(log * ROUND.size) if log else None
        self._logs = log
        host = network.host
        with host.lock:
            raw = host.ffi.cast("struct hk_job *", host.base + host.c.HK_IN_AT)
            raw.begin, raw.end, raw.interval = begin_ns, end_ns, interval_ns
            raw.rounds, raw.bytes = rounds, bytes
            raw.log, raw.logs = self._log.address if self._log else 0, log
            raw.calls = len(calls)
            raw.tolerate = sum(1 << position for position in tolerate)
            for position, (name, *args) in enumerate(calls):
                call = raw.call[position]
                call.nr = NUMBERS[str(name)]
                for i in range(6):
                    call.args[i] = int(args[i]) & U64 if i < len(args) else 0
            self._command("HK_JOB")

    def _command(self, op: str) -> None:
        instance = self.process.instance
        self._network.engine.command(op, self.process.task, kernel=instance.index)  # type: ignore[attr-defined]

    def wait(self, what: str = "its traffic") -> JobStats:
        """In a program: until the job is over."""
        if not self.stats.over:
            try:
                self._network.hub.wait_task(self.process, what)
            except GreenletExit:
                self.stop()
                raise
        return self.stats

    def stop(self) -> None:
        """Ends it, also in the middle of a call."""
        self._command("HK_JOB_STOP")

    @property
    def stats(self) -> JobStats:
        """How far it is now."""
        with self._network.host.lock:
            self._command("HK_JOB_STATS")
            border = self._network.host.border
            given = border.given("hk_job")
            raw = given[0]
            error = border.errno("hk_job.error", raw.error) if raw.error else 0
            names = ("done", "failed", "moved", "first", "last")
            numbers = [
                border.below(f"hk_job.{name}", getattr(raw, name), ENDLESS) for name in names
            ]
            return JobStats(bool(raw.over), error, *numbers)

    @property
    def rounds(self) -> list[Round]:
        """Its rounds, as many as `log` has room for."""
        if self._log is None:
            return []
        count = min(self.stats.rounds, self._logs)
        view = self._log.view[: count * ROUND.size]
        return [Round(*one) for one in ROUND.iter_unpack(view)]
