# SPDX-License-Identifier: GPL-2.0
"""gdb on a host process: the command that attaches it, with the symbols of the kernels in there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anykernel import proc
from anykernel.errors import ToolError, UsageError

if TYPE_CHECKING:
    from anykernel.host.process import Host

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
MAPPED = re.compile(r"([0-9a-f]+)-\S+ r-xp 0+ \S+ \d+ +(/.*/(?:liblinux-[^/]*|unit)\.so)$")
"""A line of /proc/PID/maps: where the code of an image begins (who only reads its symbols maps the
file, too).  How fields are written: proc(5)."""
MACHINE = (
    # The host's own way to notice what a kernel writes for the first time, to end a call that
    # takes too long, and to catch a crash: gdb would stop at each.
    "handle SIGSEGV SIGBUS SIGALRM nostop noprint pass",
)
CRASH = Path(__file__).with_name("crash.gdb")


class Symbols(NamedTuple):
    """Where an image lies."""

    vmlinux: Path
    base: int


def of_host(host: Host) -> list[Symbols]:
    """The images of a host of this process."""
    return [Symbols(host.image.vmlinux, one.image_base) for one in host.instances]


def of_process(pid: int) -> list[Symbols]:
    """The images of any host process.  Raises UsageError for a process that is none."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError as error:
        raise UsageError(f"there is no process {pid} to be looked at: {error.strerror}") from None
    found = [MAPPED.match(line) for line in maps.splitlines()]
    images = [Symbols(Path(one[2]).parent / "vmlinux", int(one[1], 16)) for one in found if one]
    if not images:
        raise UsageError(f"process {pid} runs no kernel of ours: it has no liblinux-*.so")
    return images


def refused(pid: int) -> str:
    """Why gdb may not attach to a process, and what to do about it; empty where it may, as far
    as that can be known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return f"process {pid} has ended"
    tracer = re.search(r"^TracerPid:\t(\d+)$", status, re.MULTILINE)
    if tracer and tracer[1] != "0":
        return f"process {pid} is being debugged already, by process {tracer[1]}"
    scope = YAMA.read_text().strip() if YAMA.exists() else "0"
    if scope == "3":
        return f"this machine lets nobody attach a debugger until it is booted anew ({YAMA} is 3)"
    if scope == "2" and os.geteuid() != 0:
        return (
            f"this machine lets only root attach a debugger ({YAMA} is 2): use sudo, or "
            "sudo sysctl kernel.yama.ptrace_scope=1"
        )
    return ""


def command(pid: int, images: Sequence[Symbols], execute: Sequence[str] = ()) -> list[str]:
    """The command line of a gdb that attaches to `pid`; what a shell takes is shlex.join() of it.
    There, the command `crash` shows the last crash.

    execute: commands of gdb that are to follow.
    """
    argv = ["gdb", "--quiet", "-iex", "set confirm off", "-iex", "set pagination off"]
    argv += ["-p", str(pid)]
    # Their lines are in files that are seen from the objects beside them.
    told = [f"directory {_quoted(one.vmlinux.parent / 'objects')}" for one in images]
    told += [f"add-symbol-file {_quoted(one.vmlinux)} -o {one.base:#x}" for one in images]
    for line in [*MACHINE, f"source {CRASH}", *told, *execute]:
        argv += ["-ex", line]
    return argv


def attach(pid: int, images: Sequence[Symbols], execute: Sequence[str] = ()) -> None:
    """Runs gdb on this terminal until its user leaves it.  Raises ToolError, where there is none,
    and UsageError when it may not attach."""
    if absent := proc.absent("gdb"):
        raise ToolError(absent)
    if why := refused(pid):
        raise UsageError(f"gdb can't attach: {why}")
    subprocess.run(command(pid, images, execute), check=False)


def by_hand(pid: int, images: Sequence[Symbols]) -> str:
    """The same as a line for another terminal."""
    return shlex.join(command(pid, images))


def _quoted(path: Path) -> str:
    """A file's name as gdb takes it."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
