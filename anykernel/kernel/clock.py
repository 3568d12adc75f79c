# SPDX-License-Identifier: GPL-2.0
"""The kernel's clock, which tests move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anykernel.errors import UsageError
from anykernel.host.times import nanoseconds

if TYPE_CHECKING:
    from anykernel.kernel.background import Workers
    from anykernel.kernel.interface import Instance


class Clock:
    """Time since the kernel's boot.  With the virtual clock it passes only here and in calls that
    block."""

    def __init__(self, instance: Instance, workers: Workers) -> None:
        self._instance = instance
        self._workers = workers

    def __repr__(self) -> str:
        return f"<kernel clock at {self.seconds:.9f} s>"

    @property
    def now(self) -> int:
        """Nanoseconds since boot."""
        return self._instance.now

    @property
    def seconds(self) -> float:
        """Seconds since boot."""
        return self._instance.now / 1e9

    def advance(self, seconds: float) -> int:
        """Lets `seconds` pass, with all that is due in them.  Returns the new `now`.

        Raises UsageError for a negative time, for what is none, and for more than 200 years.
        """
        if isinstance(seconds, int | float) and seconds < 0:
            raise UsageError(f"time can't go back ({seconds} s): take a snapshot and restore it")
        now = self._instance.now
        until = now + nanoseconds(seconds, "the time to pass", now)
        self._workers.keep_up(self._instance, until)
        self._instance.run(until)
        return self._instance.now

    def run_until_idle(self, limit: float = 60.0) -> int:
        """Runs timers as long as any is due within the next `limit` seconds altogether.

        Returns the new `now`: the time of the last timer.  Timers that repeat for ever (garbage
        collections) end at the limit.
        """
        until = self._instance.now + nanoseconds(limit, "the limit", self._instance.now)
        self._workers.keep_up(self._instance, until)
        return self._instance.settle(max(until - self._instance.now, 0))
