# SPDX-License-Identifier: GPL-2.0
"""Image: a built kernel library in the cache, and how to get one."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.build import kbuild, kconfig, quick
from anykernel.build.beside import OBJECTS, surround
from anykernel.build.compose import compose, live_name
from anykernel.build.edits import HEADERS, forget_gone
from anykernel.build.inputs import changed, note
from anykernel.build.kbuild import Progress
from anykernel.build.kept import keep
from anykernel.build.overlay import overlay_headers, overlay_id
from anykernel.errors import BuildError, UsageError
from anykernel.settings import settings
from anykernel.source import Tree, fetch

FORMAT = "8"
"""Of an entry in the cache: another when older ones can't be read any more."""


LAST = ".anykernel-last"
"""In a folder of objects: which image was made there last."""
GUARDED = ["vmlinux", "config"]
REFUSED = "refused"
"""In an entry: what a whole .config set and the kernel doesn't have, a line each."""
SHOWN = 5
PATIENCE = 3
"""How often a tree is built that is edited at the same time."""


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
    requested: tuple[tuple[str, str], ...] = ()
    """The configuration that was asked for over the flavour's."""

    @property
    def refused(self) -> list[str]:
        """What the whole .config that is its flavour set and it doesn't have, a line each."""
        path = self.vmlinux.with_name(REFUSED)
        return path.read_text().splitlines() if path.exists() else []

    def of_refused(self) -> str:
        """The same for people: how many, the first ones, and where all are; empty for none."""
        lines = self.refused
        if not lines:
            return ""
        more = f"\n  ... all: {self.vmlinux.with_name(REFUSED)}" if len(lines) > SHOWN else ""
        return (
            f"{self.flavour}: {len(lines)} of its values can't be had in a library:\n  "
            + "\n  ".join(lines[:SHOWN])
            + more
        )

    @property
    def root(self) -> Path:
        """What its tree was to its build: `..`, seen from its objects."""
        return self.objects.parent


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

    where = cache.place("images")
    if not where.is_dir():  # a cache that was moved here may serve, whatever it is called
        _check_name()
    for _ in range(PATIENCE):
        begun = _begin(source, wanted)
        try:
            tree = fetch(source, say)
            key = _key(tree, wanted)
            job = _Job(tree, wanted, progress, begun)
            found = cache.make("images", key, functools.partial(_build, job), say)
            break
        except _Edited:
            say("the tree was edited meanwhile: once more")
        finally:
            if begun:
                begun.end()
    else:
        raise BuildError(f"{source} was edited each time while it was built: let it rest")
    image = _image(key, found, source, flavour)
    return replace(image, requested=tuple((config or {}).items()))


def again(image: Image) -> None:
    """Makes a whole kernel's entry in the cache anew, after it was found damaged.  Raises what
    ensure_image() does, and CacheError when its source has changed meanwhile."""
    made = ensure_image(image.source, image.flavour, config=dict(image.requested))
    if made.id != image.id:
        raise cache.CacheError(
            f"the kernel's entry in the cache, {image.vmlinux.parent}, was damaged, and its source "
            "has changed since it was built: run this again"
        )


def _begin(source: str, wanted: list[kconfig.Request]) -> quick.Begun | None:
    """For a user's folder that was built before: what can be begun at once."""
    path = Path(source).expanduser()
    if not source or not path.is_dir():
        return None
    last = _last(_place(live_name(path.resolve()), wanted))
    return quick.begin(last) if last else None


def _place(composed: str, wanted: list[kconfig.Request]) -> Path:
    """Where a composed tree is built in a configuration."""
    digest = hashlib.sha256(f"{FORMAT}\0{kconfig.fragment(wanted)}".encode()).hexdigest()[:8]
    return cache.place("objects") / f"{composed}-{digest}"


