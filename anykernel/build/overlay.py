# SPDX-License-Identifier: GPL-2.0
"""Our arch/lib: its files, and writing them where a kernel is built."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from anykernel import cache

OVERLAY = Path(__file__).resolve().parent.parent / "overlay"
PROBE = re.compile(r"__has_include\(\s*[<\"]([^>\"]+)")


def overlay_files() -> list[tuple[Path, str]]:
    """(our file, its place in arch/lib)."""
    lib = OVERLAY / "lib"
    files = [(p, str(p.relative_to(lib))) for p in sorted(lib.rglob("*")) if p.is_file()]
    return [*files, (OVERLAY / "include" / "liblinux.h", "include/liblinux.h")]


def overlay_id() -> str:
    """A hash of all overlay files."""
    sha = hashlib.sha256()
    for path, place in overlay_files():
        sha.update(place.encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()[:12]


def lay_overlay(to: Path) -> None:
    """Writes our files as arch/lib; unchanged ones keep their times, so make does nothing."""
    wanted = {place for _, place in overlay_files()}
    for path, place in overlay_files():
        target = to / place
        if target.is_symlink() or target.parent.is_symlink():  # never written through
            cache.remove(target if target.is_symlink() else target.parent)
        if target.is_file() and target.read_bytes() == path.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    # Files of an older overlay.
    for found in sorted(to.rglob("*")):
        if not found.is_dir() and str(found.relative_to(to)) not in wanted:
            cache.remove(found)


def overlay_headers(tree: Path) -> list[str]:
    """Which headers of a tree ours hide, and which our files look for: of what names they are."""
    lines = [place for _, place in overlay_files() if place.endswith(".h")]
    for path, _ in overlay_files():
        for name in PROBE.findall(path.read_text()):
            found = any((tree / f / name).exists() for f in ("include", "include/uapi"))
            lines.append(f"{name} is {'there' if found else 'absent'}")
    return sorted(set(lines))
