# SPDX-License-Identifier: GPL-2.0
"""Running tools: with a log, a line callback, and errors that say what to install; which of the
optional ones are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from anykernel.errors import ToolError
from anykernel.settings import settings

PACKAGES = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "bc": "bc",
    "bison": "bison",
    "cc": "gcc",
    "ccache": "ccache",
    "dpkg": "dpkg",
    "dpkg-deb": "dpkg",
    "dpkg-source": "dpkg-dev",
    "flex": "flex",
    "gcc": "gcc",
    "git": "git",
    "ld": "binutils",
    "make": "make",
    "tar": "tar",
    "xz": "xz-utils",
}
"""The Debian package of each tool that we call."""

OPTIONAL = {"g++": "g++", "gdb": "gdb", "tshark": "tshark"}
"""The Debian package of each program without which only a part of what we offer is missing."""

TAIL_LINES = 30
HANDED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|TMPDIR|ASAN_OPTIONS|LD_LIBRARY_PATH|LD_PRELOAD|XDG_\w+|"
    r"CCACHE_(DIR|DISABLE|READONLY\w*|REMOTE_\w+|SECONDARY_\w+|MAXSIZE|TEMPDIR|STATSLOG|LOGFILE|DEBUG\w*)"
)
"""Variables that say where things are, not what compilers and make do."""


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """The caller's environment with changes; None removes a variable."""
    changed = {**os.environ, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def clean(**more: str | None) -> dict[str, str | None]:
    """For run(env=...): nothing of the caller's environment that could change what a compiler, a
    linker or make writes (CPATH, GIT_DIR, MAKEFLAGS, KBUILD_*, TZ ...), and `more`."""
    foreign = {name: None for name in os.environ if not HANDED_ON.fullmatch(name)}
    return {**foreign, "LC_ALL": "C", "LANG": "C", "TZ": "UTC", **more}


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    check: bool = True,
    hint: str = "",
    stdin: str | None = None,
) -> str:
    """Runs a tool and returns its output (stderr included).

    env: on top of the caller's; None removes a variable.
    log: appended to.  on_line: called with each line as it comes.  Raises ToolError when the
    tool is missing or, with check, when it fails.
    """
    full_env = environment({"LC_ALL": "C", **(env or {})})
    lines: list[str] = []
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=full_env,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise missing(argv[0]) from None
    handle = log.open("a") if log else None
    try:
        assert process.stdout is not None
        if stdin is not None:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
        for line in process.stdout:
            lines.append(line)
            tail.append(line)
            if handle:
                handle.write(line)
            if on_line:
                on_line(line.rstrip("\n"))
        process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stdout:
            process.stdout.close()
        if handle:
            handle.close()
    if check and process.returncode:
        raise ToolError(
            f"{' '.join(argv[:6])}{' ...' if len(argv) > 6 else ''} failed "
            f"(exit code {process.returncode})",
            argv=list(argv),
            returncode=process.returncode,
            tail="".join(tail).strip(),
            log=log,
            hint=hint,
        )
    return "".join(lines)


def optional(program: str) -> str | None:
    """The path of one of OPTIONAL's programs, or None: not installed, or hidden by
    ANYKERNEL_HIDE."""
    return None if settings().hides(program) else shutil.which(program)


def absent(program: str) -> str:
    """Why one of OPTIONAL's programs can't be used, in words for a skipped test; empty where it
    can."""
    if optional(program):
        return ""
    return f"{program} is not installed: apt-get install {OPTIONAL[program]}"


def missing(tool: str) -> ToolError:
    """The error for a tool that isn't installed."""
    package = PACKAGES.get(tool, tool)
    return ToolError(
        f"{tool} is not installed", argv=[tool], hint=f"On Debian: apt-get install {package}"
    )
