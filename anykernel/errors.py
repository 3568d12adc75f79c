# SPDX-License-Identifier: GPL-2.0
"""The errors that users see, named by who must act."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel.visible import visible

if TYPE_CHECKING:
    from anykernel.host import CrashReport

MOST_ERRNO = 4095
"""Negative results down to there are errors, for the kernel itself, too."""


class AnykernelError(Exception):
    """Base of all our errors; its text says what happened and what to do."""

    def __str__(self) -> str:
        return visible(super().__str__())  # a kernel, or a tool, may have had its say


class UsageError(AnykernelError):
    """For the test's author or the user: a wrong argument, option or specification."""


class SourceError(AnykernelError):
    """A kernel source can't be had."""


class ToolError(AnykernelError):
    """A tool failed: argv, returncode, its last lines (tail), the whole log's path, a hint."""

    def __init__(
        self,
        what: str,
        *,
        argv: list[str] | None = None,
        returncode: int | None = None,
        tail: str = "",
        log: Path | None = None,
        hint: str = "",
    ) -> None:
        self.argv = argv or []
        self.returncode = returncode
        self.tail = tail
        self.log = log
        self.hint = hint
        parts = [what, tail, f"log: {log}" if log else "", hint]
        super().__init__("\n".join(part for part in parts if part))


class BuildError(ToolError):
    """A kernel doesn't build."""


class KconfigError(UsageError):
    """A configuration that the source tree can't have."""


class KernelError(AnykernelError):
    """Something happened to the kernel under test."""


class KernelCrash(KernelError):
    """The kernel died: its text says how and where, .report.render() all that is known."""

    def __init__(self, report: CrashReport) -> None:
        self.report = report
        super().__init__(report.summary())


class Deadlock(KernelError):
    """A blocking call that nothing can end.  Its text says who waits in which call for what;
    .tasks is the kernel's own list with stacks, where it could be had, else the same."""

    def __init__(self, what: str, waits: str = "", tasks: str = "") -> None:
        self.what = what
        self.waits = waits
        self.list = tasks
        super().__init__(what)

    @property
    def tasks(self) -> str:
        return self.list or self.waits

    def __str__(self) -> str:
        return visible(f"{self.what}\n{self.waits}" if self.waits else self.what)


class ProcessEnded(KernelError):
    """A process of the kernel ended in the middle of a call, which so has no result.

    .status: as wait(2) tells it; .signum: what killed it, or None; .exit_status: what it exited
    with, or None.
    """

    def __init__(self, status: int, who: str = "the process", call: str = "") -> None:
        self.status = status
        self.signum = status & 0x7F or None
        self.exit_status = None if self.signum else status >> 8 & 0xFF
        super().__init__(f"{who} {ending(status)}{call and f' in {call}'}: there is no result")


def ending(status: int) -> str:
    """How a process ended, by its status as wait(2) tells it: "was killed by SIGKILL"."""
    signum = status & 0x7F
    if not signum:
        return f"exited with code {status >> 8 & 0xFF}"
    known = {one.value: one.name for one in signal.Signals}
    return f"was killed by {known.get(signum, f'signal {signum}')}"


def call_error(result: int, what: str = "") -> OSError:
    """The OSError (of the subclass that fits) for the negative result of a system call; also where
    a kernel returns what is no errno.  what: who failed, for its text."""
    if result < -MOST_ERRNO:
        return OSError(errno.EPROTO, f"the kernel returned {result}, which is no -errno")
    text = os.strerror(-result)
    return OSError(-result, f"{what}: {text}" if what else text)


class LeakedMemory(KernelError):
    """Memory that nobody frees any more: of a kernel, whose kmemleak says so, or of a unit."""


class HostDied(KernelError):
    """The process that the kernel ran in is gone."""


class BorderError(HostDied):
    """The memory that is shared with a kernel's process has something that can't be: .field,
    .value.  The process was ended, since nothing of it can be believed any more."""

    def __init__(self, field: str, value: object, should: str) -> None:
        self.field = field
        self.value = value
        super().__init__(
            f"the memory shared with the kernel's process can't be believed any more: {field} is "
            f"{value}, and should be {should}.\nThe kernel under test overwrote it (a wild write), "
            "or the process doesn't do what it should.  It was ended; the next test gets a new one."
        )


class KernelWarning(KernelError):
    """The kernel complained in its log."""
