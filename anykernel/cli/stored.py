# SPDX-License-Identifier: GPL-2.0
"""What of the cache's folder is ours, how large it is, and what it was made of."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anykernel import cache
from anykernel.errors import UsageError
from anykernel.settings import settings

TREE = r"[0-9a-f]{12}|(debian|git|tar)-.+"
NAMES = {
    "images": r"[0-9a-f]{16}",
    "units": r"[0-9a-f]{16}",
    "code": r"[0-9a-f]{16}",
    "objects": rf"({TREE})-[0-9a-f]{{8}}",
    "trees": TREE,
    "sources": r"(debian|git|tar)-.+",
    "host": r"[0-9a-f]{16}",
    "states": r"[0-9a-f]{12}\.json",
    "bench": r"\d+\.\d+[-.\w]*",
    "apt": r"apt\.conf|cache|sources\.list|state|updated",
}
"""How we name things.  Whoever sets ANYKERNEL_CACHE=$HOME may have a folder `images` there."""
LISTED = ("sources", "trees", "objects", "images", "units")


class _Busy(Exception):
    """Another process works on an entry."""


@dataclass(frozen=True)
class Stored:
    """One entry."""

    kind: str
    name: str
    path: Path
    size: int
    """Bytes."""
    made: float | None
    """Seconds since 1970, as `used`; None where nobody noted it."""
    used: float
    source: str
    """The specification that it was made for, a folder, or the like; '' if it doesn't say."""
    about: str
    """For people: the release, the source, components or files."""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "path": str(self.path)}


def entries() -> list[Stored]:
    """All sources, trees, objects, images and units."""
    return [_stored(kind, path) for kind in LISTED for path in ours(kind) if path.is_dir()]


def _stored(kind: str, path: Path) -> Stored:
    manifest = cache.about(path)
    data = manifest.get("data", {})
    source = str(data.get("spec", ""))
    if kind == "trees":
        source = _leads(path)
    elif kind == "objects":
        source = _leads(settings().cache_dir / "trees" / path.name.rpartition("-")[0])
    parts = [f"Linux {data['release']}"] if "release" in data else []
    parts += [source] if source else []
    parts += [str(data["components"]) or "the base alone"] if "components" in data else []
    parts += [name.removesuffix(".o") + ".c" for name in data.get("sources", [])]
    used = path.stat().st_mtime
    made = manifest.get("made")
    return Stored(kind, path.name, path, size(path), made, used, source, ", ".join(parts))


def _leads(tree: Path) -> str:
    """The folder that a composed tree is of."""
    try:
        return (tree / ".anykernel-source").read_text()
    except (OSError, ValueError):
        return ""


def age(seconds: float) -> str:
    """Such as '3 days'."""
    for unit, length in (("day", 86400), ("hour", 3600), ("min", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 and unit != 'min' else ''}"
    return "now"


def find(what: str) -> list[tuple[str, Path]]:
    """(kind, path) of an entry by its name or path, or of all that comes from a source; and of
    what was made of these.  Raises UsageError."""
    root = settings().cache_dir
    everything = [(kind, path) for kind in NAMES for path in ours(kind)]
    names = {what, str(Path(what).expanduser().absolute())}
    chosen = {
        (kind, path)
        for kind, path in everything
        if names & {path.name, f"{kind}/{path.name}", str(path)}
    }
    if not chosen:
        trees = _trees(what, names)
        chosen = {(kind, path) for kind, path in everything if _of_tree(kind, path, trees)}
    if not chosen:
        raise UsageError(
            f"{what!r} is neither an entry nor a source in {root}; `anykernel cache list` shows "
            "what there is"
        )
    bases = {path.name for kind, path in chosen if kind == "images"}
    made = {
        (kind, path)
        for kind, path in everything
        if kind in ("images", "units", "code") and _data(path).get("base") in bases
    }
    return sorted(chosen | made)


def _trees(what: str, names: set[str]) -> set[str]:
    """The names of trees that a specification stands for."""
    found = {path.name for path in ours("trees") if _leads(path) in names}
    for path in ours("sources"):
        series = settings().cache_dir / "sources" / f"{what.replace(':', '-', 1)}.newest"
        with contextlib.suppress(OSError, ValueError):
            if path.name == f"debian-{series.read_text()}" or path == series:
                found.add(path.name)
        if path.is_dir() and _data(path).get("spec") in names:
            found.add(path.name)
    for path in ours("images"):
        data = _data(path)
        if data.get("spec") in names and "tree" in data:
            found.add(Path(data["tree"]).name)
    return found


def _of_tree(kind: str, path: Path, trees: set[str]) -> bool:
    if kind in ("sources", "trees"):
        return path.name in trees
    if kind == "objects":
        return path.name.rpartition("-")[0] in trees
    if kind == "states":
        return path.stem in trees
    return kind == "images" and Path(str(_data(path).get("tree", ""))).name in trees


def _data(path: Path) -> dict[str, Any]:
    data = cache.about(path).get("data", {})
    return data if isinstance(data, dict) else {}


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
    elif kind in ("images", "units", "code", "sources", "host"):
        key = name.removeprefix(cache.PREFIX)
        yield f"{kind}-{key.rpartition('-')[0] if key != name else name}"


def size(path: Path) -> int:
    """Bytes of a file or below a folder.  Links are nothing, as is what vanishes meanwhile."""
    if not path.is_dir() or path.is_symlink():
        return 0 if path.is_symlink() or not path.exists() else path.stat().st_size
    total, folders = 0, [str(path)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_symlink():  # a composed tree has 80000: don't ask for each
                    with contextlib.suppress(OSError):
                        total += entry.stat(follow_symlinks=False).st_size
    return total
