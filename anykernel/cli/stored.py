# SPDX-License-Identifier: GPL-2.0
"""What of the cache's folder is ours, how large it is, whether it is whole."""

from __future__ import annotations

import contextlib
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
    elif kind in ("images", "units", "sources", "host"):
        key = name.removeprefix(cache.PREFIX)
        yield f"{kind}-{key.rpartition('-')[0] if key != name else name}"


def about(path: Path) -> str:
    """What an entry was made from, and of which release, if it says so."""
    manifest = cache.about(path)
    data = manifest.get("data", {})
    if "sources" in data:
        return ", ".join(name.removesuffix(".o") + ".c" for name in data["sources"])
    parts = [str(data[key]) for key in ("spec", "components") if key in data]
    if "release" in data:
        parts.insert(0, f"Linux {data['release']}")
    return ", ".join(parts)


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
