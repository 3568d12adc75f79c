# SPDX-License-Identifier: GPL-2.0
"""The suites that are shipped for users' kernels."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from anykernel.errors import UsageError

PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE / "_suites", PACKAGE.parent / "suites")
"""In a wheel, and in a checkout."""
OURS = "selftest"  # tests anykernel, not a kernel


def root() -> Path:
    """The folder of all suites."""
    return next(place for place in PLACES if place.is_dir())


def names() -> list[str]:
    """The suites by name."""
    return sorted(
        path.name
        for path in root().iterdir()
        if path.is_dir() and path.name != OURS and list(path.glob("test_*.py"))
    )


def find(name: str) -> Path:
    """The folder of a suite.  Raises UsageError."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UsageError(f"there is no suite {name!r}; there are: {', '.join(names())}{hint}")
    return root() / name


def chosen(folder: Path, arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """(what of a suite is to run, the other arguments): files of `folder` that are among the
    arguments, such as test_udp.py::test_echo, or all of it."""
    paths, others = [], []
    for argument in arguments:
        file, colons, rest = argument.partition("::")
        if file and not file.startswith("-") and (folder / file).is_file():
            paths.append(f"{folder / file}{colons}{rest}")
        else:
            others.append(argument)
    return paths or [str(folder)], others
