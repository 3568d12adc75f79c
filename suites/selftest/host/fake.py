# SPDX-License-Identifier: GPL-2.0
"""The fake kernel: its image, and its requests by name (see fakekernel.c)."""

from __future__ import annotations

import enum
import subprocess
from pathlib import Path

from anykernel.build.image import Image

HERE = Path(__file__).resolve().parent
OVERLAY = HERE.parents[2] / "anykernel" / "overlay"
FLAGS = (
    "-O2 -g1 -Wall -Wextra -Werror -std=gnu11 -fPIC -shared -nostdlib -ffreestanding "
    "-fno-omit-frame-pointer -fno-optimize-sibling-calls -fno-stack-protector "
    "-fno-stack-clash-protection -fno-asynchronous-unwind-tables -fcf-protection=none "
    "-mgeneral-regs-only -Wl,-Bsymbolic,--hash-style=gnu,--no-dynamic-linker,--build-id=none "
    "-Wl,-z,now,-z,noseparate-code,-z,norelro,-z,noexecstack"
)


class Fake(enum.IntEnum):
    """System call numbers of the fake."""

    READ = 1
    POKE = 2
    PEEK = 3
    RAM = 4
    RECURSE = 5
    SPIN = 6
    MACHINE = 7
    SLEEP = 8
    BLOCK = 9
    PANIC = 10
    ILLEGAL = 11
    DIVIDE = 12
    JUMP = 13
    HALT = 14
    STICKY = 15
    RANDOM = 16
    PRINT = 17
    GLOBAL = 18
    STRIPE = 19


def build(folder: Path) -> Image:
    """Compiles the fake into `folder`."""
    library = folder / "liblinux-fake.so"
    source = HERE / "fakekernel.c"
    subprocess.run(
        ["cc", *FLAGS.split(), f"-I{OVERLAY / 'include'}", str(source), "-o", str(library)],
        check=True,
    )
    return Image(
        id="fake",
        library=library,
        vmlinux=library,
        release="0.0-fake",
        source="fake",
        flavour="fake",
        config=folder / "config",
        tree=folder,
    )
