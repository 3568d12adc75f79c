# SPDX-License-Identifier: GPL-2.0
"""Checksums of all that is in a folder, in one file of it, and what differs from them."""

from __future__ import annotations

import errno
import functools
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from anykernel.cache.disk import digest

SUMS = "checksums.json"
LINK = -1
"""The size that is noted for a symbolic link; its target stands where others have their sum."""
BROKEN = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EIO,
    errno.EACCES,
    errno.ENAMETOOLONG,
)
"""Errors that say something about the file, not about this process or moment."""


class Sum(NamedTuple):
    """What a file was when it was put there."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    executable: bool
    content: str
    """sha256, or where a symbolic link leads."""


Sums = dict[str, Sum]
"""By name below the folder."""


def of_file(path: Path, like: Sum | None = None) -> Sum:
    """The sum of a file or a symbolic link; like: that of another name of the same inode."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return Sum(LINK, 0, 0, 0, False, os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "neither a file nor a link", str(path))
    content = like.content if like else digest(path)
    return Sum(*_moment(status), bool(status.st_mode & 0o100), content)


def wrong(path: Path, noted: Sum, *, read: bool = False) -> str | None:
    """How a file differs from its sum.

    Its content is read if it was touched since, or with `read`, and then once per process.  A
    change may hide from the time of modification, not from that of the inode; a file that was
    copied has another inode.
    """
    try:
        status = os.lstat(path)
        if noted.size == LINK:
            leads = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
            return None if leads == noted.content else "leads elsewhere"
        if not stat.S_ISREG(status.st_mode):
            return "is no file any more"
        if status.st_size != noted.size:
            return "has another size"
        if bool(status.st_mode & 0o100) != noted.executable:
            return "has another mode"
        moment = _moment(status)
        if (read or moment != noted[:4]) and _content(path, moment) != noted.content:
            return "has other content"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        if error.errno not in BROKEN:
            raise
        return f"can't be read ({error.strerror})"
    return None


def _moment(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@functools.cache
def _content(path: Path, moment: tuple[int, int, int, int]) -> str:
    return digest(path)


def of_folder(folder: Path, linked: Path | None = None) -> Sums:
    """The sums of all below a folder.  linked: an entry that some of it are hard links to, whose
    sums are taken over."""
    known = read(linked) if linked else {}
    found = {}
    for name in names(folder):
        path, like = folder / name, known.get(name)
        if like and linked and not _same(path, linked / name):
            like = None
        found[name] = of_file(path, like)
    return found


def _same(path: Path, other: Path) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.lstat(other))
    except OSError:
        return False


def names(folder: Path) -> Iterator[str]:
    """All files and links below a folder, but not this note and the manifest of an entry."""
    for base, folders, files in os.walk(folder):
        inside = "" if base == str(folder) else os.path.relpath(base, folder) + "/"
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        for name in [*files, *links]:
            if inside or name not in (SUMS, "manifest.json"):
                yield inside + name


def write(folder: Path, sums: Sums) -> Sum:
    """Notes the sums in the folder, and returns the sum of that note."""
    path = folder / SUMS
    path.write_text(json.dumps(sums, separators=(",", ":"), ensure_ascii=True))
    return of_file(path)


def read(folder: Path) -> Sums:
    """The noted sums.  Raises OSError, or ValueError where something else is noted."""
    path = folder / SUMS
    status = path.stat()
    return _parsed(path, _moment(status))


@functools.lru_cache(maxsize=4)
def _parsed(path: Path, moment: tuple[int, int, int, int]) -> Sums:
    noted = json.loads(path.read_text())
    try:
        return {name: Sum(*values) for name, values in noted.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def difference(folder: Path, sums: Sums) -> str | None:
    """The first thing that differs from its sum, all of it read; or a file that nobody noted."""
    for name, noted in sorted(sums.items()):
        if how := wrong(folder / name, noted, read=True):
            return f"{name} {how}"
    more = sorted(set(names(folder)) - sums.keys())
    return f"{more[0]} doesn't belong there" if more else None
