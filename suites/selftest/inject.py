# SPDX-License-Identifier: GPL-2.0
"""C code put into a booted kernel, to be as wrong there as a kernel can be: it is compiled with
the image's own headers and flags and lies where the code that only booting needs was."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from anykernel.build.compile import compile_c
from anykernel.build.image import Image
from anykernel.host import Instance
from anykernel.kernel import Kernel
from anykernel.link.symbols import Symbols

INCLUDES = """\
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#line 1 "injected.c"
"""
LAYOUT = """\
SECTIONS {
	. = CODE;
	.code : { *(.text .text.*) *(.rodata .rodata.*) }
	. = DATA;
	.writable : { *(.data .data.*) *(.got .got.*) *(.bss .bss.*) *(COMMON) LONG(0) }
	/DISCARD/ : { *(*) }
}
"""
# The code isn't in the kernel's tables (of bugs, of exceptions, of static keys), and is no test of
# the compiler's warnings.
EXTRA = ["-w", "-g0", "-gno-split-dwarf"]


class Injected:
    """Functions of `source` in `kernel`, called by name with words: `Injected(kernel, "long go(long
    a) { return a + 1; }")("go", 1)`.

    It is there until the kernel is thrown away, or until a restore takes changes of code back.
    A second one lies where the first did.  Raises BuildError, ValueError for what can't be linked,
    and what Instance.call() does when a function is called.
    """

    def __init__(self, kernel: Kernel, source: str) -> None:
        self._instance = cast("Instance", kernel.instance)
        parts, self.symbols = _linked(kernel.image, self._instance.image_base, source)
        for address, data in parts:
            self._instance.write_memory(address, data)

    def __call__(self, name: str = "go", *words: int) -> int:
        """What the function returns, as a signed long."""
        given = [word & (1 << 64) - 1 for word in words]
        result, _ = self._instance.call(self.symbols[name], given)
        return result - (1 << 64) if result >> 63 else result


def _places(image: Image, base: int) -> dict[str, range]:
    """Addresses of code and of data that nothing needs after booting, by section of LAYOUT."""
    known = Symbols.of(image.vmlinux).addresses

    def between(first: str, end: str) -> range:
        return range(base + known[first] + 63 & -64, base + known[end])

    return {
        "code": between("_sinittext", "_einittext"),
        "writable": between("__init_begin", "__init_end"),
    }


@functools.cache
def _linked(image: Image, base: int, source: str) -> tuple[list[tuple[int, bytes]], dict[str, int]]:
    """(address, bytes) of code and data, and where functions and variables lie."""
    places, known = _places(image, base), Symbols.of(image.vmlinux).addresses
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "injected.c").write_text(INCLUDES + source)
        object_file, elf, raw = folder / "injected.o", folder / "elf", folder / "raw"
        compile_c(image, folder / "injected.c", object_file, extra=EXTRA, cached=False)
        layout = folder / "layout"
        layout.write_text(
            LAYOUT.replace("CODE", hex(places["code"].start)).replace(
                "DATA", hex(places["writable"].start)
            )
        )
        given = [f"--defsym={n}={base + known[n]:#x}" for n in _undefined(object_file, known)]
        _run("ld", "-T", str(layout), "-o", str(elf), str(object_file), *given)
        parts = []
        for section, place in places.items():
            # What is zero at first is written, too: the room had other contents.
            flags = f".{section}=alloc,load,contents"
            _run("objcopy", "-O", "binary", "--set-section-flags", flags, "-j", f".{section}",
                 str(elf), str(raw))  # fmt: skip
            parts.append((place.start, raw.read_bytes()))
            if len(parts[-1][1]) > len(place):
                raise ValueError(f"{section}: {len(parts[-1][1])} bytes, room for {len(place)}")
        symbols = {name: int(at, 16) for at, _, name in map(str.split, _lines("nm", str(elf)))}
    return parts, symbols


def _undefined(o: Path, known: dict[str, int]) -> Iterator[str]:
    names = [line.split()[-1] for line in _lines("nm", "-u", str(o))]
    missing = [name for name in names if name not in known and name != "_GLOBAL_OFFSET_TABLE_"]
    if missing:
        raise ValueError(f"the kernel has no {', '.join(missing)}")
    return (name for name in names if name in known)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{argv[0]}: {done.stderr}")
    return done.stdout


def _lines(*argv: str) -> list[str]:
    return _run(*argv).splitlines()
