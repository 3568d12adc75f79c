# SPDX-License-Identifier: GPL-2.0
"""The composed tree: the pristine source as symbolic links, plus our arch/lib.

Folders are real and files are links, so `make` may write where it likes (with O= or without)
and a pristine file is never changed; an edit of a user's file is seen at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from anykernel import cache
from anykernel.source import Tree

OVERLAY = Path(__file__).resolve().parent.parent / "overlay"
RECORD = ".anykernel-source"
"""In a composed tree: where its links lead, and since when."""
CLOCK_NS = 1_000_000_000
"""How coarse a file system's times may be."""
BUILT_IN_PLACE = (".config", ".config.old", "include/config", "include/generated", "vmlinux")
"""What an in-tree build leaves at the top: Kbuild refuses O= where it sees them."""


def overlay_files() -> list[tuple[Path, str]]:
    """(our file, its place in arch/lib)."""
    lib = OVERLAY / "lib"
    files = [(p, str(p.relative_to(lib))) for p in sorted(lib.rglob("*")) if p.is_file()]
    return [*files, (OVERLAY / "include" / "liblinux.h", "include/liblinux.h")]


def overlay_id() -> str:
    """A hash of all overlay files."""
    sha = hashlib.sha256()
    for path, place in overlay_files():
        sha.update(place.encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()[:12]


def compose(tree: Tree) -> Path:
    """The composed tree, made or brought up to date."""
    # A user's folder keeps its composed tree when it is edited, so that make builds what changed.
    name = live_name(tree.path) if tree.live else tree.id
    composed = cache.directory("trees") / name
    with cache.locked(f"tree-{name}"), cache.explained(composed):
        since = _since(composed, tree.path)
        _link(tree.path, composed, since)
        for name in BUILT_IN_PLACE:
            cache.remove(composed / name)
        _overlay(composed / "arch" / "lib")
        (composed / RECORD).write_text(str(tree.path))
        os.utime(composed)  # used now, for `anykernel cache prune`
    return composed


def live_name(path: Path) -> str:
    """What the composed tree of a user's folder is called."""
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


def _since(composed: Path, source: Path) -> int:
    """When the links were last known to lead to `source`, in ns; 0: they may lead anywhere."""
    record = composed / RECORD
    try:
        return record.stat().st_mtime_ns if record.read_text() == str(source) else 0
    except OSError:
        return 0


def _link(source: Path, composed: Path, since: int) -> None:
    """Links that are missing or lead elsewhere are made, links to what is gone are removed.

    A folder that nobody touched since `since` has the links that it had then: looking where each
    of 80,000 leads takes seconds.
    """
    base = str(source)
    # arch/lib is ours; a source may have one (older kernel libraries did).  What an in-tree build
    # left isn't linked for a moment even: another process may be at its make.
    left_out = {".git", "arch/lib", *BUILT_IN_PLACE}
    for folder, folders, files in os.walk(base):
        inside = "" if folder == base else os.path.relpath(folder, base) + "/"
        folders[:] = [f for f in folders if inside + f not in left_out]
        to = composed / inside
        if to.is_symlink():  # of a file or a link that is a folder now: it leads to the user's
            to.unlink()
        to.mkdir(parents=True, exist_ok=True)
        touched = to.stat().st_mtime_ns > since - CLOCK_NS
        present = {entry.name: entry for entry in os.scandir(to)}
        links = [f for f in files if inside + f not in left_out]
        links += [f for f in folders if os.path.islink(os.path.join(folder, f))]
        for name in links:
            target, entry = os.path.join(folder, name), present.pop(name, None)
            if entry is not None and _stale(entry, target, touched):
                cache.remove(Path(entry.path))
                entry = None
            if entry is None:
                os.symlink(target, to / name)
        for name, entry in present.items():
            gone = inside + name in left_out or not os.path.lexists(os.path.join(folder, name))
            if gone and entry.is_symlink():
                os.unlink(entry)


def _stale(entry: os.DirEntry[str], target: str, touched: bool) -> bool:
    """Whether a link leads elsewhere, or a folder is where the source has none now."""
    if entry.is_symlink():
        return touched and os.readlink(entry) != target
    return entry.is_dir()


def _overlay(to: Path) -> None:
    """Writes our files as arch/lib; unchanged ones keep their times, so make does nothing."""
    if to.is_symlink():  # the source has a link there
        to.unlink()
    wanted = {place for _, place in overlay_files()}
    for path, place in overlay_files():
        target = to / place
        if target.is_symlink():  # never written through: it may lead to the user's file
            target.unlink()
        if target.exists() and target.read_bytes() == path.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    # Files of an older overlay; what an in-tree build generated stays.
    record = to / ".overlay"
    old = record.read_text().split("\n") if record.exists() else []
    for place in old:
        if place and place not in wanted:
            cache.remove(to / place)
    record.write_text("\n".join(sorted(wanted)))
