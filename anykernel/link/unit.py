# SPDX-License-Identifier: GPL-2.0
"""A unit: a few C files of a kernel as a library of their own, everything else as mocks.

The files are compiled as the kernel's build did, but so that each static function stays one.  What
they need is stubbed (stubs.py), and the whole looks to the host like a kernel that boots in no
time (overlay/unit/unit.c).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.build import Image, again, kept
from anykernel.build.compile import LIKE, compile_c
from anykernel.errors import BuildError, ToolError, UsageError
from anykernel.link import debuginfo, policy
from anykernel.link.components import homes, objects
from anykernel.link.objects import Object, read
from anykernel.link.policy import Policy
from anykernel.link.stubs import Generator, Wanted
from anykernel.link.substitutes import substitutes
from anykernel.link.variants import offered
from anykernel.settings import settings

FORMAT = "6"
RUNTIME = Path(__file__).resolve().parent.parent / "overlay" / "unit"
KEPT = [
    "-fkeep-static-functions",
    "-fno-inline-functions-called-once",
    "-fno-ipa-cp",
    "-fno-ipa-sra",
    "-fno-ipa-icf",
    "-fno-partial-inlining",
    # All types in the object itself: it is small, and read in milliseconds.
    "-gno-split-dwarf",
]
"""So that every function is there under its name, with its parameters."""
LIBRARY = "unit.so"
PROVIDED = {"jiffies": "jiffies_64"}
"""What a kernel's linker script defines."""


@dataclass(frozen=True)
class Spec:
    """What a unit is made of."""

    sources: tuple[str, ...]
    """C files whose functions are to be called."""
    beside: tuple[str, ...] = ()
    """Further C files, or components, whose own code is to run rather than mocks."""
    depth: int = 0
    """How many levels of what these need are there, too."""


def link_unit(image: Image, spec: Spec, folders: Iterable[Path] = ()) -> Image:
    """The library of a unit; cached.  Its ledger lists the mocks.

    Raises UsageError for a file that the kernel wasn't built from, BuildError, PolicyError,
    CacheError.
    """
    try:
        return _linked(image, spec, folders)
    except cache.Damaged:  # the whole kernel's entry, which is removed
        again(image)
        return _linked(image, spec, folders)


def _linked(image: Image, spec: Spec, folders: Iterable[Path]) -> Image:
    rules = policy.load_unit(folders)
    chosen, compiled = _choose(image, spec, rules)
    runtime = b"".join((RUNTIME / name).read_bytes() for name in ("unit.c", "unit.h", "unit.lds"))
    parts = [FORMAT, image.id, rules.id, hashlib.sha256(runtime).hexdigest()]
    parts += [*compiled, "", *(one.path for one in chosen)]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    found = cache.make("units", key, lambda to: _make(image, chosen, compiled, rules, to))
    return replace(
        image,
        id=key,
        library=found.path / LIBRARY,
        vmlinux=found.path / LIBRARY,
        components=(),
        ledger=found.path / "ledger.json",
    )


def _choose(image: Image, spec: Spec, rules: Policy) -> tuple[list[Object], list[str]]:
    """(the objects that are taken as they were built, those to compile for the unit)."""
    everything = {one.path: one for one in objects(image)}
    compiled = [_object(name, everything) for name in spec.sources]
    taken = [path for path in rules.unit if path in everything]
    for name in spec.beside:
        if name.endswith(".c"):
            taken.append(_object(name, everything))
            continue
        inside = [path for path in everything if path.startswith(f"{name.rstrip('/')}/")]
        if not inside:
            raise UsageError(f"{name} is neither a C file nor a folder of this kernel")
        taken += inside
    taken = [path for path in dict.fromkeys(taken) if path not in compiled]
    home = homes(everything.values())
    for _ in range(spec.depth):
        have = [everything[path] for path in [*compiled, *taken]]
        # What a policy grants, every unit has something better for.
        needed = {symbol for one in have for symbol in one.undefined} - rules.grants.keys()
        more = {home[symbol].path for symbol in needed & home.keys()}
        taken += sorted(more - {*compiled, *taken})
    return [everything[path] for path in taken], compiled


def _object(name: str, everything: dict[str, Object]) -> str:
    path = name.removesuffix(".c") + ".o"
    if not name.endswith(".c"):
        raise UsageError(f"{name!r}: a unit is made of C files, such as net/ipv4/tcp_cubic.c")
    if path not in everything:
        near = difflib.get_close_matches(path, everything, n=3)
        hint = " or ".join(one.removesuffix(".o") + ".c" for one in near)
        raise UsageError(
            f"this kernel was not built from {name}"
            + (f"; did you mean {hint}?" if near else "; is its option set in the flavour?")
        )
    return path


