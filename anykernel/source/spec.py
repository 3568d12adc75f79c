# SPDX-License-Identifier: GPL-2.0
"""Specifications: debian:6.1, a folder, git:FOLDER@REVISION, a tarball."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.errors import SourceError, ToolError, UsageError
from anykernel.source import debian
from anykernel.source.state import state
from anykernel.source.tree import Tree, release_of
from anykernel.source.unpack import unpack

Say = Callable[[str], None]

EXAMPLES = "debian:6.1, debian:6.1.170-3, ~/linux, git:~/linux@v6.12, linux-6.12.tar.xz"
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
PLAIN = (
    "core.autocrlf=false",
    "core.eol=lf",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "tar.umask=0022",
)
"""Settings under which one commit gives the same files for everybody."""
ELSEWHERE = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_CEILING_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TRACE",
    "GIT_WORK_TREE",
)
"""Variables (of a hook, say) that name another repository than the folder's, or add output."""
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
    return Tree(path, release_of(path), spec, f"folder-{state(path)}", live=True)


def _git(spec: str, say: Say) -> Tree:
    """An export of one commit; the checkout isn't touched."""
    where, _, revision = spec.removeprefix("git:").rpartition("@")
    if not where or not revision:
        raise UsageError(f"{spec!r}: write git:FOLDER@REVISION, as in git:~/linux@v6.12")
    path = Path(where).expanduser()
    if not path.is_dir():
        raise SourceError(f"there is no folder {path}")
    git = Git(path)
    text = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False).strip()
    if not COMMIT.fullmatch(text):
        raise SourceError(f"{path} has no commit {revision!r} (or is no git repository): {text}")
    key = git.key(text)

    def build(folder: Path) -> tuple[dict[str, Any], list[str]]:
        say(f"exporting {revision} of {path}")
        archive = folder / "tree.tar"
        try:
            git("archive", "--format=tar", "-o", str(archive), text)
        except ToolError as error:
            if "No space left" in error.tail:
                raise OSError(errno.ENOSPC, "No space left on device", str(archive)) from error
            raise SourceError(f"{revision} of {path} can't be exported:\n{error.tail}") from error
        unpack(archive, folder / "tree", strip=False)
        archive.unlink()
        data = {"release": release_of(folder / "tree", path), "spec": spec}
        return data, ["tree/Makefile"]

    entry = cache.make("sources", key, build, say)
    return Tree(entry.path / "tree", entry.data["release"], spec, key)


class Git:
    """git in a repository of the user's, without what would let it look at, or export, something
    else: variables of the environment, replaced commits, conversions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *arguments: str, check: bool = True) -> str:
        options = [word for value in PLAIN for word in ("-c", value)]
        env = {**dict.fromkeys(ELSEWHERE), "GIT_NO_REPLACE_OBJECTS": "1", "GIT_ATTR_NOSYSTEM": "1"}
        argv = ["git", "-C", str(self._folder), *options, *arguments]
        return proc.run(argv, env={**env, "GIT_OPTIONAL_LOCKS": "0"}, check=check)

    def key(self, commit: str) -> str:
        """What an export of a commit comes from: of a folder within a repository only that folder
        is exported, and a file of the repository may say what isn't."""
        prefix = self("rev-parse", "--show-prefix", check=False).strip()
        attributes = self._folder / self("rev-parse", "--git-path", "info/attributes").strip()
        more = [prefix] if prefix else []
        with contextlib.suppress(OSError):
            more.append(cache.digest(attributes))
        if not more:
            return f"git-{commit}"
        return f"git-{commit}-{hashlib.sha256(repr(more).encode()).hexdigest()[:8]}"


def _tarball(spec: str, path: Path, say: Say) -> Tree:
    key = f"tar-{cache.digest(path)[:20]}"

    def build(folder: Path) -> tuple[dict[str, Any], list[str]]:
        say(f"unpacking {path.name}")
        unpack(path, folder / "tree", strip=True)
        data = {"release": release_of(folder / "tree", path), "spec": str(path)}
        return data, ["tree/Makefile"]

    entry = cache.make("sources", key, build, say)
    return Tree(entry.path / "tree", entry.data["release"], spec, key)
