# SPDX-License-Identifier: GPL-2.0
"""The composed tree: the pristine source as symbolic links, without what would be in our way.

Folders are real and files are links (a link of the source to one of its own folders leads to that
folder here), so `make` may write where it likes (with O= or without)
and a pristine file is never changed; an edit of a user's file is seen at once.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from anykernel import cache
from anykernel.build.beside import in_tree, within
from anykernel.build.edits import Edits, lead_to
from anykernel.build.overlay import OVERLAY
from anykernel.source import Tree
from anykernel.source.files import BUILT_IN_PLACE, RECORD, leads_inside, walk

CLOCK_NS = 1_000_000_000
"""How coarse a file system's times may be."""
PATH = re.compile(r"[\w./+-]*/[\w.+-]+")


def compose(tree: Tree) -> Path:
    """The composed tree, made or brought up to date.  Raises CacheError, SourceError."""
    # A user's folder keeps its composed tree when it is edited, so that make builds what changed.
    name = live_name(tree.path) if tree.live else tree.id
    composed = cache.directory("trees") / name
    with cache.locked(f"tree-{name}"), cache.explained(composed):
        _real(composed)
        cache.trusted(composed)
        lead = within(tree.path, composed)
        since = _since(composed, lead)
        edits = Edits(composed, tree.live, known=since > 0)
        _link(tree.path, composed, since, edits)
        for name in BUILT_IN_PLACE:
            cache.remove(composed / name)
        edits.finish()
        (composed / RECORD).write_text(lead)
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


def own_paths(text: str, composed: Path) -> str:
    """What a tool said about a composed tree, with the paths of the files that its links lead to:
    the user's own."""

    def own(found: re.Match[str]) -> str:
        said = found[0]
        inside = said.removeprefix(f"{composed}/") if said.startswith("/") else in_tree(said)
        if not inside or inside.startswith("/"):
            return said
        if (composed / inside).is_symlink():
            link = composed / inside
            return os.path.normpath(link.parent / os.readlink(link))
        ours = OVERLAY / "lib" / inside.removeprefix("arch/lib/")
        return str(ours) if inside.startswith("arch/lib/") and ours.is_file() else said

    return PATH.sub(own, text)


def _since(composed: Path, lead: str) -> int:
    """When the links were last known to lead to the source, in ns; 0: they may lead anywhere."""
    record = composed / RECORD
    try:
        return record.stat().st_mtime_ns if record.read_text() == lead else 0
    except OSError:
        return 0


def _link(source: Path, composed: Path, since: int, edits: Edits) -> None:
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
        lead = within(Path(folder), to)
        edits.enter(folder, inside)
        for file in files:
            name = file.name
            target, entry = _target(file, folder, source, lead), present.pop(name, None)
            edited = edits.look(file.path, inside + name)
            if entry is None or edited or _stale(entry, target, touched):
                lead_to(to / name, target)
        for entry in present.values():
            if entry.is_symlink():
                os.unlink(entry)


def _target(file: os.DirEntry[str], folder: str, source: Path, lead: str) -> str:
    """What a link in the composed tree leads to: the source's file.  For a link of the source to
    one of its own folders, what that says: the folder is in the composed tree, too, and what is
    written there is in no danger."""
    text = None
    if file.is_symlink() and os.path.isdir(file.path):
        text = leads_inside(folder, file.name, source)
    return text or f"{lead}/{file.name}"


def _stale(entry: os.DirEntry[str], target: str, touched: bool) -> bool:
    """Whether a link leads elsewhere, or a folder is where the source has none now."""
    if entry.is_symlink():
        return touched and os.readlink(entry) != target
    return entry.is_dir()
