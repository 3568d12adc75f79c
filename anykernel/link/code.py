# SPDX-License-Identifier: GPL-2.0
"""C of a test as code for a running kernel: compiled with the headers and flags of its image, and
linked to where it is to lie there, as a kernel's own module loader would."""

from __future__ import annotations

import difflib
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from anykernel import cache, proc
from anykernel.build import Image, kept
from anykernel.build.compile import compile_c
from anykernel.errors import BuildError, ToolError, UsageError
from anykernel.link.raw import NOBITS, Raw, Section
from anykernel.link.symbols import Symbols
from anykernel.link.unit import KEPT
from anykernel.places import short

FORMAT = "2"
"""Of the entries in the cache."""
KIND = "code"
HEADERS = ("linux/kernel.h", "linux/module.h", "linux/slab.h")
"""What every module begins with."""
FLAGS = [
    *KEPT,
    "-Wno-error",
    "-Wno-missing-prototypes",
    "-Wno-missing-declarations",
    "-Wno-unused-function",
]
GIVEN = "given.c"
"""What a text is called of which nobody knows where it stands."""
WRITE, ALLOC, EXECUTE = 1, 2, 4
GOT = "_GLOBAL_OFFSET_TABLE_"
GOTS = [".got", ".got.plt"]
DISCARDED = (".discard", ".export_symbol", ".eh_frame", ".modinfo", ".note")
"""What belongs to a module's file rather than to its memory."""
BEGIN, END, CONSTRUCTORS = ".initcall", ".exitcall", ".init_array"
ALIGNED = 64


class Where(NamedTuple):
    """Where a text stands: the file and the line of its first one."""

    file: str
    line: int


class Size(NamedTuple):
    """Bytes that code takes, at most: what is executed or only read, and what is written."""

    code: int
    data: int


@dataclass(frozen=True)
class Linked:
    """Code as it is to lie in a kernel."""

    elf: Path
    """All of it at its addresses, with types and lines."""
    parts: tuple[tuple[int, bytes], ...]
    """What is to be written where."""
    begin: tuple[int, ...]
    """Functions without parameters that are to run first, of module_init() and the like; what
    isn't 0 is an error."""
    end: tuple[int, ...]
    """Those of module_exit()."""


def compiled(image: Image, text: str, where: Where | None) -> Path:
    """The object file of a C text; cached by content.

    Raises BuildError with what the compiler said, of the lines of the file where the text stands;
    UsageError when the kernel's tree is gone.
    """
    file, line = where or Where(GIVEN, 1)
    name = file.replace("\\", "\\\\").replace('"', '\\"')
    whole = "".join(f"#include <{header}>\n" for header in HEADERS)
    whole += f'#line {line} "{name}"\n{text}\n'
    parts = [FORMAT, image.id, *FLAGS, whole]
    key = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]

    def make(to: Path) -> tuple[dict[str, Any], list[str]]:
        kept.sound(image, read=False)
        source = to / GIVEN
        source.write_text(whole, errors="surrogateescape")
        try:
            compile_c(image, source, to / "code.o", extra=FLAGS, cached=False)
        except BuildError as error:
            raise BuildError(
                f"the C of {short(file)} doesn't compile",
                argv=error.argv,
                returncode=error.returncode,
                tail=error.tail.replace(file, short(file)),
            ) from None
        source.unlink()
        return {"base": image.id}, ["code.o"]

    return cache.make(KIND, key, make).path / "code.o"


@functools.lru_cache(maxsize=64)
def size(object_file: Path) -> Size:
    """What an object needs of a kernel."""
    raw = Raw(object_file)
    found = {False: 0, True: 8 * len(list(_undefined(raw)))}  # entries of a GOT
    for name, section in _allocated(raw):
        if not name.startswith(DISCARDED):
            found[_is_data(name, section)] += section.size + section.alignment + 8
    if not any(section.size for name, section in _allocated(raw) if _is_data(name, section)):
        found[True] = 0
    return Size(found[False] + ALIGNED, found[True])


