# SPDX-License-Identifier: GPL-2.0
"""How long a host may take for a request: in CPU time of its own, for how long is slept and how
busy the machine is are nobody's fault."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

SLICE_NS = 20_000_000
"""How long one wait for the host lasts: then it is looked at."""
STOPPED = 60.0
"""Seconds for which a host may be stopped by a signal, or wait for a disk."""

Found = Literal["", "busy", "asleep", "stopped"]


class Watch:
    """Looks at a process about each SLICE_NS, from now on.

    budget: seconds of CPU time that it may use.  asleep: seconds that it may spend asleep; they
    are counted by looks, so that those in which the whole machine slept are none.  While a debugger
    is attached, it may use all the time there is.
    """

    def __init__(self, pid: int, budget: float, asleep: float) -> None:
        self._pid = pid
        self._clock = ~pid << 3 | 2  # clock_getcpuclockid(3)
        self._budget = budget
        self._end = self._used() + budget
        self._asleep = asleep
        self._slept = self._stopped = 0.0

    def _used(self) -> float:
        """CPU seconds so far."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:  # it is no more, which others find out
            return 0.0

    def _state(self) -> str:
        """As in ps: R(unning), S(leeping), D(isk), T(stopped), t(raced) ..."""
        try:
            text = Path(f"/proc/{self._pid}/stat").read_text()
        except OSError:
            return "X"
        return text.rpartition(")")[2].split()[0]

    def _traced(self) -> bool:
        try:
            return "\nTracerPid:\t0\n" not in Path(f"/proc/{self._pid}/status").read_text()
        except OSError:
            return False

    def look(self) -> Found:
        """What is wrong, if anything."""
        if self._traced():
            self.allow(self._budget)
            self._slept = self._stopped = 0.0
            return ""
        if self._used() > self._end:
            return "busy"
        state = self._state()
        if state == "S":
            self._slept += SLICE_NS / 1e9
        elif state in "DT":
            self._stopped += SLICE_NS / 1e9
        if self._slept > self._asleep:
            return "asleep"
        return "stopped" if self._stopped > STOPPED else ""

    def allow(self, seconds: float) -> None:
        """Gives it so many CPU seconds from now on."""
        self._end = self._used() + seconds