def _image(key: str, entry: cache.Entry, source: str, flavour: str) -> Image:
    path, data = entry.path, entry.data
    return Image(
        id=key,
        library=path / data["library"],
        vmlinux=path / "vmlinux",
        release=data["release"],
        source=source,
        flavour=flavour,
        config=path / "config",
        tree=cache.place("trees") / data["tree"],
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


class _Edited(Exception):
    """The tree isn't any more what the image's key says."""


@dataclass(frozen=True)
class _Job:
    tree: Tree
    wanted: list[kconfig.Request]
    progress: Progress | None
    begun: quick.Begun | None


def _check_name() -> None:
    if why := kbuild.unworkable(settings().cache_dir):
        raise UsageError(f"{why}: set ANYKERNEL_CACHE to a folder that is called otherwise")


def _build(job: _Job, to: Path) -> tuple[dict[str, Any], list[str]]:
    tree, wanted, progress = job.tree, job.wanted, job.progress
    for tool in ("make", "flex", "bison", "bc"):
        if shutil.which(tool) is None:
            raise proc.missing(tool)
    _check_name()
    if progress:
        progress("composing the tree", 0, 0)
    composed = compose(tree)
    build = _place(composed.name, wanted)
    # Two images of one tree and configuration (an older overlay, say) share the objects.
    with cache.locked(f"objects-{build.name}"):
        cache.directory("objects")
        objects = build / OBJECTS
        objects.mkdir(parents=True, exist_ok=True)
        cache.trusted(build)
        log = build / "build.log"
        log.write_text("")
        data = {"release": tree.release, "tree": composed.name, "spec": tree.spec}
        last = _last(build)
        touched = changed(last) if last else None
        maker = json.dumps({"image": _key(tree, wanted), "maker": _maker()})
        if last and touched and quick.usable(last):
            if progress:
                progress(", ".join(touched), 0, len(touched))
            if not quick.rebuild(last, touched, to, job.begun):
                _still(tree)
            (build / LAST).write_text(maker)
            data |= {"library": last.library.name, cache.LINKED: last.id}
            return data, [last.library.name, *GUARDED]
        if progress:
            progress("configuring", 0, 0)
        (build / LAST).unlink(missing_ok=True)  # what it says is no longer so
        _surround(build, composed)
        kbuild.configure(build, composed, wanted)
        for old in objects.glob("liblinux-*.so"):  # of a release that the folder held before
            old.unlink()
        kbuild.library(build, composed, log, progress)
        kconfig.verify(wanted, objects / ".config", composed)
        (library,) = objects.glob("liblinux-*.so")
        unstripped = objects / "vmlinux.unstripped"
        shutil.copyfile(library, to / library.name)
        shutil.copyfile(unstripped if unstripped.exists() else objects / "vmlinux", to / "vmlinux")
        shutil.copyfile(objects / ".config", to / "config")
        shutil.copyfile(log, to / "build.log")
        if refused := kconfig.refused(wanted, objects / ".config", composed):
            (to / REFUSED).write_text("\n".join([*refused, ""]))
        keep(objects, to / OBJECTS)
        surround(to, composed, files=False)
        note(tree.path, build, to / OBJECTS)
        _still(tree)
        (build / LAST).write_text(maker)
    return {**data, "library": library.name}, [library.name, *GUARDED]


def _still(tree: Tree) -> None:
    """Raises _Edited if a user's folder isn't what it was."""
    if tree.live and fetch(tree.spec).id != tree.id:
        raise _Edited


def _surround(build: Path, composed: Path) -> None:
    """What make needs to build in `build`."""
    surround(build, composed, files=True)
    seen = build / HEADERS
    ours = "\n".join([*overlay_headers(composed), ""])
    if not seen.exists() or not seen.read_text().startswith(ours):
        # Nothing notes which headers an object did without.
        cache.remove(build / OBJECTS)
        (build / OBJECTS).mkdir()
    seen.write_text(ours + (composed / HEADERS).read_text())
    forget_gone(build, composed)


def _maker() -> list[str]:
    return [FORMAT, _compiler(), overlay_id()]


def _last(build: Path) -> Image | None:
    """The image that was made last in a folder of objects, if it is still there."""
    try:
        record = json.loads((build / LAST).read_text())
    except (OSError, ValueError):
        return None
    if record.get("maker") != _maker():
        return None
    found = cache.load("images", record["image"])
    return _image(record["image"], found, "", "") if found else None
