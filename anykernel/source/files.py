# SPDX-License-Identifier: GPL-2.0
"""Which files of a folder a build can see: those that are composed are those whose content makes
the source's identity."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

ENTERED = ("arch", "include")
"""Folders that are real in a composed tree even where the source has links: ours lie in them."""
BUILT_IN_PLACE = (".config", ".config.old", "include/config", "include/generated", "vmlinux")
"""What an in-tree build leaves at the top: Kbuild refuses O= where it sees them."""
RECORD = ".anykernel-source"
"""In a composed tree: where its links lead, and since when."""
NOTES = (RECORD, ".anykernel-edits", ".anykernel-gone", ".anykernel-headers")
LEFT_OUT = {".git", "arch/lib", *NOTES, *BUILT_IN_PLACE}
"""arch/lib is ours; a source may have one (older kernel libraries did)."""
TOP = {"", "arch/", "include/"}
"""Where what is left out lies."""
PLAIN = (".c", ".h", ".S")
"""Endings of nearly all files, which need no further look."""
BESIDE = re.compile(r"\..*\.(sw[a-p]|cmd)|\.#.*|#.*#|.*~|\.tmp_.*")
"""Files of editors at work, and Kbuild's notes of an in-tree build."""
OUTPUT = re.compile(r"(.+)\.(o|a|ko|mod|dwo|lst|order)")
"""Where Kbuild noted how it made such a file, it isn't a source."""


def walk(source: Path) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
    """(place in the tree, with a slash; folder; its files and links) of a source and all its
    folders, but hidden ones and those that a build was told to put its objects in (O=)."""
    waiting = [("", str(source))]
    while waiting:
        inside, folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError:  # it may not be read, or has gone meanwhile
            continue
        names = {entry.name for entry in entries}
        if inside and "source" in names and _built_there(folder, source):
            continue
        files = []
        top = inside in TOP
        for entry in entries:
            name = entry.name
            if name == ".git" or (top and inside + name in LEFT_OUT):
                continue
            if entry.is_dir(follow_symlinks=False) or (
                not inside and name in ENTERED and os.path.isdir(entry.path)
            ):
                if name[0] != ".":
                    waiting.append((f"{inside}{name}/", entry.path))
            elif (name[-2:] in PLAIN and name[0] not in ".#") or not (
                _beside(name) or _output(name, names)
            ):
                files.append(entry)
        yield inside, folder, files


def _beside(name: str) -> bool:
    return (name[0] in ".#" or name[-1] == "~") and BESIDE.fullmatch(name) is not None


def _output(name: str, names: set[str]) -> bool:
    match = OUTPUT.fullmatch(name)
    if match is None:
        return False
    return f".{name}.cmd" in names or (match[2] == "dwo" and f".{match[1]}.o.cmd" in names)


def _built_there(folder: str, source: Path) -> bool:
    link = os.path.join(folder, "source")
    return os.path.islink(link) and os.path.realpath(link) == os.path.realpath(source)


def leads_inside(folder: str, name: str, source: Path) -> str | None:
    """What a link to a folder says, if that is a folder of the source which walk() shows."""
    path = os.path.join(folder, name)
    with contextlib.suppress(OSError, ValueError):
        text = os.readlink(path)
        leads = os.path.normpath(os.path.join(folder, text))
        inside = os.path.relpath(leads, source)
        if os.path.isabs(text) or inside.startswith("..") or os.path.realpath(path) != leads:
            return None
        hidden = any(part[0] == "." for part in inside.split("/")) and inside != "."
        if not hidden and not any(f"{inside}/".startswith(f"{one}/") for one in LEFT_OUT):
            return text
    return None
