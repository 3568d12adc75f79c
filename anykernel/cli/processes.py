# SPDX-License-Identifier: GPL-2.0
"""`anykernel gdb`: which kernels run on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anykernel.errors import UsageError

PROC = Path("/proc")
NAMES = ("anykernel-host", "anykernel-ns3")


@dataclass(frozen=True)
class Running:
    """A host process of this user."""

    pid: int
    owner: str
    """The command that started it."""
    seconds: float
    """Since its start."""


def running() -> Iterator[Running]:
    """All of them, the oldest first."""
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    for folder in sorted(
        (p for p in PROC.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)
    ):
        try:
            argv = _command(folder)
            if Path(argv[0]).name not in NAMES or folder.stat().st_uid != os.geteuid():
                continue
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            owner = " ".join(_command(PROC / fields[1]))
        except OSError:  # it has ended
            continue
        yield Running(int(folder.name), owner, boot - int(fields[19]) / ticks)


def _command(folder: Path) -> list[str]:
    return (folder / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")


def choose(pid: int | None) -> int:
    """The process that is meant: the only one, if none is named.  Raises UsageError with a list of
    those that there are."""
    if pid is not None:
        return pid
    found = list(running())
    if len(found) == 1:
        return found[0].pid
    if not found:
        raise UsageError(
            "no kernel of yours runs on this machine: start one (anykernel shell; pytest "
            "--kernel-gdb stops at a failure), and attach from another terminal"
        )
    lines = [f"  {one.pid:>8}  {one.seconds:8.0f} s  {one.owner}" for one in found]
    raise UsageError("which process? anykernel gdb PID\n" + "\n".join(lines))
