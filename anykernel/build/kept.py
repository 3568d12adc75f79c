# SPDX-License-Identifier: GPL-2.0
"""What an image keeps of its build, so that others can be linked and compiled from it.

The build's own folder is no such place: the next build writes into it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel import cache, proc

if TYPE_CHECKING:
    from anykernel.build.image import Image

COMMANDS = "commands.json"
LINK = "link.cmd"
RECORDED = re.compile(r"^(?:saved)?cmd_(\S+) := (?:ccache )?(.*)$", re.M)
"""How Kbuild notes the command that made a file; "saved" since 6.2."""
OF_THE_FOLDER = re.compile(r"-fdebug-prefix-map=\S+ ")
"""Where the build's folder was: whoever compiles again says where his is."""
LINKERS = (
    "scripts/kallsyms",
    "scripts/sorttable",
    "include/config/auto.conf",
    "arch/lib/kernel/vmlinux.lds",
    "init/version-timestamp.o",
    "init/version-timestamp.dwo",
    ".vmlinux.export.o",
    ".vmlinux.export.dwo",
)
"""What link-vmlinux.sh reads besides vmlinux.a and lib.a; the last is there since 6.13."""


def keep(objects: Path, to: Path) -> None:
    """Copies objects with their types (.dwo), their link order (`order`, `library`), the
    commands that made them, and the generated headers."""
    to.mkdir()
    commands = {}
    for archive, record in (("vmlinux.a", "order"), ("lib/lib.a", "library")):
        listed = proc.run(["ar", "t", archive], cwd=objects) if (objects / archive).exists() else ""
        for name in listed.split():
            _copy(objects, name, to)
            types = name.removesuffix(".o") + ".dwo"
            if (objects / types).exists():  # not of assembler
                _copy(objects, types, to)
            commands[name] = OF_THE_FOLDER.sub("", recorded(objects, name))
        (to / record).write_text(listed)
    if library := (to / "library").read_text().split():
        proc.run(["ar", "cDrsT", "lib/lib.a", *library], cwd=to)  # thin: paths only
    (to / COMMANDS).write_text(json.dumps(commands, indent=0))
    for header in sorted(objects.rglob("*.h")):
        _copy(objects, str(header.relative_to(objects)), to)
    for name in LINKERS:
        if (objects / name).exists():
            _copy(objects, name, to)
    for image in ("vmlinux.unstripped", "vmlinux"):  # the former is what is linked since 6.15
        if command := recorded(objects, image):
            (to / LINK).write_text(command.partition(";")[0])
            break


def sound(image: Image, *, read: bool = True) -> None:
    """Raises cache.Damaged unless all that others are linked and compiled from is as it was kept.

    Types are not: debuginfo looks at those.  read: see cache.sound().
    """
    kept = (path for path in cache.listed(image.objects) if path.suffix != ".dwo")
    cache.sound(kept, read=read)


def recorded(objects: Path, name: str) -> str:
    """The command that made `name`, as Kbuild noted it, or ''."""
    file = objects / name
    note = file.with_name(f".{file.name}.cmd")
    match = RECORDED.search(note.read_text()) if note.exists() else None
    return match[2].strip() if match else ""


def _copy(objects: Path, name: str, to: Path) -> None:
    (to / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(objects / name, to / name)