def linked(image: Image, object_file: Path, base: int, code_at: int, data_at: int) -> Linked:
    """An object at its place in a kernel whose image lies at `base`; cached.

    Raises UsageError for what the kernel doesn't have, BuildError for what can't be linked.
    """
    parts = [FORMAT, image.id, object_file.parent.name, hex(base), hex(code_at), hex(data_at)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def make(to: Path) -> tuple[dict[str, Any], list[str]]:
        with tempfile.TemporaryDirectory(prefix="anykernel-code-") as scratch:
            work = Path(scratch)
            shutil.copyfile(object_file, work / "code.o")
            raw = Raw(object_file)
            (work / "layout").write_text(_layout(raw, code_at, data_at))
            known = _resolved(image, _undefined(raw))
            given = [f"--defsym={name}={base + offset:#x}" for name, offset in known.items()]
            argv = ["ld", "-T", "layout", "-e", "0", "--no-warn-rwx-segments", "-z", "noexecstack"]
            try:
                argv += ["-o", "code.elf", *given, "code.o"]
                proc.run(argv, cwd=work, env=proc.clean())
            except ToolError as error:
                raise BuildError(
                    "the C of a test doesn't link",
                    argv=error.argv,
                    returncode=error.returncode,
                    tail=error.tail,
                ) from None
            shutil.copyfile(work / "code.elf", to / "code.elf")
        return {"base": image.id}, ["code.elf"]

    return _read(cache.make(KIND, key, make).path / "code.elf")


@functools.lru_cache(maxsize=64)
def _read(elf: Path) -> Linked:
    raw = Raw(elf)
    parts, calls = [], {BEGIN: list[int](), END: list[int](), CONSTRUCTORS: list[int]()}
    for number, section in enumerate(raw.sections):
        if not section.flags & ALLOC or not section.size:
            continue
        content = raw.content(number)
        parts.append((section.address, content))
        name = raw.section_name(section)
        if name == BEGIN:  # places relative to where they stand (include/linux/init.h)
            calls[name] = [
                section.address + at + int.from_bytes(content[at : at + 4], "little", signed=True)
                for at in range(0, section.size, 4)
            ]
        elif name in calls:
            words = range(0, section.size, 8)
            calls[name] = [int.from_bytes(content[at : at + 8], "little") for at in words]
    return Linked(elf, tuple(parts), tuple(calls[CONSTRUCTORS] + calls[BEGIN]), tuple(calls[END]))


def _allocated(raw: Raw) -> Iterator[tuple[str, Section]]:
    """What of a file is memory, by name."""
    for section in raw.sections:
        if section.flags & ALLOC:
            yield raw.section_name(section), section


def _is_data(name: str, section: Section) -> bool:
    return bool(section.flags & WRITE) and not name.startswith((BEGIN, END, CONSTRUCTORS))


def _layout(raw: Raw, code_at: int, data_at: int) -> str:
    """A linker script: code and constants, which are read-only there, and data (at 0: none)."""
    found = dict(_allocated(raw))
    wanted = {name: one for name, one in found.items() if not name.startswith(DISCARDED)}
    special = (BEGIN, END, CONSTRUCTORS)
    plain = [name for name in wanted if not name.startswith(special)]
    code = [name for name in plain if not _is_data(name, wanted[name])]
    data = [name for name in plain if _is_data(name, wanted[name])]
    code.sort(key=lambda name: not wanted[name].flags & EXECUTE)
    data.sort(key=lambda name: wanted[name].type == NOBITS)
    code += [] if data_at else GOTS
    lines = [f". = {code_at:#x};", _output(".code", code)]
    # Levels are in their order by name, as in a kernel's linker script.
    lines += [_output(one, sorted(n for n in wanted if n.startswith(one))) for one in special]
    if data_at:
        lines += [f". = {data_at:#x};", _output(".writable", [*GOTS, *data])]
    lines.append(_output("/DISCARD/", [name for name in found if name not in wanted]))
    return "SECTIONS {\n" + "\n".join(lines) + "\n}\n"


def _output(name: str, sections: Iterable[str]) -> str:
    inputs = " ".join(f"KEEP(*({one}))" for one in sections)
    return f"{name} : {{ {inputs} }}"


def _undefined(raw: Raw) -> Iterator[str]:
    for one in raw.symbols:
        name = raw.name(one)
        if name and not one.section and name != GOT:
            yield name


def _resolved(image: Image, names: Iterable[str]) -> dict[str, int]:
    """Where the kernel's functions and variables lie, exported or not, counted from its image's
    start.  Raises UsageError for those that it doesn't have, or has more than one of."""
    symbols = Symbols.of(image.vmlinux)
    found, wrong = {}, []
    for name in names:
        at = symbols.shared.get(name)
        places = {at} if at is not None else symbols.static(name)
        if len(places) == 1:
            (found[name],) = places
        elif places:
            wrong.append(f"{name!r} is static in {len(places)} files of this kernel")
        else:
            near = difflib.get_close_matches(name, symbols.addresses, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            wrong.append(f"this kernel has no function or variable {name!r}{hint}")
    if wrong:
        raise UsageError("\n".join(wrong))
    return found
