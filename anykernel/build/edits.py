# SPDX-License-Identifier: GPL-2.0
"""What make can't see: files of a user's folder that came with old times, and new headers that are
found before those that an object was made with.

make compares times.  A file that was moved back from a copy is older than the objects that were
made since; so is all of a folder that was swapped for another.  Here their links in the composed
tree are made anew, and make is told (-L) that a link's own time counts, too.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

from anykernel import cache

EDITS = ".anykernel-edits"
HEADERS = ".anykernel-headers"
"""In a composed tree: headers that share their names with others, which they may hide."""
GONE = ".anykernel-gone"
"""In a composed tree: headers that went, one a line; beside objects: those that were dealt with."""
CLOCK_NS = 1_000_000_000
"""How coarse a file system's times may be."""


class Edits:
    """The files of a tree whose content may be another than when it was composed last.

    composed: where it remembers.  live: whether the source may be edited at all.  known: whether
    the links of `composed` are of that source.
    """

    def __init__(self, composed: Path, live: bool, known: bool) -> None:
        self._composed = composed
        self._live = live
        self._known = known
        try:
            before = json.loads((composed / EDITS).read_text()) if known else {}
        except (OSError, ValueError):
            before = {}
        self._begun: int = before.get("begun", 0)
        self._folders: dict[str, list[int]] = before.get("folders", {})
        self._recent: dict[str, list[int]] = before.get("recent", {})
        self._headers: set[str] | None = set(before["headers"]) if "headers" in before else None
        os.utime(composed)
        now: dict[str, dict[str, list[int]]] = {"folders": {}, "recent": {}}
        self._now, self._now_headers = now, list[str]()
        self._start = composed.stat().st_mtime_ns  # by the file system's own clock
        self._swapped = False

    def enter(self, folder: str, inside: str) -> None:
        """The files that are looked at next are in `folder`."""
        if self._live:
            status = os.stat(folder)
            identity = [status.st_dev, status.st_ino]
            self._now["folders"][inside] = identity
            self._swapped = self._folders.get(inside) != identity

    def look(self, path: str, inside: str) -> bool:
        """Whether the file may have been edited, whatever its time of modification says."""
        if inside.endswith(".h"):
            self._now_headers.append(inside)
        if not self._live:
            return False
        state = state_of(path)
        if state is None:  # a link that leads nowhere
            return False
        # A move, a copy, a new time: all set it.
        changed = state[-1] = max(state[-1], os.lstat(path).st_ctime_ns)
        if changed > self._start - CLOCK_NS:
            self._now["recent"][inside] = state
        if self._swapped or inside in self._recent:
            return self._swapped or self._recent[inside] != state
        return changed > self._begun - CLOCK_NS

    def finish(self) -> None:
        """Remembers what there is now; what new headers may hide is made to look new."""
        headers = sorted(self._now_headers)
        if self._headers is not None and (new := set(headers) - self._headers):
            names = {os.path.basename(name) for name in new}
            for name in headers:
                if os.path.basename(name) in names and name not in new:
                    link = self._composed / name
                    lead_to(link, os.readlink(link))
        if gone := sorted((self._headers or set()) - set(headers)):
            with (self._composed / GONE).open("a") as file:
                file.writelines(f"{name}\n" for name in gone)
        same = defaultdict(list)
        for name in headers:
            same[os.path.basename(name)].append(name)
        text = "".join(f"{one}\n" for names in same.values() if len(names) > 1 for one in names)
        (self._composed / HEADERS).write_text(text)
        record = {"begun": self._start, **self._now, "headers": headers}
        (self._composed / EDITS).write_text(json.dumps(record))


def state_of(path: str) -> list[int] | None:
    """Size, times and identity of a file, by which any edit is seen; the last is when it changed
    in any way, in ns.  None where it isn't there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]


def lead_to(link: Path, target: str) -> None:
    """Makes a symbolic link, or another of it, with a time of its own: it is there all the while,
    since another process may be at its make."""
    if not os.path.lexists(link):
        os.symlink(target, link)
        return
    if link.is_dir() and not link.is_symlink():
        cache.remove(link)
    beside = link.with_name(f".anykernel-{link.name}")
    beside.unlink(missing_ok=True)
    os.symlink(target, beside)
    os.replace(beside, link)


def forget_gone(build: Path, composed: Path) -> None:
    """Removes objects that were made with headers that are gone: as Kbuild itself says of its
    newer-prereqs, make doesn't tell it of what doesn't exist."""
    log, dealt = composed / GONE, build / GONE
    names = log.read_text() if log.exists() else ""
    before = dealt.read_text() if dealt.exists() else ""
    gone = {f"  ../{name} \\" for name in names.removeprefix(before).splitlines()}
    if gone:
        for note in build.rglob(".*.cmd"):
            if not gone.isdisjoint(note.read_text(errors="replace").splitlines()):
                cache.remove(note.with_name(note.name[1:].removesuffix(".cmd")))
    dealt.write_text(names)
