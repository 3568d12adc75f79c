# SPDX-License-Identifier: GPL-2.0
"""Image: a built kernel library in the cache, and how to get one."""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.build import kbuild, kconfig
from anykernel.build.compose import compose, overlay_id
from anykernel.build.kbuild import Progress
from anykernel.build.kept import keep
from anykernel.source import Tree, fetch

FORMAT = "6"
"""Of an entry in the cache: another when older ones can't be read any more."""


@dataclass(frozen=True)
class Image:
    """A kernel as a shared library, whole and unchanged since it was built."""

    id: str
    library: Path
    """liblinux-VERSION.so, stripped: what the host loads."""
    vmlinux: Path
    """The same with symbols and line tables."""
    release: str
    source: str
    flavour: str
    config: Path
    tree: Path
    """The composed tree that it was built from."""
    objects: Path = Path()
    """What it was linked from, by paths in the tree; see kept.py."""
    components: tuple[str, ...] = ()
    """The parts of the whole kernel that it was linked from; none: all."""
    ledger: Path | None = None
    """The list of its stubs, where it has only parts."""


def ensure_image(
    source: str = "debian:6.1",
    flavour: str = "default",
    *,
    config: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Image:
    """The image of a source in a flavour, with `config` values on top; built if it is absent.

    Several processes may ask at once: one builds.  Raises UsageError, SourceError, KconfigError,
    BuildError, ToolError, CacheError.
    """
    wanted = kconfig.requests(flavour, config)

    def say(text: str) -> None:
        if progress:
            progress(text, 0, 0)

    tree = fetch(source, say)
    key = _key(tree, wanted)
    found = cache.load("images", key)
    if found is None:
        found = cache.make("images", key, lambda to: _build(tree, wanted, to, progress), say)
    path, data = found.path, found.data
    return Image(
        id=key,
        library=path / data["library"],
        vmlinux=path / "vmlinux",
        release=data["release"],
        source=source,
        flavour=flavour,
        config=path / "config",
        tree=Path(data["tree"]),
        objects=path / "objects",
    )


def _key(tree: Tree, wanted: list[kconfig.Request]) -> str:
    parts = [FORMAT, tree.id, overlay_id(), kconfig.fragment(wanted), _compiler()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _compiler() -> str:
    """The compiler's and the linker's versions."""
    said = []
    for tool in ("gcc", "ld"):
        try:
            done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
        except FileNotFoundError:
            raise proc.missing(tool) from None
        said.append(done.stdout.splitlines()[0])
    return "\n".join(said)


def _build(
    tree: Tree, wanted: list[kconfig.Request], to: Path, progress: Progress | None
) -> tuple[dict[str, Any], list[str]]:
    for tool in ("make", "flex", "bison", "bc"):
        if shutil.which(tool) is None:
            raise proc.missing(tool)
    if progress:
        progress("composing the tree", 0, 0)
    composed = compose(tree)
    digest = hashlib.sha256(kconfig.fragment(wanted).encode()).hexdigest()[:8]
    objects = cache.directory("objects") / f"{composed.name}-{digest}"
    # Two images of one tree and configuration (an older overlay, say) share the objects.
    with cache.locked(f"objects-{objects.name}"):
        objects.mkdir(exist_ok=True)
        log = objects / "build.log"
        log.write_text("")
        if progress:
            progress("configuring", 0, 0)
        kbuild.configure(composed, objects, wanted)
        for old in objects.glob("liblinux-*.so"):  # of a release that the folder held before
            old.unlink()
        kbuild.library(composed, objects, log, progress)
        # make adapts the configuration to a Kconfig that was edited since.
        kconfig.verify(wanted, objects / ".config", composed)
        (library,) = objects.glob("liblinux-*.so")
        unstripped = objects / "vmlinux.unstripped"
        shutil.copyfile(library, to / library.name)
        shutil.copyfile(unstripped if unstripped.exists() else objects / "vmlinux", to / "vmlinux")
        shutil.copyfile(objects / ".config", to / "config")
        shutil.copyfile(log, to / "build.log")
        keep(objects, to / "objects")
    data = {"release": tree.release, "tree": str(composed), "spec": tree.spec}
    data["library"] = library.name
    return data, [library.name, "vmlinux", "config"]
