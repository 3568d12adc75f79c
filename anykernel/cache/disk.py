# SPDX-License-Identifier: GPL-2.0
"""The cache's folders on disk: whose they are, locks, and a disk that is full or read-only."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from anykernel.errors import AnykernelError
from anykernel.settings import settings

FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_OURS = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
FEW = 512
"""Files and folders that are written to disk one by one; of more, the whole file system is."""


class CacheError(AnykernelError):
    """The cache's own file system is in the way: full, read-only, somebody else's."""


class Damaged(CacheError):
    """What an entry holds is not what was put there.  The entry is removed: who asks again has
    it made again."""


def place(kind: str) -> Path:
    """Where entries of a kind are, whether that folder is there or not.  Raises CacheError when
    it is somebody else's."""
    root = settings().cache_dir
    for path in (root, root / kind):
        with explained(path), contextlib.suppress(FileNotFoundError):
            trusted(path)
    return root / kind


def directory(kind: str) -> Path:
    """The folder of one kind of entries (sources, images ...), made where it is absent.  Raises
    CacheError."""
    path = place(kind)
    if not path.is_dir():
        with explained(path):
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.mkdir(mode=0o755, exist_ok=True)
    return path


def trusted(path: Path) -> None:
    """Raises CacheError for a file or folder that somebody else could have filled: what is in the
    cache is executed.  Root could have done so anyway.  FileNotFoundError where nothing is."""
    status = path.stat()
    me = os.geteuid()
    if status.st_uid == me:
        return
    if status.st_uid != 0:
        raise CacheError(
            f"{path} belongs to {_user(status.st_uid)}, not to you ({_user(me)}): programs in it "
            "would run as you. Set ANYKERNEL_CACHE to a folder of yours; or, if you know what is "
            f"in it: chown -R {me} {path}"
        )
    if status.st_mode & 0o022:
        raise CacheError(
            f"{path} is not yours and others can write to it (mode "
            f"{stat.S_IMODE(status.st_mode):o}): programs in it would run as you. Set "
            f"ANYKERNEL_CACHE to a folder of yours, or take their right: chmod -R go-w {path}"
        )


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns a full disk, a read-only one, wrong owners and whatever else is wrong with a file of
    the cache into errors that say what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in FULL:
            raise CacheError(
                f"the disk of the cache is full ({where}); make room "
                "(anykernel cache prune), or set ANYKERNEL_CACHE to a folder elsewhere: "
                "a source tree with its build takes about 3 GB"
            ) from error
        if error.errno in NOT_OURS:
            raise CacheError(
                f"the cache can't be written ({where}: {error.strerror}); "
                "set ANYKERNEL_CACHE to a folder of yours"
            ) from error
        if error.filename and os.fsdecode(error.filename).startswith(f"{settings().cache_dir}/"):
            raise CacheError(
                f"the cache can't be used ({where}: {error.strerror}); remove what is there, or "
                "set ANYKERNEL_CACHE to a folder elsewhere"
            ) from error
        raise


@contextlib.contextmanager
def locked(name: str, waiting: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds the lock `name`; `waiting` is told once when another process has it."""
    import filelock

    path = directory("locks") / f"{name}.lock"
    lock = filelock.FileLock(path)
    with explained(path):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if waiting:
                waiting(f"another process makes {name}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settle(folder: Path) -> None:
    """Waits until all of a folder is on disk, so that after a loss of power nothing has its final
    name that isn't whole.

    A source has 80,000 files: to wait for each takes minutes, for their file system seconds.  Hard
    links are on disk since their first name is.
    """
    found = []
    for base, _, files in os.walk(folder):
        found.append(base)
        for name in files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                found.append(path)
        if len(found) > FEW:
            written(folder, all_of_it=True)
            return
    for path in found:
        written(Path(path))


def written(path: Path, *, all_of_it: bool = False) -> None:
    """Waits until a file, a folder's names, or all of their file system is on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if not all_of_it:
            os.fsync(handle)
        elif _libc().syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(handle)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def remove(path: Path) -> None:
    """Removes a file or a folder, as far as it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
