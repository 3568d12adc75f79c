# SPDX-License-Identifier: GPL-2.0
"""Linking a kernel again, from kept objects: by its own scripts/link-vmlinux.sh.

Only vmlinux.a is another one.  So kallsyms, sorted tables and all else are what they always are.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel import proc
from anykernel.build.beside import OBJECTS, again
from anykernel.build.compile import commands, flags_of
from anykernel.build.kept import LINK
from anykernel.errors import BuildError, ToolError

if TYPE_CHECKING:
    from anykernel.build.image import Image


def _assembled(image: Image) -> str:
    """An object from assembler: with its flags the table of symbols is assembled."""
    return next(name for name, made in commands(image.objects).items() if made.endswith(".S"))


def relink(image: Image, members: Iterable[Path], work: Path) -> None:
    """Makes work/vmlinux of object files and of what is needed of lib.a; `work` is empty.

    Raises BuildError.
    """
    again(work, image.root)
    objects = work / OBJECTS
    objects.mkdir()
    for entry in image.objects.iterdir():
        if entry.is_dir() or entry.name.startswith("."):
            os.symlink(entry, objects / entry.name)
    # As a file: there are hundreds.
    (objects / "members").write_text("\n".join(shlex.quote(str(one)) for one in members))
    proc.run(["ar", "cDPrST", "vmlinux.a", "@members"], cwd=objects, env=proc.clean())
    script, *arguments = shlex.split((image.objects / LINK).read_text())
    library = (image.objects / "lib" / "lib.a").exists()
    flags = [
        *flags_of(image, _assembled(image)),
        f"-fdebug-prefix-map={os.path.realpath(objects)}=objects",
    ]
    env = {
        "ARCH": "lib",
        "SRCARCH": "lib",
        "srctree": "..",
        "objtree": ".",
        "MAKE": "true",  # what it would make is there
        "CC": "gcc",
        "LD": "ld",
        "NM": "nm",
        "OBJCOPY": "objcopy",
        "CONFIG_SHELL": "sh",
        "KBUILD_LDS": "arch/lib/kernel/vmlinux.lds",
        "KBUILD_VMLINUX_LIBS": "lib/lib.a" if library else "",
        "KBUILD_VERBOSE": "",
        # The shell script splits at spaces and knows no quotes.
        "LINUXINCLUDE": " ".join(f for f in flags if "KBUILD_" not in f),
        **dict.fromkeys(("NOSTDINC_FLAGS", "KBUILD_CPPFLAGS", "KBUILD_AFLAGS"), ""),
        "KBUILD_AFLAGS_KERNEL": "",
    }
    name = arguments[3] if len(arguments) > 3 else "vmlinux"
    try:
        proc.run(["sh", script, *arguments], cwd=objects, env=proc.clean(**env))
    except ToolError as error:
        raise BuildError(
            "the kernel doesn't link",
            argv=error.argv,
            returncode=error.returncode,
            tail=error.tail,
        ) from None
    os.rename(objects / name, work / "vmlinux")


def strip(vmlinux: Path, library: Path) -> None:
    """The library that is loaded: vmlinux without symbols and lines.  Raises ToolError."""
    options = ["--strip-all", "--remove-section=.comment"]
    proc.run(["objcopy", *options, str(vmlinux), str(library)], env=proc.clean())
