# SPDX-License-Identifier: GPL-2.0
"""Compiling C files as a kernel's own were: with the commands that its image kept."""

from __future__ import annotations

import functools
import json
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel import proc
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
    """How the compiler was called for an object, without its input and output.

    Raises UsageError for an object that no compiler made, or when its tree is gone.
    """
    words = shlex.split(commands(image.objects).get(name, ""))
    if "-c" not in words:
        raise UsageError(f"it isn't known how {name} was compiled")
    if not image.tree.is_dir():
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

    Raises BuildError with what the compiler said.
    """
    # What was edited just now is in no cache, and to look costs.
    compiler = ["ccache", "gcc"] if cached and shutil.which("ccache") else ["gcc"]
    where = folder or image.objects
    # As in the build's own folder: types are found below "objects" beside the image.
    extra = [*extra, f"-fdebug-prefix-map={where}=objects"]
    argv = [*compiler, *flags_of(image, like), *extra, "-c", "-o", str(to), str(source)]
    env = {"CCACHE_DIR": str(settings().ccache_dir), "CCACHE_NOHASHDIR": "1"}
    try:
        # The generated headers are found below the current folder.
        proc.run(argv, cwd=where, env=env)
    except ToolError as error:
        raise BuildError(
            f"{source.name} doesn't compile",
            argv=argv,
            returncode=error.returncode,
            tail=error.tail,
            hint="the command: " + shlex.join(argv),
        ) from None


def preprocess(image: Image, source: Path) -> str:
    """What the compiler sees of `source`.  Raises BuildError."""
    argv = ["gcc", *flags_of(image, LIKE), "-E", "-P", str(source)]
    try:
        return proc.run(argv, cwd=image.objects)
    except ToolError as error:
        raise BuildError(
            f"{source.name} can't be read", argv=argv, tail=error.tail, returncode=error.returncode
        ) from None
