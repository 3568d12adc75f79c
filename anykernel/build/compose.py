# SPDX-License-Identifier: GPL-2.0
"""The composed tree: the pristine source as symbolic links, plus our arch/lib.

Folders are real and files are links (a link of the source to one of its own folders leads to that
folder here), so `make` may write where it likes (with O= or without)
and a pristine file is never changed; an edit of a user's file is seen at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from anykernel import cache
from anykernel.source import Tree
from anykernel.source.files import BUILT_IN_PLACE, RECORD, leads_inside, walk

OVERLAY = Path(__file__).resolve().parent.parent / "overlay"
CLOCK_NS = 1_000_000_000
"""How coarse a file system's times may be."""


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
    """The composed tree, made or brought up to date.  Raises CacheError, SourceError."""
    # A user's folder keeps its composed tree when it is edited, so that make builds what changed.
    name = live_name(tree.path) if tree.live else tree.id
    composed = cache.directory("trees") / name
    with cache.locked(f"tree-{name}"), cache.explained(composed):
        _real(composed)
        cache.trusted(composed)
        since = _since(composed, tree.path)
        _link(tree.path, composed, since)
        for name in BUILT_IN_PLACE:
            cache.remove(composed / name)
        _overlay(composed)
        (composed / RECORD).write_text(str(tree.path))
        os.utime(composed)  # used now, for `anykernel cache prune`
    return composed


def _real(folder: Path) -> None:
    """Makes a real folder where there is none, or a link: that could lead to a user's folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)


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
    # What an in-tree build left isn't linked for a moment even: another process may be at its make.
    for inside, folder, files in walk(source):
        to = composed / inside
        _real(to)
        touched = to.stat().st_mtime_ns > since - CLOCK_NS
        present = {entry.name: entry for entry in os.scandir(to)}
        for file in files:
            name = file.name
            target, entry = _target(file, folder, source), present.pop(name, None)
            if entry is not None and _stale(entry, target, touched):
                cache.remove(Path(entry.path))
                entry = None
            if entry is None:
                os.symlink(target, to / name)
        for entry in present.values():
            if entry.is_symlink():
                os.unlink(entry)


def _target(file: os.DirEntry[str], folder: str, source: Path) -> str:
    """What a link in the composed tree leads to: the source's file.  For a link of the source to
    one of its own folders, what that says: the folder is in the composed tree, too, and what is
    written there is in no danger."""
    if file.is_symlink() and os.path.isdir(file.path):
        return leads_inside(folder, file.name, source) or file.path
    return file.path


def _stale(entry: os.DirEntry[str], target: str, touched: bool) -> bool:
    """Whether a link leads elsewhere, or a folder is where the source has none now."""
    if entry.is_symlink():
        return touched and os.readlink(entry) != target
    return entry.is_dir()


def _overlay(composed: Path) -> None:
    """Writes our files as arch/lib; unchanged ones keep their times, so make does nothing."""
    to = composed / "arch" / "lib"
    _real(to)
    wanted = {place for _, place in overlay_files()}
    for path, place in overlay_files():
        target = to / place
        for folder in reversed(target.relative_to(to).parents[:-1]):
            _real(to / folder)
        if target.is_symlink():  # never written through: it may lead to the user's file
            target.unlink()
        if target.is_file() and target.read_bytes() == path.read_bytes():
            continue
        cache.remove(target)
        shutil.copyfile(path, target)
    # Files of an older overlay; what an in-tree build generated stays.
    record = to / ".overlay"
    if record.is_symlink():
        record.unlink()
    old = record.read_text().split("\n") if record.exists() else []
    for place in old:
        if place and place not in wanted:
            cache.remove(to / place)
    record.write_text("\n".join(sorted(wanted)))
