# SPDX-License-Identifier: GPL-2.0
"""Tree: a kernel source that has been looked at and found usable."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from anykernel.errors import SourceError

OLDEST = (6, 1)


@dataclass(frozen=True)
class Tree:
    """A kernel source.  Nobody writes into `path`."""

    path: Path
    release: str
    """KERNELVERSION, such as 6.1.192."""
    spec: str
    id: str
    """Changes when the content does."""
    live: bool = False
    """A user's own folder, which may be edited between builds."""


def release_of(path: Path, shown: Path | None = None) -> str:
    """KERNELVERSION of the tree at `path`; errors name `shown`, what the user gave.

    Raises SourceError for what is no kernel tree, or one older than 6.1.
    """
    shown = shown or path
    for needed in ("Makefile", "Kbuild", "Kconfig", "arch/x86/entry/syscalls/syscall_64.tbl"):
        if not (path / needed).is_file():
            raise SourceError(
                f"{shown} is no Linux source tree: it has no {needed}. Give the top folder of one "
                "(the one with Kbuild, Kconfig and MAINTAINERS)"
            )
    head = (path / "Makefile").read_text(errors="replace")[:2000]
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(.*)$", head, re.M))
    try:
        version = int(found["VERSION"]), int(found["PATCHLEVEL"])
    except (KeyError, ValueError):
        raise SourceError(f"{shown}/Makefile doesn't say which Linux it is") from None
    release = f"{version[0]}.{version[1]}"
    if found.get("SUBLEVEL", "").strip():
        release += f".{found['SUBLEVEL'].strip()}"
    release += found.get("EXTRAVERSION", "").strip()
    if version < OLDEST:
        raise SourceError(
            f"{shown} is Linux {release}; the overlay needs {OLDEST[0]}.{OLDEST[1]} or newer"
        )
    return str(release)
