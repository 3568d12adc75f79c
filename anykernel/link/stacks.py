# SPDX-License-Identifier: GPL-2.0
"""Stacks of a kernel for people: frames with the text of the lines where it happened."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.build.image import Image

PLACE = re.compile(r"\((?P<file>[^\s:()]+):(?P<line>\d+)")
"""In a frame: 'function+0x12 (net/core/dev.c:34, inlined net/core/dev.h:56)'."""
INLINED = re.compile(r" (?P<file>[^\s:(),]+):(?P<line>\d+)\)$")
ENTRY = re.compile(r"(lib_call|execute|lib_user_loop|first_run|lib_fiber_start|kthread)\+")
"""How each call comes into the kernel: says nothing."""
PRINTING = re.compile(r"(show_stack|dump_stack\w*|__warn\w*|warn_slowpath\w*|lib_warn\w*)\+")
"""How a warning comes to its stack."""
TRACE = re.compile(r"\[<(?P<address>[0-9a-f]{8,16})>\] ")
SOURCES = 2
"""Frames whose line is shown."""
WIDEST = 92


def of_log(
    lines: Iterable[str], image: Image, base: int, own: Callable[[int], str] = lambda _: ""
) -> list[str]:
    """The first stack in the lines of a log ("Call Trace:"), as frames, without how it was
    printed; [] when there is none.  own: what is not the image's is called."""
    from anykernel.link.symbols import Symbols

    found: list[str] = []
    begun = False
    for line in lines:
        match = TRACE.search(line)
        if match is not None:
            begun = True
            symbols = Symbols.of(image.vmlinux)
            address = int(match["address"], 16) - 1
            frame = own(address) or symbols.describe(address - base)
            if frame and (found or not PRINTING.match(frame)):
                found.append(frame)
        elif begun:
            break
    return found


def shown(frames: Sequence[str], tree: Path, most: int) -> list[str]:
    """Lines of text for the innermost `most` frames, with the source of the first ones."""
    kept = list(frames)
    while len(kept) > 1 and ENTRY.match(kept[-1].removeprefix("? ")):
        kept.pop()
    lines: list[str] = []
    for depth, frame in enumerate(kept[:most]):
        lines.append(frame)
        text = source(frame, tree) if depth < SOURCES else ""
        if text:
            lines.append(f"    > {text}"[:WIDEST])
    if len(kept) > most:
        lines.append(f"... and {len(kept) - most} more")
    return lines


def source(frame: str, tree: Path) -> str:
    """The text of the line that a frame is at, of the innermost that was inlined there; '' when
    the tree doesn't have it any more."""
    match = INLINED.search(frame) or PLACE.search(frame)
    if match is None or match["file"].startswith(("/", "arch/lib/")):
        return ""
    # C of a test is called as it is from where its user is.
    lines = _lines(tree / match["file"]) or _lines(Path(match["file"]))
    number = int(match["line"])
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


@functools.lru_cache(maxsize=64)
def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
