# SPDX-License-Identifier: GPL-2.0
"""What of the cache's folder is ours, how large it is, whether it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from anykernel import cache
from anykernel.settings import settings

TREE = r"[0-9a-f]{12}|(debian|git|tar)-.+"
NAMES = {
    "images": r"[0-9a-f]{16}",
    "units": r"[0-9a-f]{16}",
    "objects": rf"({TREE})-[0-9a-f]{{8}}",
    "trees": TREE,
    "sources": r"(debian|git|tar)-.+",
    "host": r"[0-9a-f]{16}",
    "bench": r"\d+\.\d+[-.\w]*",
    "apt": r"apt\.conf|cache|sources\.list|state|updated",
}
"""How we name things.  Whoever sets ANYKERNEL_CACHE=$HOME may have a folder `images` there."""


class _Busy(Exception):
    """Another process works on an entry."""


def ours(kind: str, *, parts: bool = False) -> list[Path]:
    """The entries of a kind, with or without half-made ones."""
    folder = settings().cache_dir / kind
    with cache.explained(folder):
        try:
            found = sorted(folder.iterdir())
        except FileNotFoundError:
            found = []
    whole = [path for path in found if re.fullmatch(NAMES[kind], path.name)]
    return whole + [path for path in found if parts and path.name.startswith(cache.PREFIX)]


def remove(kind: str, path: Path) -> int | None:
    """Removes an entry and returns the bytes that it had; None: it is being built, so it stays."""
    try:
        with contextlib.ExitStack() as stack:
            for name in _locks(kind, path.name):
                stack.enter_context(cache.locked(name, _busy))
            freed = size(path)
            cache.remove(path)
            return freed
    except _Busy:
        return None


def _busy(text: str) -> None:
    raise _Busy(text)


def _locks(kind: str, name: str) -> Iterator[str]:
    """The locks that a build of this entry holds."""
    if kind == "apt":
        yield "apt"
    elif kind == "objects":
        yield f"objects-{name}"
    elif kind == "trees":
        yield f"tree-{name}"
        for path in cache.directory("locks").iterdir():  # make reads the tree
            if re.fullmatch(rf"objects-{re.escape(name)}-[0-9a-f]{{8}}\.lock", path.name):
                yield path.stem
    elif kind in ("images", "units", "sources"):
        key = name.removeprefix(cache.PREFIX)
        yield f"{kind}-{key.rpartition('-')[0] if key != name else name}"


def damage(path: Path) -> str | None:
    """What is wrong with an image or a source.  Reads all that its manifest guards."""
    try:
        files = json.loads((path / cache.MANIFEST).read_text())["files"]
        for name, (length, _, sha256) in files.items():
            if (path / name).stat().st_size != length:
                return f"{name} has another size"
            if cache.digest(path / name) != sha256:
                return f"{name} has other content"
    except FileNotFoundError as error:
        return f"{os.path.relpath(error.filename, path)} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, NotADirectoryError):
        return f"{cache.MANIFEST} can't be read"
    return None


def about(path: Path) -> str:
    """What an entry says of itself, if it has a manifest."""
    try:
        data = json.loads((path / cache.MANIFEST).read_text())["data"]
        if "sources" in data:
            return ", ".join(name.removesuffix(".o") + ".c" for name in data["sources"])
        parts = [data[key] for key in ("spec", "components") if key in data]
        return ", ".join([f"Linux {data['release']}", *parts])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def size(path: Path) -> int:
    """Bytes of a file or below a folder.  Links are nothing, as is what vanishes meanwhile."""
    if not path.is_dir() or path.is_symlink():
        return 0 if path.is_symlink() else path.stat().st_size
    total, folders = 0, [str(path)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_symlink():  # a composed tree has 80000: don't ask for each
                    with contextlib.suppress(OSError):
                        total += entry.stat(follow_symlinks=False).st_size
    return total
