# SPDX-License-Identifier: GPL-2.0
"""What a command that didn't simply succeed means, as errors: for kernels and for networks."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from anykernel.errors import KernelCrash, UsageError
from anykernel.host.report import CrashReport

if TYPE_CHECKING:
    from anykernel.host.process import Host


def refusal(result: int) -> str:
    """Why the host did not execute a command, by what it returned."""
    if result == -errno.EBUSY:
        return "its process is in a call or in a job already: each program needs a process"
    if result == -errno.EDQUOT:
        return (
            "there is no room for another snapshot inside the others: restore() keeps the one it "
            "goes back to; drop() those that are over, or take them by `with kernel.snapshot():`"
        )
    if result == -errno.ENOSPC:
        return (
            "the kernel sent more in answer than there is room for: give it fewer frames at once, "
            "or look at what it sends with captured()"
        )
    return os.strerror(-result)


def failure(host: Host, index: int, status: int, result: int, what: str) -> Exception:
    """The error for a command about kernel `index` which it, or the host, didn't execute.

    Raises BorderError for a status that no command has, or not this one.
    """
    c, border = host.c, host.border
    if status == c.HK_CRASHED:
        dead = border.victim()
        if dead < len(host.instances):
            host.instances[dead].life.died()
        return KernelCrash(CrashReport.read(host, dead))
    if status == c.HK_DEAD and border.part(index).crash:
        return KernelCrash(CrashReport.read(host, index))
    if status == c.HK_BAD:
        return UsageError(f"{what}: {refusal(-border.errno('hk_command.ret', result))}")
    names = {number: name for name, number in vars(c).items() if name in STATUSES}
    raise border.lie("hk_command.status", names.get(status, status), f"an answer to {what}")


STATUSES = frozenset({
    "HK_OK", "HK_TIMEOUT", "HK_DEADLOCK", "HK_CRASHED", "HK_DEAD", "HK_SKIPPED", "HK_BAD",
    "HK_STUCK", "HK_AGAIN", "HK_PENDING",
})  # fmt: skip
