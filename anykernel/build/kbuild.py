# SPDX-License-Identifier: GPL-2.0
"""Running the kernel's own make: configuration, library, progress, errors."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from anykernel import proc
from anykernel.build import kconfig
from anykernel.errors import BuildError, ToolError
from anykernel.settings import settings

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, objects done, objects expected)."""

EXPECTED = 1000  # objects, before this machine has ever built this configuration
OBJECT = re.compile(r"^  (?:CC|AS|HOSTCC)\s+(?:\[M\] )?(\S+\.o)$")
COMPILER = re.compile(r"^\S+:\d+(?::\d+)?: (?:fatal )?(?:error|warning): |undefined reference")
# What a kernel developer has in the environment for builds of another kind.
CALLERS = re.compile(
    r"MAKE\w*|MFLAGS|GNUMAKEFLAGS|KBUILD_\w*|KCONFIG_\w*|K(C|A|CPP|RUST)FLAGS|LLVM\w*|CROSS_COMPILE|"
    r"(HOST|USER)\w*FLAGS|HOST(CC|CXX|LD|AR)|[CVWOM]|(SUB)?ARCH|(CC|CPP|LD|AR|NM|OBJCOPY)|"
    r"(C|CPP|LD|AF|AS)FLAGS\w*|INSTALL_\w+"
)
# So that the same source gives the same bits.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "anykernel",
    "KBUILD_BUILD_HOST": "anykernel",
    "KBUILD_BUILD_VERSION": "1",
}


def make(
    composed: Path,
    objects: Path,
    *targets: str,
    log: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """make ARCH=lib in the composed tree with objects elsewhere.  Raises ToolError."""
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    argv = ["make", "-C", str(composed), f"O={objects}", "ARCH=lib", f"CC={compiler}"]
    argv += [f"-j{settings().jobs}", *targets]
    ccache = {"CCACHE_DIR": str(settings().ccache_dir), "CCACHE_NOHASHDIR": "1"}
    foreign = {name: None for name in os.environ if CALLERS.fullmatch(name)}
    env = {**foreign, **REPRODUCIBLE, **ccache, "ARCH": "lib"}
    return proc.run(argv, env=env, log=log, on_line=on_line)


def configure(composed: Path, objects: Path, wanted: list[kconfig.Request]) -> Path:
    """objects/.config with all that is wanted, verified.  Raises KconfigError, ToolError."""
    config = objects / ".config"
    base = (composed / "arch/lib/configs/lib_defconfig").read_text()
    text = base + kconfig.fragment(wanted)
    seed = objects / ".anykernel-config"
    # olddefconfig on an unchanged request would touch nothing, but costs seconds.
    if not (config.exists() and seed.exists() and seed.read_text() == text):
        config.write_text(text)
        make(composed, objects, "olddefconfig")
        kconfig.verify(wanted, config, composed)
        seed.write_text(text)
    return config


def library(composed: Path, objects: Path, log: Path, progress: Progress | None) -> None:
    """Builds liblinux-*.so and vmlinux in `objects`.  Raises BuildError."""
    counter = objects / ".anykernel-objects"
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
        make(composed, objects, "library", log=log, on_line=on_line)
    except ToolError as error:
        if error.returncode is None:
            raise
        raise _failure(error, log, composed) from None
    if done > EXPECTED // 2:
        counter.write_text(str(done))


def _failure(error: ToolError, log: Path, composed: Path) -> Exception:
    """What the compiler said, as it said it, of the source's own files; else the last lines."""

    def own(path: re.Match[str]) -> str:
        return os.readlink(path[0]) if os.path.islink(path[0]) else path[0]

    text = log.read_text(errors="replace")
    lines = re.sub(rf"{re.escape(str(composed))}/[^\s:]+", own, text).splitlines()
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
        tail="\n".join(said[:40] + failed[:1]) if said else error.tail,
        log=log,
        hint="the command: " + " ".join(error.argv),
    )
