# SPDX-License-Identifier: GPL-2.0
"""Where in the caller's own code a kernel warned or died: the frames outside this package."""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from typing import NamedTuple

PACKAGE = str(Path(__file__).resolve().parent) + os.sep
SUITES = PACKAGE + "_suites" + os.sep
"""Shipped inside the package, but callers as others are."""
LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
RUNNERS = tuple(f"{os.sep}{name}{os.sep}" for name in ("_pytest", "pluggy"))
"""What calls a test: behind it there is nothing of the caller's."""
MOST = 4


class Place(NamedTuple):
    """A line of Python."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{short(self.file)}:{self.line}, in {self.function}"

    @property
    def source(self) -> str:
        """The line's text, or ''."""
        return linecache.getline(self.file, self.line).strip()


class Warned(NamedTuple):
    """A kernel was seen to have warned."""

    times: int
    places: tuple[Place, ...]


def places() -> tuple[Place, ...]:
    """The caller's frames outside of this package and of libraries, the innermost first."""
    found: list[Place] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < MOST:
        file = frame.f_code.co_filename
        if any(part in file for part in RUNNERS) and not file.startswith(PACKAGE):
            break
        if _callers(file):
            found.append(Place(file, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(found)


def _callers(file: str) -> bool:
    if file.startswith(SUITES):
        return True
    ours = file.startswith((PACKAGE, "<"))
    return not ours and not any(part in file for part in LIBRARIES) and not _standard(file)


def _standard(file: str) -> bool:
    """Of Python itself."""
    return file.startswith(os.path.dirname(os.__file__) + os.sep)


def short(file: str) -> str:
    """From where the user is, as pytest shows it."""
    try:
        return os.path.relpath(file)
    except (OSError, ValueError):
        return file
