# SPDX-License-Identifier: GPL-2.0
"""Edit, test: a kernel whose last build differs from the tree by some C files only.

make asks thousands of files what they depend on before it compiles one: seconds.  Here the last
image says what it was made from; where only sources changed that nobody includes, they are
compiled by the commands that it kept, and the kernel is linked again.  Everything else is make's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel import cache
from anykernel.build.compile import commands, compile_c
from anykernel.build.kept import sound
from anykernel.build.relink import relink, strip
from anykernel.source.state import everything

if TYPE_CHECKING:
    from anykernel.build.image import Image

INPUTS = "inputs.json"
MOST = 8
"""Files that are compiled here at most; of more make compiles several at a time."""
RULES = re.compile(r"^(Makefile|Kbuild|Kconfig)|\.(mk|lds\.S|awk|sh|pl|tbl)$")
"""Files that say how to build, though no object is made from them."""
DEPENDENCY = re.compile(r"^  (\S+) \\$", re.M)


def note(source: Path, composed: Path, objects: Path, kept: Path) -> None:
    """Writes down what the objects of a build were made from, with sizes and times."""
    inputs: set[str] = set()
    included: set[str] = set()
    for name in commands(kept):
        file = objects / name
        command = file.with_name(f".{file.name}.cmd")
        own = str(composed / name.removesuffix(".o")) + ".c"
        if command.exists():
            found = set(DEPENDENCY.findall(command.read_text())) | {own}
            inputs |= found
            included |= found - {own}
    # The source, not the composed tree: a walk looks where each of its links leads.
    for place, _, entries in everything(source):
        inside = os.path.normpath(composed / place)
        inputs |= {f"{inside}/{one.name}" for one in entries if RULES.search(one.name)}
    states = {path: state for path in sorted(inputs) if (state := _state(path))}
    record = {"inputs": states, "included": sorted(p for p in included if p.endswith(".c"))}
    (kept / INPUTS).write_text(json.dumps(record, indent=0))


def changed(last: Image) -> list[str] | None:
    """The objects that have to be compiled again; None when that isn't for us to say."""
    try:
        record = json.loads((last.objects / INPUTS).read_text())
    except (OSError, ValueError):
        return None
    known = commands(last.objects)
    found = []
    for path, state in record["inputs"].items():
        now = _state(path)
        if now == state:
            continue
        name = os.path.relpath(path, last.tree).removesuffix(".c") + ".o"
        if now is None or path in record["included"] or name not in known:
            return None
        found.append(name)
    return found if found and len(found) <= MOST else None


class Begun:
    """The compiling part of a rebuild, begun before anybody knows that it is wanted: while Python
    still looks what else is new in the tree, the other processor would idle."""

    def __init__(self, last: Image, names: list[str]) -> None:
        self._last = last
        self._names = names
        self._states = self._now()
        folder = cache.directory("images")
        self._folder = Path(tempfile.mkdtemp(prefix=f"{cache.PREFIX}begun-", dir=folder))
        self._threads = ThreadPoolExecutor(1)
        self._done = self._threads.submit(_compile, last, names, self._folder / "objects")

    def take(self, names: list[str], to: Path) -> bool:
        """Moves the objects to `to`, if they are of what the sources are now.  Raises
        BuildError."""
        if names != self._names or self._now() != self._states:
            return False
        self._done.result()
        os.rename(self._folder / "objects", to)
        return True

    def end(self) -> None:
        """Removes what nobody took."""
        self._threads.shutdown(cancel_futures=True)
        cache.remove(self._folder)

    def _now(self) -> list[list[int] | None]:
        return [_state(str(_source(self._last, name))) for name in self._names]


def begin(last: Image) -> Begun | None:
    """Starts to compile what changed since `last`; None when there is nothing for us to do."""
    names = changed(last)
    # What is wrong (a cache that can't be written, say) shows when it is done in earnest.
    with contextlib.suppress(OSError, cache.CacheError):
        return Begun(last, names) if names else None
    return None


def usable(last: Image) -> bool:
    """Whether what an image kept for a link is as it was kept; if not, the image is removed."""
    try:
        sound(last)
    except cache.Damaged:
        return False
    return True


def rebuild(last: Image, names: list[str], to: Path, begun: Begun | None = None) -> None:
    """Makes in `to` what `last` is, with some objects compiled again.  Raises BuildError."""
    objects = to / "objects"
    if not (begun and begun.take(names, objects)):
        _compile(last, names, objects)
    record = json.loads((objects / INPUTS).read_text())
    for name in names:
        path = str(_source(last, name))
        record["inputs"][path] = _state(path)
    (objects / INPUTS).unlink()
    (objects / INPUTS).write_text(json.dumps(record, indent=0))
    order = (objects / "order").read_text().split()
    with tempfile.TemporaryDirectory(prefix="anykernel-link-") as scratch:
        relink(replace(last, objects=objects), [objects / name for name in order], Path(scratch))
        shutil.copyfile(Path(scratch) / "vmlinux", to / "vmlinux")
    strip(to / "vmlinux", to / last.library.name)
    for name in ("config", "build.log"):
        shutil.copyfile(last.vmlinux.with_name(name), to / name)


def _compile(last: Image, names: list[str], objects: Path) -> None:
    # Links, not copies: what an image keeps is never written again.
    shutil.copytree(last.objects, objects, copy_function=os.link, symlinks=True)
    for name in names:
        for old in (objects / name, objects / (name.removesuffix(".o") + ".dwo")):
            old.unlink(missing_ok=True)
        # The name of the types' file in it is that of the output, from the current folder.
        source = _source(last, name)
        compile_c(last, source, Path(name), like=name, folder=objects, cached=False)


def _source(last: Image, name: str) -> Path:
    return last.tree / (name.removesuffix(".o") + ".c")


def _state(path: str) -> list[int] | None:
    """Size and time of a file; None where it isn't there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
