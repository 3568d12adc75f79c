# SPDX-License-Identifier: GPL-2.0
"""What is in a user's folder: a hash of the content of all files that a build can see.

Git isn't asked, though its index knows content by times, too: it would leave out what it is told
to ignore or to assume unchanged, doesn't look into submodules and behind links, does what its
configuration says, and may write to the folder.  So the contents are remembered here, by what
changes with them: size, times and inode.  To look at 80,000 files takes about half a second, to
read them (the first time) some seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from anykernel import cache
from anykernel.errors import SourceError
from anykernel.source.files import leads_inside, walk

FORMAT = 1
RECENT_NS = 2_000_000_000
"""A file may be changed again within the coarseness of its times: so young ones are read again."""
MOST = 200_000
"""Files behind links to other folders."""
Known = dict[str, dict[str, str]]
"""Folder to name to '<size, times, inode> <hash>'."""


def state(source: Path) -> str:
    """The hash of a folder and its content.  Raises SourceError."""
    known, record = _recall(source)
    memory = Memory(known, time.time_ns() - RECENT_NS)
    lines = {place: memory.look(place, entries) for place, _, entries in everything(source)}
    if memory.changed or memory.seen.keys() != known.keys():
        _remember(record, memory.seen)
    sha = hashlib.sha256(os.fsencode(source))
    for inside in sorted(lines):
        text = f"{inside}\0{lines[inside]}\0"
        sha.update(text.encode(errors="surrogateescape"))
    return sha.hexdigest()[:16]


class Memory:
    """What is known of files' contents, and what has to be read."""

    def __init__(self, known: Known, young: int) -> None:
        self._known = known
        self._young = young
        self.seen: Known = {}
        self.changed = False

    def look(self, place: str, entries: list[os.DirEntry[str]]) -> str:
        """A line of each file and link of a folder, by what is in it."""
        known = self._known.get(place, {})
        seen = self.seen[place] = {}
        lines = []
        for entry in entries:
            name = entry.name
            link = ""
            try:
                if entry.is_symlink():
                    link = os.readlink(entry.path)
                    status = entry.stat()
                else:
                    status = entry.stat(follow_symlinks=False)
            except OSError:
                lines.append(f"{name}\0{link}")  # a link to nothing, or gone
                continue
            mode, mtime, ctime = status.st_mode, status.st_mtime_ns, status.st_ctime_ns
            if not stat.S_ISREG(mode):
                lines.append(f"{name}\0{link}\0{stat.S_IFMT(mode)}")
                continue
            moment = f"{status.st_size} {mtime} {ctime} {status.st_ino} "
            line = known.get(name, "")
            if not line.startswith(moment):
                self.changed = True
                line = moment + _read(entry.path)
            if mtime < self._young and ctime < self._young:
                seen[name] = line
            lines.append(f"{name}\0{'x' if mode & 0o100 else '-'}{line[len(moment) :]}")
        lines.sort()
        return "\n".join(lines)


def _read(path: str) -> str:
    try:
        return cache.digest(Path(path))[:32]
    except OSError as error:
        return f"error {error.errno}"


def everything(source: Path) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
    """walk(), and what is behind links that lead elsewhere.  Raises SourceError."""
    outward: list[tuple[str, str]] = []
    for inside, folder, entries in walk(source):
        yield inside, folder, entries
        for entry in entries:
            folders = entry.is_symlink() and os.path.isdir(entry.path)
            if folders and not leads_inside(folder, entry.name, source):
                outward.append((inside + entry.name, entry.path))
    for place, link in outward:
        yield from _behind(place, link)


def _behind(place: str, link: str) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
    waiting, seen, count = [(place, link)], set(), 0
    while waiting:
        place, folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        files = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                count += 1
                if os.path.isdir(entry.path):
                    waiting.append((f"{place}/{entry.name}", entry.path))
                else:
                    files.append(entry)
        yield f"{place}/", folder, files
        if count > MOST:
            raise SourceError(
                f"{link} leads out of the source to more than {MOST} files, each of which might "
                "be part of the build; remove that link"
            )


def _recall(source: Path) -> tuple[Known, Path]:
    """(what was known the last time, where that is written)."""
    name = hashlib.sha256(os.fsencode(source)).hexdigest()[:12]
    record = cache.place("states") / f"{name}.json"
    try:
        cache.trusted(record)
        found = json.loads(record.read_bytes())
        known: Known = found["files"]
        strings = (isinstance(one, str) for names in known.values() for one in names.values())
        if found["format"] == FORMAT and all(strings):
            return known, record
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return {}, record


def _remember(record: Path, sums: Known) -> None:
    """Writes down what is known; where that can't be, files are read again the next time."""
    with contextlib.suppress(OSError, cache.CacheError):
        folder = cache.directory("states")
        handle, temporary = tempfile.mkstemp(prefix=cache.PREFIX, dir=folder)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps({"format": FORMAT, "files": sums}, separators=(",", ":")))
            os.replace(temporary, record)
        except BaseException:
            cache.remove(Path(temporary))
            raise
