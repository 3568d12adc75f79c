# SPDX-License-Identifier: GPL-2.0
"""Compiling further C files as a kernel's own were: with the commands that its image kept."""

from __future__ import annotations

import functools
import json
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

from anykernel import proc
from anykernel.build import Image
from anykernel.build.kept import COMMANDS
from anykernel.errors import BuildError, ToolError, UsageError
from anykernel.settings import settings

LIKE = "arch/lib/kernel/stub.o"
"""An object without any wishes of its own."""


@functools.cache
def commands(image: Image) -> dict[str, str]:
    """Object to the command that made it."""
    found: dict[str, str] = json.loads((image.objects / COMMANDS).read_text())
    return found


def flags_of(image: Image, name: str) -> list[str]:
    """How the compiler was called for an object, without its input and output.

    Raises UsageError for an object that no compiler made, or when its tree is gone.
    """
    words = shlex.split(commands(image).get(name, ""))
    if "-c" not in words:
        raise UsageError(f"it isn't known how {name} was compiled")
    if not image.tree.is_dir():
        raise UsageError(f"the kernel's tree {image.tree} is gone; anykernel build makes it again")
    return [word for word in words[1 : words.index("-c")] if not word.startswith("-Wp,-MM")]


def compile_c(
    image: Image, source: Path, to: Path, *, like: str = LIKE, extra: Iterable[str] = ()
) -> None:
    """Compiles `source` to the object `to`.  Raises BuildError with what the compiler said."""
    compiler = ["ccache", "gcc"] if shutil.which("ccache") else ["gcc"]
    argv = [*compiler, *flags_of(image, like), *extra, "-c", "-o", str(to), str(source)]
    env = {"CCACHE_DIR": str(settings().ccache_dir), "CCACHE_NOHASHDIR": "1"}
    try:
        # The generated headers are found below the current folder.
        proc.run(argv, cwd=image.objects, env=env)
    except ToolError as error:
        raise BuildError(
            f"{source.name} doesn't compile",
            argv=argv,
            returncode=error.returncode,
            tail=error.tail,
            hint="the command: " + shlex.join(argv),
        ) from None
