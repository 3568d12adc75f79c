# SPDX-License-Identifier: GPL-2.0
"""Running the kernel's own make: configuration, library, progress, errors."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from anykernel import proc
from anykernel.build import kconfig
from anykernel.build.beside import OBJECTS
from anykernel.build.compile import compiler, environment
from anykernel.build.compose import own_paths
from anykernel.errors import BuildError, ToolError
from anykernel.settings import settings

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, objects done, objects expected)."""

EXPECTED = 1000  # objects, before this machine has ever built this configuration
OBJECT = re.compile(r"^  (?:CC|AS|HOSTCC)\s+(?:\[M\] )?(\S+\.o)$")
COMPILER = re.compile(r"^\S+:\d+(?::\d+)?: (?:fatal )?(?:error|warning): |undefined reference")
# So that the same source gives the same bits.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "anykernel",
    "KBUILD_BUILD_HOST": "anykernel",
    "KBUILD_BUILD_VERSION": "1",
    # Python finds the real folder of a script behind its link, and would write beside it.
    "PYTHONDONTWRITEBYTECODE": "1",
}
# A configuration says which versions of these it was made with, if they are there.
UNUSED = ("PAHOLE=no-pahole", "RUSTC=no-rustc", "BINDGEN=no-bindgen")
FORBIDDEN = re.compile(r"[^\w./+,@-]")
"""In names of folders: make and the scripts that it runs split and expand at these."""


def unworkable(folder: Path) -> str:
    """Why make can't work in a folder of this name; empty if it can."""
    path = folder.resolve()
    found = FORBIDDEN.search(str(path))
    return f"make can't work in {path}, because of the {found[0]!r} in that name" if found else ""


def make(
    build: Path,
    *targets: str,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """make ARCH=lib in a folder of objects beside a tree (beside.py).  Raises ToolError."""
    argv, env = _command(build, targets)
    return proc.run(argv, env=env, log=log, on_line=on_line)


def ask(build: Path, target: str) -> None:
    """The same for a target that talks with a user on this terminal.  Raises ToolError."""
    argv, changed = _command(build, (target,))
    env = proc.environment({**changed, "TERM": os.environ.get("TERM")})
    done = subprocess.run(argv, env=env, check=False)
    if done.returncode:
        raise ToolError(f"make {target} failed", argv=argv, returncode=done.returncode)


def _command(build: Path, targets: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    """The arguments, and what is changed in the environment; None: it isn't there."""
    argv = ["make", "-L", "-C", str(build), f"O={build / OBJECTS}", "ARCH=lib"]
    argv.append(f"CC={' '.join(compiler())}")
    argv += [f"-j{settings().jobs}", *UNUSED, *targets]
    return argv, {**environment(build), **REPRODUCIBLE, "ARCH": "lib"}


def configure(build: Path, composed: Path, wanted: list[kconfig.Request]) -> Path:
    """objects/.config with all that is wanted, verified.  Raises KconfigError, ToolError.

    It is made of the request anew each time: a .config that went through a tree's Kconfig has lost
    what that tree didn't know, though it knows it again today.
    """
    config = build / OBJECTS / ".config"
    base = (build / "arch/lib/configs/lib_defconfig").read_text()
    before = (config.read_bytes(), config.stat().st_mtime_ns) if config.exists() else None
    config.write_text(base + kconfig.fragment(wanted))
    make(build, "olddefconfig")
    kconfig.verify(wanted, config, composed)
    if before and before[0] == config.read_bytes():  # then make has nothing to look at
        os.utime(config, ns=(before[1], before[1]))
    return config


def library(build: Path, composed: Path, log: Path, progress: Progress | None) -> None:
    """Builds liblinux-*.so and vmlinux among the objects.  Raises BuildError."""
    counter = build / ".anykernel-objects"
    expected = EXPECTED
    with contextlib.suppress(OSError, ValueError):
        expected = int(counter.read_text())
    done = 0

    def on_line(line: str) -> None:
        nonlocal done
        match = OBJECT.match(line)
        if match:
            done += 1
        if progress and (match or line.startswith(("  LD ", "  LIB "))):
            what = match[1] if match else line.split()[-1]
            progress(what, done, max(done, expected))

    try:
        make(build, "library", log=log, on_line=on_line)
    except ToolError as error:
        if error.returncode is None:
            raise
        raise _failure(error, log, composed) from None
    if done > EXPECTED // 2:
        counter.write_text(str(done))


def _failure(error: ToolError, log: Path, composed: Path) -> Exception:
    """What the compiler said, as it said it, of the source's own files; else the last lines."""
    lines = own_paths(log.read_text(errors="replace"), composed).splitlines()
    if any("No space left on device" in line for line in lines):
        return OSError(28, "No space left on device", str(log.parent))
    said: list[str] = []
    for position, line in enumerate(lines):
        if COMPILER.search(line):
            before = lines[position - 1 : position] if position else []
            context = (
                before if before and ("In function" in before[0] or ": in " in before[0]) else []
            )
            said += [*context, *lines[position : position + 3]]
    failed = [line for line in lines if re.match(r"make.*\*\*\* \[", line)]
    return BuildError(
        "the kernel doesn't build",
        argv=error.argv,
        returncode=error.returncode,
        tail="\n".join(said[:40] + failed[:1]) if said else own_paths(error.tail, composed),
        log=log,
    )
