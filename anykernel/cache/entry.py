# SPDX-License-Identifier: GPL-2.0
"""Entries: folders of the cache that are whole or absent, made by one process at a time, each
with the checksums of all that is in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anykernel.cache import sums
from anykernel.cache.disk import (
    CacheError,
    Damaged,
    directory,
    explained,
    locked,
    place,
    remove,
    settle,
    trusted,
    written,
)
from anykernel.cache.sums import SUMS, Sum
from anykernel.settings import settings

MANIFEST = "manifest.json"
FORMAT = 2
PREFIX = ".part-"  # an entry in the making, or what a killed process left of it
LEFT_BEHIND = 24 * 3600  # seconds after which such a leftover is swept
LARGEST = 1 << 20
"""Bytes of a manifest: what is larger isn't one."""
LINKED = "linked"
"""In an entry's data: the key of another, of which it has hard links."""


@dataclass(frozen=True)
class Entry:
    """One whole entry: `data` is what its maker said of it."""

    path: Path
    data: dict[str, Any]


def load(kind: str, key: str) -> Entry | None:
    """The entry if it is there, whole and undamaged; a damaged one is removed.

    What a run needs of it was looked at; all other files have checksums for sound() and damage().
    Works on a file system that is read-only.  Raises CacheError for somebody else's.
    """
    try:
        return _look(kind, key)
    except _Broken:
        pass
    # Not without the lock: somebody may have made it anew since.
    with contextlib.suppress(CacheError), locked(f"{kind}-{key}"):
        return _look_or_remove(kind, key)
    return None


def make(
    kind: str,
    key: str,
    build: Callable[[Path], tuple[dict[str, Any], list[str]]],
    waiting: Callable[[str], None] | None = None,
) -> Entry:
    """The entry, built if it is absent.

    build(folder) fills an empty folder and returns (data, names of the files that a run needs).
    Those are looked at by each load(): *.so and programs are read, others if they were touched.
    All files are given checksums.  Only a whole entry gets its final name.

    Raises CacheError.
    """
    broken = ""
    try:
        found = _look(kind, key)
    except _Broken as error:
        found, broken = None, f"{kind}/{key} is damaged ({error}), and "
    if found:
        return found
    try:
        return _made(kind, key, build, waiting)
    except CacheError as error:
        if not broken:
            raise
        raise CacheError(f"{broken}{error}") from error


def _made(
    kind: str,
    key: str,
    build: Callable[[Path], tuple[dict[str, Any], list[str]]],
    waiting: Callable[[str], None] | None,
) -> Entry:
    with locked(f"{kind}-{key}", waiting):
        found = _look_or_remove(kind, key)
        if found:
            return found
        folder = directory(kind)
        sweep(folder)
        for part in folder.glob(f"{PREFIX}*"):  # of one that was killed: we have the lock
            if part.name.rpartition("-")[0] == PREFIX + key:  # not of a key that begins like it
                remove(part)
        with explained(folder):
            part = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{key}-", dir=folder))
        try:
            with explained(part):
                data, used = build(part)
                linked = folder / data[LINKED] if LINKED in data else None
                _seal(part, key, data, used, linked)
                part.chmod(0o755)
                settle(part)
                os.rename(part, folder / key)
                written(folder)
        except BaseException:
            remove(part)
            raise
    return Entry(folder / key, data)


def _seal(
    part: Path, key: str, data: dict[str, Any], used: Iterable[str], linked: Path | None
) -> None:
    """Writes checksums and the manifest."""
    try:
        found = sums.of_folder(part, linked)
    except (OSError, ValueError):
        if linked is None:
            raise
        found = sums.of_folder(part)  # what it links to is damaged or gone
    noted = {name: found[name] for name in used} | {SUMS: sums.write(part, found)}
    _write(part, {"key": key, "made": time.time(), "data": data}, noted)


def _write(folder: Path, manifest: dict[str, Any], noted: dict[str, Sum]) -> None:
    manifest = {"format": FORMAT, **manifest, "used": noted}
    manifest["sum"] = _sum(manifest)
    temporary = folder / f"{MANIFEST}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps(manifest, indent=1))
        os.replace(temporary, folder / MANIFEST)
    except BaseException:
        remove(temporary)
        raise


