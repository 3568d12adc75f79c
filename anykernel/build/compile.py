# SPDX-License-Identifier: GPL-2.0
"""Compiling C files as a kernel's own were: with the commands that its image kept."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel import proc
from anykernel.build.beside import OBJECTS, gone
from anykernel.build.compose import own_paths
from anykernel.build.edits import HEADERS
from anykernel.build.kept import COMMANDS
from anykernel.errors import BuildError, ToolError, UsageError
from anykernel.settings import settings

if TYPE_CHECKING:
    from anykernel.build.image import Image

LIKE = "arch/lib/kernel/stub.o"
"""An object without any wishes of its own."""


@functools.cache
def commands(objects: Path) -> dict[str, str]:
    """Object to the command that made it, as an image kept it."""
    found: dict[str, str] = json.loads((objects / COMMANDS).read_text())
    return found


def flags_of(image: Image, name: str) -> list[str]:
    """How the compiler was called for an object, without its input and output; its paths are seen
    from the image's objects, or another such folder (beside.py).

    Raises UsageError for an object that no compiler made, or when its tree is gone.
    """
    words = shlex.split(commands(image.objects).get(name, ""))
    if "-c" not in words:
        raise UsageError(f"it isn't known how {name} was compiled")
    if gone(image.root):
        raise UsageError(f"the kernel's tree {image.tree} is gone; anykernel build makes it again")
    return [word for word in words[1 : words.index("-c")] if not word.startswith("-Wp,-MM")]


def compile_c(
    image: Image,
    source: Path,
    to: Path,
    *,
    like: str = LIKE,
    extra: Iterable[str] = (),
    folder: Path | None = None,
    cached: bool = True,
) -> None:
    """Compiles `source` to the object `to`, which is seen from `folder` (the image's objects).

    What it says of its source is the same wherever that, the image and `to` lie.  Raises
    BuildError with what the compiler said.
    """
    where = folder or image.objects
    # As in the build's own folder: types are found below "objects" beside the image.
    extra = [*extra, f"-fdebug-prefix-map={os.path.realpath(where)}={OBJECTS}"]
    if source.is_relative_to(image.root):
        seen = os.path.join("..", source.relative_to(image.root))
    else:
        seen = str(source)
        extra.append(f"-ffile-prefix-map={source.parent}=.")
    # What was edited just now is in no cache, and to look costs.
    begin = compiler() if cached else ["gcc"]
    argv = [*begin, *flags_of(image, like), *extra, "-c", "-o", str(to), seen]
    try:
        # The generated headers are found below the current folder.
        proc.run(argv, cwd=where, env=environment(image.root))
    except ToolError as error:
        raise BuildError(
            f"{source.name} doesn't compile",
            argv=argv,
            returncode=error.returncode,
            tail=own_paths(error.tail, image.tree),
        ) from None


def compiler() -> list[str]:
    """gcc, through ccache where there is one that can write to its folder."""
    usable = shutil.which("ccache") is not None and not ccache_refused()
    return ["ccache", "gcc"] if usable else ["gcc"]


def ccache_refused() -> str:
    """Why ccache could keep nothing; empty where it can."""
    folder = settings().ccache_dir
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return ""
    return f"{existing} can't be written to"


def environment(root: Path) -> dict[str, str | None]:
    """Of compilers and of make in a folder beside a tree: what they write depends on nothing in
    the user's."""
    # ccache looks at the headers that a file included, so it doesn't see that another one, of the
    # same name, would be found earlier now.
    headers = root / HEADERS
    return proc.clean(
        CCACHE_DIR=str(settings().ccache_dir),
        CCACHE_NOHASHDIR="1",
        CCACHE_EXTRAFILES=str(headers) if headers.exists() else None,
    )


def preprocess(image: Image, source: Path) -> str:
    """What the compiler sees of `source`.  Raises BuildError."""
    argv = ["gcc", *flags_of(image, LIKE), "-E", "-P", str(source)]
    try:
        return proc.run(argv, cwd=image.objects, env=environment(image.root))
    except ToolError as error:
        raise BuildError(
            f"{source.name} can't be read",
            argv=argv,
            tail=own_paths(error.tail, image.tree),
            returncode=error.returncode,
        ) from None
