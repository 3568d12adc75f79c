# SPDX-License-Identifier: GPL-2.0
"""A configuration that a user chooses in the kernel's own menu, as a fragment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from anykernel import cache
from anykernel.build import kbuild, kconfig
from anykernel.build.beside import OBJECTS, surround
from anykernel.build.compose import compose
from anykernel.errors import ToolError
from anykernel.source import Tree

BASE = "default"
"""The flavour that users' fragments add to."""
HINT = "It needs the curses library's headers; on Debian: apt-get install libncurses-dev"


def choose(tree: Tree, path: Path) -> int:
    """Runs `make menuconfig` on this terminal, from the flavour `default` and the fragment `path`
    on, as far as it is there; writes what differs from the flavour to `path`, and what was there
    before to `path`.old.  The number of values that differ.

    Raises KconfigError for a fragment that this tree can't have, ToolError, UsageError.
    """
    composed = compose(tree)
    folder = cache.directory("objects")
    with tempfile.TemporaryDirectory(prefix=f"{cache.PREFIX}menu-", dir=folder) as scratch:
        build = Path(scratch)
        (build / OBJECTS).mkdir()
        surround(build, composed, files=True)
        kbuild.configure(build, composed, kconfig.requests(BASE))
        plain = _minimal(build)
        if path.exists():
            kbuild.configure(build, composed, kconfig.requests(str(path)))
        try:
            kbuild.ask(build, "menuconfig")
        except ToolError as error:
            raise ToolError(str(error), argv=error.argv, hint=HINT) from None
        config = (build / OBJECTS / ".config").read_text()
        text = kconfig.difference(plain, _minimal(build), config)
    if path.exists() and path.read_text() != text:
        os.replace(path, path.with_name(path.name + ".old"))
    path.write_text(text)
    return text.count("\n")


def _minimal(build: Path) -> str:
    kbuild.make(build, "savedefconfig")
    return (build / OBJECTS / "defconfig").read_text()
