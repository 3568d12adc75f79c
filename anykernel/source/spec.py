# SPDX-License-Identifier: GPL-2.0
"""Specifications: debian:6.1, a folder, git:FOLDER@REVISION, a tarball."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.errors import SourceError, ToolError, UsageError
from anykernel.source import debian
from anykernel.source.tree import Tree, release_of

Say = Callable[[str], None]

EXAMPLES = "debian:6.1, debian:6.1.170-3, ~/linux, git:~/linux@v6.12, linux-6.12.tar.xz"
TARBALL = re.compile(r"\.(tar|tar\.(gz|xz|bz2|zst)|tgz|txz)$")


def fetch(spec: str, say: Say | None = None) -> Tree:
    """The tree of `spec`, from the cache if it is there.

    Raises UsageError for what is no specification, SourceError for what can't be had.
    """
    say = say or (lambda text: None)
    if spec.startswith("debian:"):
        return debian.fetch(spec, say)
    if spec.startswith("git:"):
        return _git(spec, say)
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        return _folder(spec, path.resolve())
    if TARBALL.search(spec):
        if not path.is_file():
            raise SourceError(f"there is no file {path}")
        return _tarball(spec, path.resolve(), say)
    if "/" in spec or spec.startswith((".", "~")):
        raise SourceError(f"there is no folder {path}")
    raise UsageError(f"{spec!r} names no kernel source; examples: {EXAMPLES}")


def _folder(spec: str, path: Path) -> Tree:
    return Tree(path, release_of(path), spec, f"folder-{_state(path)}", live=True)


def _state(path: Path) -> str:
    """A hash that changes with the folder: git's view where there is one, else names, sizes and
    times of all files."""
    sha = hashlib.sha256(str(path).encode())
    git = ["git", "-C", str(path)]
    # None before the first commit: then there is nothing to compare with.
    head = (path / ".git").exists() and proc.run([*git, "rev-parse", "-q", "HEAD"], check=False)
    if head and re.fullmatch(r"[0-9a-f]{40,64}", head.strip()):
        sha.update(head.encode())
        sha.update(proc.run([*git, "diff", "HEAD", "--no-ext-diff"]).encode())
        new = proc.run([*git, "ls-files", "--others", "--exclude-standard", "-z"])
        for name in new.split("\0"):
            file = path / name
            if file.is_file():
                sha.update(name.encode() + cache.digest(file).encode())
    else:
        for folder, folders, files in os.walk(path):
            folders.sort()
            for name in sorted(files):
                status = os.lstat(os.path.join(folder, name))
                line = f"{folder}/{name} {status.st_size} {status.st_mtime_ns}\n"
                sha.update(line.encode(errors="surrogateescape"))
    return sha.hexdigest()[:16]


def _git(spec: str, say: Say) -> Tree:
    """An export of one commit; the checkout isn't touched."""
    where, _, revision = spec.removeprefix("git:").rpartition("@")
    if not where or not revision:
        raise UsageError(f"{spec!r}: write git:FOLDER@REVISION, as in git:~/linux@v6.12")
    path = Path(where).expanduser()
    if not path.is_dir():
        raise SourceError(f"there is no folder {path}")
    text = proc.run(
        ["git", "-C", str(path), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        check=False,
    ).strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", text):
        raise SourceError(f"{path} has no commit {revision!r} (or is no git repository): {text}")

    def build(folder: Path) -> tuple[dict[str, Any], list[str]]:
        say(f"exporting {revision} of {path}")
        archive = folder / "tree.tar"
        proc.run(["git", "-C", str(path), "archive", "--format=tar", "-o", str(archive), text])
        _unpack(archive, folder / "tree", strip=False)
        archive.unlink()
        return {"release": release_of(folder / "tree", path)}, ["tree/Makefile"]

    entry = cache.make("sources", f"git-{text}", build, say)
    return Tree(entry.path / "tree", entry.data["release"], spec, f"git-{text}")


def _tarball(spec: str, path: Path, say: Say) -> Tree:
    key = f"tar-{cache.digest(path)[:20]}"

    def build(folder: Path) -> tuple[dict[str, Any], list[str]]:
        say(f"unpacking {path.name}")
        _unpack(path, folder / "tree", strip=True)
        return {"release": release_of(folder / "tree", path)}, ["tree/Makefile"]

    entry = cache.make("sources", key, build, say)
    return Tree(entry.path / "tree", entry.data["release"], spec, key)


def _unpack(archive: Path, to: Path, *, strip: bool) -> None:
    """tar refuses names that lead out of the folder by itself."""
    to.mkdir()
    argv = ["tar", "-xf", str(archive), "-C", str(to), "--no-same-owner"]
    try:
        proc.run(argv + (["--strip-components=1"] if strip else []))
    except ToolError as error:
        if "No space left" in error.tail:
            raise OSError(28, "No space left on device", str(to)) from error
        raise SourceError(
            f"{archive} can't be unpacked; it may be cut off or no tarball:\n{error.tail}"
        ) from error
