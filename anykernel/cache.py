# SPDX-License-Identifier: GPL-2.0
"""The cache: directories that are whole or absent, built by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anykernel.errors import AnykernelError
from anykernel.settings import settings

MANIFEST = "manifest.json"
PREFIX = ".part-"  # an entry in the making, or what a killed process left of it
LEFT_BEHIND = 24 * 3600  # seconds after which such a leftover is swept


class CacheError(AnykernelError):
    """The cache's own file system is in the way: full, read-only, not ours."""


@dataclass(frozen=True)
class Entry:
    """One whole entry: `data` is what its maker said of it."""

    path: Path
    data: dict[str, Any]


def directory(kind: str) -> Path:
    """The folder of one kind of entries (sources, images ...).  Raises CacheError."""
    path = settings().cache_dir / kind
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns a full disk, a read-only one and wrong owners into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CacheError(
                f"the disk of the cache is full ({error.filename or path}); make room "
                "(anykernel cache prune), or set ANYKERNEL_CACHE to a folder elsewhere: "
                "a source tree with its build takes about 3 GB"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise CacheError(
                f"the cache can't be written ({error.filename or path}: {error.strerror}); "
                "set ANYKERNEL_CACHE to a folder of yours"
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


def load(kind: str, key: str) -> Entry | None:
    """The entry if it is there, whole and undamaged; a damaged one is removed."""
    path = directory(kind) / key
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files, data = manifest["files"], manifest["data"]
        for name, (size, mtime_ns, sha256) in files.items():
            status = (path / name).stat()
            if status.st_size != size:
                raise ValueError(f"{name} has another size")
            # Read again only what was touched since: hashing on each start costs too much.
            if status.st_mtime_ns != mtime_ns and digest(path / name) != sha256:
                raise ValueError(f"{name} has other content")
    except FileNotFoundError:
        if path.exists():
            remove(path)
        return None
    except (ValueError, KeyError, TypeError, AttributeError, NotADirectoryError):
        remove(path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now, for `anykernel cache prune`
    return Entry(path, data)


def make(
    kind: str,
    key: str,
    build: Callable[[Path], tuple[dict[str, Any], list[str]]],
    waiting: Callable[[str], None] | None = None,
) -> Entry:
    """The entry, built if it is absent.

    build(folder) fills an empty folder and returns (data, names of the files to guard).  Only a
    whole entry gets its final name.
    """
    found = load(kind, key)
    if found:
        return found
    with locked(f"{kind}-{key}", waiting):
        found = load(kind, key)
        if found:
            return found
        folder = directory(kind)
        sweep(folder)
        for part in folder.glob(f"{PREFIX}*"):  # of one that was killed: we have the lock
            if part.name.rpartition("-")[0] == PREFIX + key:  # not of a key that begins like it
                remove(part)
        part = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{key}-", dir=folder))
        try:
            with explained(part):
                data, guarded = build(part)
                files = {}
                for name in guarded:
                    status = (part / name).stat()
                    files[name] = (status.st_size, status.st_mtime_ns, digest(part / name))
                manifest = {"key": key, "made": time.time(), "data": data, "files": files}
                (part / MANIFEST).write_text(json.dumps(manifest, indent=1))
                part.chmod(0o755)
                os.rename(part, folder / key)
        except BaseException:
            remove(part)
            raise
    return Entry(folder / key, data)


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-made."""
    for part in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > LEFT_BEHIND:
                remove(part)


def remove(path: Path) -> None:
    """Removes a file or a folder, as far as it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
