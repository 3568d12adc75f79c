# SPDX-License-Identifier: GPL-2.0
"""ns-3, where it is installed: whether it is, and compiling C++ programs against it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from anykernel import proc
from anykernel.errors import ToolError
from anykernel.host.compiled import (
    C_COMPILER,
    C_HINT,
    LINKED_NOW,
    OVERLAY,
    compiled,
    headers,
)
from anykernel.settings import settings

PLACES = ("/usr/include", "/usr/local/include")
HINT = "apt-get install libns3-dev libgsl-dev g++ (or, in a checkout, ci/setup --optional)"
FLAGS = ["g++", "-O2", "-g", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-std=c++17"]


@functools.cache
def include_dir() -> Path | None:
    """Where the folder ns3 of its headers lies, None where ns-3 isn't installed."""
    return next((Path(at) for at in PLACES if Path(at, "ns3", "core-module.h").exists()), None)


def missing() -> str:
    """Why ns-3 can't be used here, in words for a skipped test; empty where it can."""
    if include_dir() is None or settings().hides("ns-3"):
        return f"ns-3 is not installed; {HINT}"
    if not proc.optional("g++"):
        return f"ns-3 is here, but no C++ compiler; {HINT}"
    return ""


def program(
    name: str,
    inputs: Sequence[Path],
    modules: Sequence[str],
    *,
    flags: Sequence[str] = (),
    depends: Sequence[Path] = (),
) -> Path:
    """The program (or, with -c in flags, the object) `name` of C++ sources and objects, in the
    cache, linked with ns-3's modules ("core", "wifi"...).  Raises ToolError."""
    place = include_dir()
    if place is None:
        raise ToolError("ns-3 is not installed", hint=HINT)
    # Its version is part of what the program comes from.
    version = place / "ns3" / "version-defines.h"
    seen = [*depends, *([version] if version.exists() else [])]
    # The compiler looks in both places by itself.
    libraries = [f"-lns3-{module}" for module in modules]
    return compiled(name, [*FLAGS, *flags], inputs, seen, libraries=libraries, hint=HINT)


MODULES = ("wifi", "csma", "propagation", "mobility", "network", "core")
OURS = OVERLAY / "ns3"
REPLACED = {"engine.c", "plugs.c", "wire.c"}
"""Of the host's own engine the time line and the jobs stay: ns-3 tells when they have a turn."""


def host_program() -> Path:
    """anykernel-host with ns-3 as the engine.  Raises ToolError."""
    seen = [*headers(), *sorted(OURS.glob("*.hh"))]
    merge = ["-r", "-nostdlib"]
    sources = sorted(path for path in (OVERLAY / "host").glob("*.c") if path.name not in REPLACED)
    host = compiled("host.o", [*C_COMPILER, *merge], sources, headers(), hint=C_HINT)
    folders = [f"-I{OVERLAY / 'host'}", f"-I{OVERLAY / 'include'}"]
    ours = program("ns3.o", sorted(OURS.glob("*.cc")), (), flags=[*merge, *folders], depends=seen)
    return program("anykernel-ns3", [host, ours], MODULES, flags=LINKED_NOW)