def _make(
    image: Image, chosen: list[Object], compiled: list[str], rules: Policy, to: Path
) -> tuple[dict[str, Any], list[str]]:
    kept.sound(image)
    with tempfile.TemporaryDirectory(prefix="anykernel-unit-") as scratch:
        work = Path(scratch)
        with ThreadPoolExecutor(settings().jobs) as threads:
            runtime = threads.submit(_runtime, image, work)
            own = list(threads.map(lambda path: _compile(image, path, work), compiled))
        files = [*own, runtime.result(), *(image.objects / one.path for one in chosen)]
        parts = [read(file, file.name) for file in files]
        text, generator, empty = _stubs(image, parts, rules)
        files += substitutes(image, text, generator, to, work, RUNTIME)
        _link(files, empty, work)
        shutil.copyfile(work / LIBRARY, to / LIBRARY)
    # Where a reader finds the types of the others.
    os.symlink(os.path.relpath(image.objects, to), to / "objects")
    stubs = [asdict(one) for one in generator.stubs]
    (to / "ledger.json").write_text(json.dumps({"stubs": stubs}, indent=1))
    return {"base": image.id, "sources": compiled}, [LIBRARY, "ledger.json"]


def _compile(image: Image, path: str, work: Path) -> Path:
    to = work / path.replace("/", "-")
    source = image.root / (path.removesuffix(".o") + ".c")
    plain = to.with_suffix(".c")
    plain.write_text(_without_inline(source))
    flags = [*KEPT, "-iquote", os.path.join("..", os.path.dirname(path))]
    try:
        compile_c(image, plain, to, like=path, extra=flags, cached=False)
    except BuildError:
        # A file that plays with its includes; its inline functions stay so.
        compile_c(image, source, to, like=path, extra=flags)
    return to


def _without_inline(source: Path) -> str:
    """C that includes `source` so that its own `static inline` functions are plain static ones.

    Its headers come first, where inline is inline; their guards make them nothing afterwards.
    """
    text = source.read_text(errors="surrogateescape")
    lines = re.findall(r"^[ \t]*#[ \t]*(?:define[ \t]+pr_fmt.*|include[ \t]*[<\"].*)$", text, re.M)
    lines += ["#undef inline", "#define inline __maybe_unused", f'#include "{source.name}"', ""]
    return "\n".join(lines)


def _runtime(image: Image, work: Path) -> Path:
    to = work / "unit.o"
    include = [f"-I{RUNTIME}", "-g0"]
    compile_c(image, RUNTIME / "unit.c", to, like=LIKE, extra=include)
    return to


def _stubs(image: Image, parts: list[Object], rules: Policy) -> tuple[str, Generator, list[str]]:
    paths = {symbol: one.path for symbol, one in homes(objects(image)).items()}
    have = {s for one in parts for s in one.defined | one.weak}
    lacking = {s for one in parts for s in one.undefined} - have - PROVIDED.keys()
    wanted = [
        Wanted(s, paths[s], tuple(one.path for one in parts if s in one.undefined))
        for s in sorted(lacking & paths.keys())
    ]
    types = debuginfo.program(image.vmlinux)
    rules = offered(image, rules, lacking)
    generator = Generator(types, image.objects, paths, have, rules, mockable=True)
    # The others are a linker script's: begin and end of tables, which here are empty.
    text = generator.generate(wanted)
    empty = (lacking - paths.keys() | generator.scripted) - {"_GLOBAL_OFFSET_TABLE_"}
    return text, generator, sorted(empty)


def _link(files: list[Path], empty: list[str], work: Path) -> None:
    (work / "exports").write_text("{ global: lib_*; local: *; };")
    argv = ["ld", "-shared", "-Bsymbolic", "--hash-style=gnu", "-z", "now", "-z", "noexecstack"]
    argv += ["--no-undefined", "--no-warn-rwx-segments", "--version-script=exports"]
    argv += [
        f"--script={RUNTIME / 'unit.lds'}",
        "--build-id=sha1",
        "-soname",
        LIBRARY,
        "-o",
        LIBRARY,
    ]
    argv += [f"--defsym={name}={value}" for name, value in PROVIDED.items()]
    argv += [f"--defsym={name}=0" for name in empty]
    try:
        proc.run([*argv, *map(str, files)], cwd=work, env=proc.clean())
    except ToolError as error:
        raise BuildError(
            "the unit doesn't link",
            argv=error.argv,
            returncode=error.returncode,
            tail=error.tail,
        ) from None
