# SPDX-License-Identifier: GPL-2.0
"""A folder of objects beside links to its tree: to Kbuild it lies within its source, and so each
path of a build's commands is relative.

What they say is then the same in any folder: debugging information, __FILE__, what ccache keys on.
Our arch/lib is here, not in the composed tree: another version of ours may build that at once.
"""

from __future__ import annotations

import os
from pathlib import Path

from anykernel.build.overlay import lay_overlay
from anykernel.settings import settings

OBJECTS = "objects"
"""Where objects lie in such a folder; also what their debugging information calls it."""


def within(path: Path, other: Path) -> str:
    """How a link in the folder `other` leads to `path`: relatively where both are in the cache,
    which may be moved."""
    inside = all(one.is_relative_to(settings().cache_dir) for one in (path, other))
    return os.path.relpath(path, other) if inside else str(path)


def surround(folder: Path, tree: Path, *, files: bool) -> None:
    """Makes `folder` look like the top of the composed `tree`, with our arch/lib: its folders and,
    where a make is to run, its files."""
    _link(folder, tree, {OBJECTS, "arch"}, files)
    if (folder / "arch").is_symlink():
        (folder / "arch").unlink()
    (folder / "arch").mkdir(exist_ok=True)
    _link(folder / "arch", tree / "arch", {"lib"}, files)
    if (folder / "arch/lib").is_symlink():
        (folder / "arch/lib").unlink()
    lay_overlay(folder / "arch/lib")


def _link(folder: Path, tree: Path, ours: set[str], files: bool) -> None:
    lead = within(tree, folder)
    wanted = {
        entry.name: f"{lead}/{entry.name}"
        for entry in os.scandir(tree)
        if entry.name not in ours
        and not entry.name.startswith(".anykernel")
        and (files or entry.is_dir())
    }
    for entry in os.scandir(folder):
        if not entry.is_symlink():
            wanted.pop(entry.name, None)  # ours, whatever the tree calls so
        elif wanted.get(entry.name) == os.readlink(entry):
            del wanted[entry.name]
        elif entry.name not in ours:
            os.unlink(entry)
    for name, target in wanted.items():
        os.symlink(target, folder / name)


def again(folder: Path, like: Path) -> None:
    """Makes another folder as `like` is, for a moment."""
    for entry in os.scandir(like):
        if entry.name != OBJECTS and entry.is_dir():
            os.symlink(os.path.realpath(entry), folder / entry.name)


def gone(folder: Path) -> bool:
    """Whether the tree that such a folder leads to isn't there any more."""
    return not (folder / "include").is_dir()


def in_tree(path: str) -> str | None:
    """The place in the tree of a path as commands have it: net/ipv4/icmp.c of
    ../net/ipv4/icmp.c; None for what isn't of the tree."""
    found = os.path.normpath(path)
    inside = found.removeprefix("../")
    return inside if found != inside and not inside.startswith("..") else None
