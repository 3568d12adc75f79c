# SPDX-License-Identifier: GPL-2.0
"""An image of two or three C files, so that each hard case of a stub is built and run in a
moment: net/user/ is chosen, net/home/ is absent."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anykernel.build import Image
from anykernel.link import debuginfo
from anykernel.link.components import objects
from anykernel.link.elf import ObjectFile
from anykernel.link.policy import Policy
from anykernel.link.select import Selection, select
from anykernel.link.stubs import Generator, Stub, Wanted

FLAGS = ["-O2", "-g", "-std=gnu11", "-fno-pie", "-fno-common", "-mno-red-zone"]
STRICT = ["-Wall", "-Wextra", "-Wmissing-prototypes", "-Wstrict-prototypes", "-Werror"]
HEADERS = {
    "types.h": "typedef unsigned int u32;\ntypedef unsigned long u64;\n",
    "stddef.h": "#define NULL ((void *)0)\n",
    "errno.h": "#define ENOENT 2\n",
}
# What runs at boot is never drawn in by who needs it.
INITCALL = """
static int __attribute__((used)) start_%s(void) { return 0; }
asm(".pushsection .initcall6.init,\\"a\\"\\n.long start_%s - .\\n.popsection");
"""
REACHED = """
#include <stdio.h>
void lib_stub_reached(unsigned number, const char *name, unsigned granted, unsigned count,
                      const unsigned long *args);
void lib_stub_reached(unsigned number, const char *name, unsigned granted, unsigned count,
                      const unsigned long *args)
{
    printf("%u:%s%s", number, name, granted ? " granted" : "");
    for (unsigned i = 0; i < count; i++)
        printf(" %#lx", args[i]);
    puts("");
}
"""


def tool(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@dataclass
class Tiny:
    """Files by path are compiled to objects; link() chooses net/user and stubs the rest."""

    folder: Path
    policy: Policy = field(default_factory=Policy)
    flags: dict[str, list[str]] = field(default_factory=dict)
    """Compiler options of single files."""
    paths: list[str] = field(default_factory=list)
    text: str = ""
    stubs: list[Stub] = field(default_factory=list)

    def write(self, path: str, code: str, *flags: str) -> None:
        """Adds a C file, or one of assembler by its name."""
        source = self.folder / path
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(code)
        name = str(Path(path).with_suffix(".o"))
        tool("gcc", *FLAGS, *flags, f"-I{self.folder}", "-c", source, "-o", self.folder / name)
        self.paths.append(name)

    def home(self, code: str, *flags: str) -> None:
        self.write("net/home/home.c", code + INITCALL % ("home", "home"), *flags)

    def user(self, code: str) -> None:
        self.write("net/user/user.c", code)

    def image(self) -> Image:
        """The whole: what a kernel's image is for select()."""
        (self.folder / "order").write_text("\n".join(self.paths))
        (self.folder / "library").write_text("")
        whole = self.folder / "whole.so"
        tool("ld", "-r", *(self.folder / path for path in self.paths), "-o", whole)
        plain: dict[str, Any] = {"release": "0", "source": "", "flavour": "", "config": whole}
        return Image(
            id=str(self.folder).replace("/", "-"),
            library=whole,
            vmlinux=whole,
            tree=self.folder,
            objects=self.folder,
            **plain,
        )

    def selection(self) -> Selection:
        return select(self.image(), ["net/user"], self.policy)

    def generate(self) -> None:
        """Writes stubs.c.  Raises BuildError."""
        image = self.image()
        selection = select(image, ["net/user"], self.policy)
        homes = {s: one.path for one in objects(image) for s in one.defined | one.weak}
        have = {s for one in selection.objects for s in one.defined | one.weak}
        types = debuginfo.program(image.vmlinux)
        generator = Generator(types, self.folder, homes, have, self.policy)
        self.text = generator.generate(
            Wanted(one.symbol, one.home.path, one.users) for one in selection.missing.values()
        )
        self.stubs = generator.stubs

    def run(self) -> list[str]:
        """Compiles, links and runs: the lines that are printed."""
        self.generate()
        (self.folder / "linux").mkdir()
        for name, text in HEADERS.items():
            (self.folder / "linux" / name).write_text(text)
        (self.folder / "stubs.c").write_text(self.text)
        (self.folder / "reached.c").write_text(REACHED)
        stubs, reached = self.folder / "stubs.o", self.folder / "reached.o"
        strict = [*FLAGS, *STRICT, "-fno-builtin", f"-I{self.folder}"]
        tool("gcc", *strict, "-c", self.folder / "stubs.c", "-o", stubs)
        tool("gcc", *FLAGS, *STRICT, "-c", self.folder / "reached.c", "-o", reached)
        chosen = [self.folder / one.path for one in self.selection().objects]
        tool("gcc", "-no-pie", *chosen, stubs, reached, "-o", self.folder / "program")
        return tool(self.folder / "program").splitlines()

    @property
    def symbols(self) -> list[str]:
        return sorted(one.symbol for one in self.stubs)

    def made(self) -> ObjectFile:
        """The compiled stubs."""
        return ObjectFile(self.folder / "stubs.o")
