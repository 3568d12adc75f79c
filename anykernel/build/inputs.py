# SPDX-License-Identifier: GPL-2.0
"""What a build read: all files of its tree that a build of the same tree may depend on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel.build.beside import OBJECTS, in_tree
from anykernel.build.compile import commands
from anykernel.build.edits import state_of
from anykernel.source.state import everything

if TYPE_CHECKING:
    from anykernel.build.image import Image

INPUTS = "inputs.json"
MOST = 8
"""Files that are compiled one by one at most; of more make compiles several at a time."""
NOTED = re.compile(r"\.([chS]|rst|txt|dts[io]?|ya?ml|json|svg|py|rs)$")
"""Files that are read for an object, which Kbuild notes, or for none.  What is left says how to
build: makefiles, Kconfig, scripts, tables."""
NEVER = {"Documentation", "tools", "samples", "LICENSES", ".git"}
DEPENDENCY = re.compile(r"^(?:  (\S+) \\|source_\S+ := (\S+))$", re.M)
LOOKED_INTO = re.compile(r"[\w./-]+\.c\b")
"""In our makefiles: sources in which they look for what a release has."""


def note(source: Path, build: Path, kept: Path) -> None:
    """Writes down what the objects of a build were made from, with sizes and times."""
    known, objects = commands(kept), build / OBJECTS
    inputs: set[str] = set()
    included: set[str] = set()
    for folder, _, files in os.walk(objects):
        for name in files:
            if not (name.startswith(".") and name.endswith(".cmd")):
                continue
            made = os.path.relpath(os.path.join(folder, name[1:-4]), objects)
            text = Path(folder, name).read_text(errors="replace")
            found = {in_tree(a or b) for a, b in DEPENDENCY.findall(text)} - {None}
            # Ours are what the overlay's hash says.
            paths = {path for path in found if path and not path.startswith("arch/lib/")}
            inputs |= paths
            own = made.removesuffix(".o") + ".c" if made in known else None
            included |= paths - {own}
    for makefile in (build / "arch/lib").rglob("*"):
        if makefile.name in ("Makefile", "Kbuild"):
            included |= set(LOOKED_INTO.findall(makefile.read_text()))
    names, rules = _source(source)
    states = {path: state_of(str(source / path)) for path in sorted(inputs | rules)}
    record = {
        "inputs": {path: state for path, state in states.items() if state},
        "included": sorted(path for path in included if path.endswith(".c")),
        "folders": names,
        "source": str(source),
    }
    (kept / INPUTS).write_text(json.dumps(record, indent=0))


def _source(source: Path) -> tuple[dict[str, list[object]], set[str]]:
    """(time and names of each folder, files that say how to build)."""
    folders: dict[str, list[object]] = {}
    rules: set[str] = set()
    for place, folder, entries in everything(source):
        if place.partition("/")[0] not in NEVER:
            folders[place] = [os.stat(folder).st_mtime_ns, _names(os.listdir(folder))]
            rules |= {place + one.name for one in entries if not NOTED.search(one.name)}
    return folders, rules


def _names(names: list[str]) -> str:
    """A hash of names.  Those that editors and make leave are none."""
    real = sorted(n for n in names if not n.startswith(".") and not n.endswith(("~", ".o", ".swp")))
    return hashlib.sha256("\0".join(real).encode(errors="surrogateescape")).hexdigest()[:12]


def _same_folders(record: dict[str, object]) -> bool:
    """Whether no file came or went: one that is new may hide another, or be what a makefile's
    pattern finds."""
    source, folders = str(record["source"]), record["folders"]
    assert isinstance(folders, dict)
    for inside, (mtime_ns, names) in folders.items():
        folder = os.path.join(source, inside)
        try:
            touched = os.stat(folder).st_mtime_ns != mtime_ns
            if touched and _names(os.listdir(folder)) != names:
                return False
        except OSError:
            return False
    return True


def changed(last: Image) -> list[str] | None:
    """The objects that have to be compiled again; None when that isn't for us to say."""
    try:
        record = json.loads((last.objects / INPUTS).read_text())
    except (OSError, ValueError):
        return None
    known = commands(last.objects)
    found = []
    for path, state in record["inputs"].items():
        now = state_of(os.path.join(record["source"], path))
        if now == state:
            continue
        name = path.removesuffix(".c") + ".o"
        single = path.endswith(".c") and name in known and path not in record["included"]
        if now is None or not single:
            return None
        found.append(name)
    if not found or len(found) > MOST or not _same_folders(record):
        return None
    return found
