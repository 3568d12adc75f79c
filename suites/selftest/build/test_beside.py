# SPDX-License-Identifier: GPL-2.0
"""A folder of objects beside links to its tree, with our arch/lib."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anykernel.build import overlay
from anykernel.build.beside import gone, in_tree, surround
from anykernel.build.compose import compose
from anykernel.build.overlay import OVERLAY, overlay_files, overlay_id
from anykernel.source import fetch
from suites.selftest import tiny

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def composed(tiny_tree: Path) -> Path:
    (tiny_tree / "include").mkdir()
    (tiny_tree / "include/a.h").write_text("a\n")
    return compose(fetch(str(tiny_tree)))


@pytest.fixture
def build(composed: Path, own_cache: Path) -> Path:
    folder = own_cache / "objects/one"
    folder.mkdir(parents=True)
    (folder / "objects").mkdir()
    surround(folder, composed, files=True)
    return folder


def makefile(build: Path) -> bytes:
    return (build / "arch/lib/Makefile").read_bytes()


def test_the_source_and_the_overlay(tiny_tree: Path, build: Path) -> None:
    for name in tiny.FILES:
        assert (build / name).read_bytes() == (tiny_tree / name).read_bytes()
    for path, place in overlay_files():
        assert (build / "arch/lib" / place).read_bytes() == path.read_bytes()
    header = OVERLAY / "include/liblinux.h"
    assert (build / "arch/lib/include/liblinux.h").read_bytes() == header.read_bytes()
    assert not (tiny_tree / "arch/lib").exists()


def test_folders_alone(composed: Path, own_cache: Path) -> None:
    """What compiles against an image's headers has no use for links to files."""
    folder = own_cache / "images"
    folder.mkdir()
    (folder / "net").mkdir()  # ours, whatever the tree has
    surround(folder, composed, files=False)
    links = {path.name for path in folder.iterdir() if path.is_symlink()}
    assert links == {"include"}
    assert (folder / "include/a.h").read_text() == "a\n"
    assert (folder / "arch/x86/entry/syscalls/syscall_64.tbl").is_file()


def test_it_may_be_moved_with_the_cache(own_cache: Path, build: Path) -> None:
    moved = own_cache.rename(own_cache.with_name("moved"))
    assert (moved / "objects/one/include/a.h").read_text() == "a\n"


def test_a_tree_that_is_gone(composed: Path, build: Path) -> None:
    assert not gone(build)
    composed.rename(composed.with_name("elsewhere"))
    assert gone(build)


def test_what_the_tree_has_no_more_goes(tiny_tree: Path, composed: Path, build: Path) -> None:
    (tiny_tree / "slowly").unlink()
    (tiny_tree / "new").mkdir()
    (tiny_tree / "new/a.c").write_text("")
    surround(build, compose(fetch(str(tiny_tree))), files=True)
    assert not os.path.lexists(build / "slowly")
    assert (build / "new/a.c").is_file()
    assert (build / "objects").is_dir()


def test_a_damaged_overlay_is_repaired(composed: Path, build: Path) -> None:
    (build / "arch/lib/Makefile").write_text("damaged")
    (build / "arch/lib/Kconfig").unlink()
    surround(build, composed, files=True)
    for name in ("Makefile", "Kconfig"):
        assert (build / "arch/lib" / name).read_bytes() == (OVERLAY / "lib" / name).read_bytes()


def test_unchanged_files_keep_their_times(composed: Path, build: Path) -> None:
    time = (build / "arch/lib/Makefile").stat().st_mtime_ns
    surround(build, composed, files=True)
    assert (build / "arch/lib/Makefile").stat().st_mtime_ns == time


def test_files_of_an_older_overlay_go(composed: Path, build: Path) -> None:
    (build / "arch/lib/kernel/old.c").write_text("int old;\n")
    surround(build, composed, files=True)
    assert not (build / "arch/lib/kernel/old.c").exists()


@pytest.mark.parametrize("name", ["arch", "arch/lib", "arch/lib/kernel", "arch/lib/Makefile"])
def test_the_overlay_is_not_written_through_links(
    tiny_tree: Path, composed: Path, build: Path, name: str
) -> None:
    before = tiny.snapshot(tiny_tree)
    path = build / name
    path.rename(build.parent / "aside")
    path.symlink_to(tiny_tree / ("net/echo.c" if name.endswith("Makefile") else "net"))
    surround(build, composed, files=True)
    assert tiny.snapshot(tiny_tree) == before
    assert makefile(build) == (OVERLAY / "lib/Makefile").read_bytes()


def test_two_overlays_of_one_tree(
    composed: Path, build: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two versions of ours may build at once: neither sees the other's files."""
    (tmp_path / "overlay/lib").mkdir(parents=True)
    (tmp_path / "overlay/include").mkdir()
    (tmp_path / "overlay/lib/Makefile").write_text("other\n")
    (tmp_path / "overlay/include/liblinux.h").write_text("other\n")
    before = makefile(build)
    monkeypatch.setattr(overlay, "OVERLAY", tmp_path / "overlay")
    other = own_cache / "objects/two"
    other.mkdir()
    surround(other, composed, files=True)
    assert makefile(other) == b"other\n"
    assert makefile(build) == before


def test_the_overlays_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    first = overlay_id()
    files = overlay_files()
    monkeypatch.setattr(overlay, "overlay_files", lambda: files[1:])
    assert overlay_id() != first


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("../net/a.c", "net/a.c"),
        ("../scripts/../include/a.h", "include/a.h"),
        ("net/a.o", None),
        ("./include/generated/a.h", None),
        ("/usr/include/stdio.h", None),
        ("../../a", None),
        ("../x/../../a", None),
    ],
)
def test_places_in_the_tree(path: str, inside: str | None) -> None:
    assert in_tree(path) == inside
