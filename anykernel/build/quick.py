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
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel import cache
from anykernel.build.beside import surround
from anykernel.build.compile import compile_c
from anykernel.build.edits import state_of
from anykernel.build.inputs import INPUTS, changed
from anykernel.build.kept import sound
from anykernel.build.relink import relink, strip

if TYPE_CHECKING:
    from anykernel.build.image import Image


class Begun:
    """The compiling part of a rebuild, begun before anybody knows that it is wanted: while Python
    still looks what else is new in the tree, the other processor would idle."""

    def __init__(self, last: Image, names: list[str]) -> None:
        self._last = last
        self._names = names
        self._states = self._now()
        folder = cache.directory("images")
        with cache.explained(folder):
            self._folder = Path(tempfile.mkdtemp(prefix=f"{cache.PREFIX}begun-", dir=folder))
        surround(self._folder, last.tree, files=False)
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
        return [state_of(str(_source(self._last, name))) for name in self._names]


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


def rebuild(last: Image, names: list[str], to: Path, begun: Begun | None = None) -> bool:
    """Makes in `to` what `last` is, with some objects compiled again.

    Returns whether they were compiled before the tree was looked through, and so are what was
    found there.  Raises BuildError.
    """
    surround(to, last.tree, files=False)
    objects = to / "objects"
    taken = begun is not None and begun.take(names, objects)
    if not taken:
        _compile(last, names, objects)
    record = json.loads((objects / INPUTS).read_text())
    for name in names:
        source = _source(last, name)
        record["inputs"][os.path.relpath(source, last.root)] = state_of(str(source))
    (objects / INPUTS).unlink()
    (objects / INPUTS).write_text(json.dumps(record, indent=0))
    order = (objects / "order").read_text().split()
    with tempfile.TemporaryDirectory(prefix="anykernel-link-") as scratch:
        relink(replace(last, objects=objects), [objects / name for name in order], Path(scratch))
        shutil.copyfile(Path(scratch) / "vmlinux", to / "vmlinux")
    strip(to / "vmlinux", to / last.library.name)
    for name in ("config", "build.log", "refused"):
        if last.vmlinux.with_name(name).exists():
            shutil.copyfile(last.vmlinux.with_name(name), to / name)
    return taken


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
    return last.root / (name.removesuffix(".o") + ".c")