def _sum(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "sum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class _Broken(Exception):
    """An entry that can't be used; the text says why."""


def _manifest(path: Path, key: str | None = None) -> dict[str, Any]:
    """The manifest of the entry at `path`.  Raises _Broken for one that isn't as we wrote it."""
    file = path / MANIFEST
    try:
        if file.stat().st_size > LARGEST:
            raise _Broken(f"{MANIFEST} can't be read")
        manifest: dict[str, Any] = json.loads(file.read_bytes())
        if manifest["format"] != FORMAT or manifest["sum"] != _sum(manifest):
            raise _Broken(f"{MANIFEST} can't be read")
        if manifest["key"] != path.name:
            raise _Broken(f"it is {manifest['key']}")
        return manifest
    except FileNotFoundError:
        raise _Broken(f"{MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _Broken(f"{MANIFEST} can't be read") from None
    except OSError as error:
        if error.errno not in sums.BROKEN:
            raise
        raise _Broken(f"{MANIFEST} can't be read ({error.strerror})") from None


def _look(kind: str, key: str) -> Entry | None:
    """The entry; None where there is none.  Raises _Broken."""
    path = place(kind) / key
    try:
        if path.is_symlink() or not path.is_dir():
            os.lstat(path)
            raise _Broken("it is no folder")
        with explained(path):
            trusted(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise CacheError(f"{path.parent} is no folder; remove it") from None
    manifest = _manifest(path)
    noted = {name: Sum(*values) for name, values in manifest["used"].items()}
    moved = False
    for name, one in noted.items():
        loaded = name.endswith(".so") or one.executable
        if how := sums.wrong(path / name, one, read=loaded):
            raise _Broken(f"{name} {how}")
        now = sums.of_file(path / name, one)
        moved |= now != one
        noted[name] = now
    # The cache was moved: what is read now needn't be read the next time.  Used now, for
    # `anykernel cache prune`.  Neither is needed, where we can't write.
    with contextlib.suppress(OSError):
        if moved:
            rest = {name: manifest[name] for name in ("key", "made", "data")}
            _write(path, rest, noted)
        os.utime(path)
    return Entry(path, manifest["data"])


def _look_or_remove(kind: str, key: str) -> Entry | None:
    try:
        return _look(kind, key)
    except _Broken:
        remove(place(kind) / key)
        return None


def damage(path: Path) -> str | None:
    """What is wrong with an entry.  Reads all of it."""
    try:
        manifest = _manifest(path)
        noted = {name: Sum(*values) for name, values in manifest["used"].items()}
        if how := sums.wrong(path / SUMS, noted[SUMS], read=True):
            return f"{SUMS} {how}"
        return sums.difference(path, sums.read(path))
    except _Broken as error:
        return str(error)


def about(path: Path) -> dict[str, Any]:
    """What an entry's manifest says, if it can be read."""
    try:
        return _manifest(path)
    except (_Broken, OSError):
        return {}


def sound(files: Iterable[Path], *, read: bool = True) -> None:
    """Raises Damaged unless each of `files` is what its entry's maker made: to be asked where they
    are loaded, executed or linked.  Files that are in no entry pass, if they are there.

    read: their content, not only if they were touched.
    """
    root = settings().cache_dir
    tables: dict[Path, sums.Sums | str] = {}
    for file in files:
        parts = file.relative_to(root).parts if file.is_relative_to(root) else ()
        if len(parts) < 3:
            how = None if file.exists() else "is missing"
            path = None
        else:
            path = root / parts[0] / parts[1]
            name = "/".join(parts[2:])
            if path not in tables:
                tables[path] = _table(path)
            table = tables[path]
            if isinstance(table, str):
                how = f"can't be checked: {table}"
            elif name not in table:
                how = "doesn't belong there"
            else:
                how = sums.wrong(file, table[name], read=read)
        if how:
            raise _gone(file, how, path)


def listed(folder: Path) -> list[Path]:
    """All files below a folder of an entry, as they were when it was made, there or not; of
    another folder, those that are there.  Raises Damaged."""
    root = settings().cache_dir
    parts = folder.relative_to(root).parts if folder.is_relative_to(root) else ()
    if len(parts) < 2:
        return [folder / name for name in sums.names(folder)]
    table = _table(root / parts[0] / parts[1])
    if isinstance(table, str):
        raise _gone(folder, table, root / parts[0] / parts[1])
    inside = "".join(f"{part}/" for part in parts[2:])
    return [folder / name.removeprefix(inside) for name in table if name.startswith(inside)]


def _table(path: Path) -> sums.Sums | str:
    """The sums of an entry, or why there are none."""
    try:
        noted = Sum(*_manifest(path)["used"][SUMS])
        if how := sums.wrong(path / SUMS, noted):
            return f"{SUMS} {how}"
        return sums.read(path)
    except (_Broken, OSError, ValueError, KeyError, TypeError) as error:
        return str(error)


def _gone(file: Path, how: str, path: Path | None) -> Damaged:
    """The error for a file that isn't what it was; its entry goes, as far as that can be."""
    if path is None:
        return Damaged(f"{file} {how}")
    with contextlib.suppress(CacheError), locked(f"{path.parent.name}-{path.name}"):
        if damage(path):
            remove(path)
    return Damaged(
        f"{file} {how}: it was damaged or removed since it was built. What was left of it is "
        "removed; run this again, and it is made anew"
    )


def sweep(folder: Path) -> None:
    """Removes what killed processes left half-made."""
    for part in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > LEFT_BEHIND:
                remove(part)
