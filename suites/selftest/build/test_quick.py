# SPDX-License-Identifier: GPL-2.0
"""Edit, test: what may be compiled without make; the result is what make would have made."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anykernel import cache
from anykernel.build import Image, inputs, quick
from anykernel.build.kept import COMMANDS
from anykernel.host import Host
from anykernel.kernel import Kernel


def test_the_same_source_gives_the_same_bits(kernel: Kernel, tmp_path: Path) -> None:
    """Compiled and linked here, by make there."""
    image = kernel.image
    quick.rebuild(image, ["net/ipv4/tcp_cubic.o", "lib/sort.o"], tmp_path)
    for name in ("vmlinux", image.library.name, "config"):
        assert (tmp_path / name).read_bytes() == (image.vmlinux.parent / name).read_bytes(), name
    again = replace(image, library=tmp_path / image.library.name, vmlinux=tmp_path / "vmlinux")
    with Host(again) as host:
        assert Kernel(host.instances[0], again).release == kernel.release


def test_what_an_image_keeps_is_not_written_again(kernel: Kernel, tmp_path: Path) -> None:
    image = kernel.image
    kept = image.objects / "lib/sort.o"
    before = kept.stat().st_mtime_ns, kept.read_bytes()
    quick.rebuild(image, ["lib/sort.o"], tmp_path)
    assert (kept.stat().st_mtime_ns, kept.read_bytes()) == before
    assert not (tmp_path / "objects/lib/sort.o").samefile(image.objects / "lib/sort.o")
    assert (tmp_path / "objects/lib/rbtree.o").samefile(image.objects / "lib/rbtree.o")


@pytest.fixture
def place() -> Iterator[Path]:
    """Where an image is made: beside the others."""
    made = Path(tempfile.mkdtemp(prefix=cache.PREFIX, dir=cache.directory("images")))
    yield made
    cache.remove(made)


def parts() -> set[Path]:
    return set(cache.directory("images").glob(f"{cache.PREFIX}begun-*"))


def test_what_was_begun_is_taken(kernel: Kernel, place: Path) -> None:
    image = kernel.image
    before = parts()
    begun = quick.Begun(image, ["lib/sort.o"])
    try:
        quick.rebuild(image, ["lib/sort.o"], place, begun)
    finally:
        begun.end()
    assert (place / "vmlinux").read_bytes() == image.vmlinux.read_bytes()
    assert parts() == before


def test_what_was_begun_for_another_state_is_not(kernel: Kernel, place: Path) -> None:
    before = parts()
    begun = quick.Begun(kernel.image, ["lib/sort.o"])
    assert not begun.take(["lib/sort.o", "lib/rbtree.o"], place / "objects")
    begun.end()
    assert parts() == before
    assert not (place / "objects").exists()


@pytest.fixture
def built(tmp_path: Path) -> Image:
    """An image that says what it was made from: two C files, one of which the other includes, and
    one that our makefile looks into."""
    tree, build, image = tmp_path / "tree", tmp_path / "build", tmp_path / "image"
    for folder in (tree / "net", build / "objects/net", build / "arch/lib", image / "objects"):
        folder.mkdir(parents=True)
    for name in ("a.c", "b.c", "c.c", "part.c", "a.h", "Makefile", "S.S"):
        (tree / "net" / name).write_text(name)
    made = {f"net/{name}.o": "gcc" for name in "abcS"}
    (image / "objects" / COMMANDS).write_text(json.dumps(made))
    for name in "abcS":
        own = f"{name}.{'S' if name == 'S' else 'c'}"
        includes = "".join(f"  ../net/{one} \\\n" for one in ("a.h", "part.c"))
        note = f"cmd_net/{name}.o := gcc\n\nsource_net/{name}.o := ../net/{own}\n\n"
        note += f"deps_net/{name}.o := \\\n{includes}\n"
        (build / f"objects/net/.{name}.o.cmd").write_text(note)
    (build / "arch/lib/Makefile").write_text("probe := $(call tree-has,net/c.c,word,HAS)\n")
    inputs.note(tree, build, image / "objects")
    objects = image / "objects"
    return Image("x", tmp_path / "l", tmp_path / "v", "", "", "", tmp_path / "c", tree, objects)


def edit(image: Image, name: str) -> None:
    path = image.tree / name
    path.write_text(path.read_text() + " " if path.exists() else "new")


def test_nothing_changed(built: Image) -> None:
    assert inputs.changed(built) is None


def test_c_files_changed(built: Image) -> None:
    edit(built, "net/a.c")
    assert inputs.changed(built) == ["net/a.o"]
    os.utime(built.tree / "net/b.c")
    assert inputs.changed(built) == ["net/a.o", "net/b.o"]


@pytest.mark.parametrize(
    "name", ["net/a.h", "net/part.c", "net/Makefile", "net/c.c", "net/S.S", "net/new.c"]
)
def test_what_only_make_can_judge(built: Image, name: str) -> None:
    """A header, a C file that others include, a makefile, a C file that one looks into, assembler,
    a file that is new."""
    edit(built, "net/a.c")
    edit(built, name)
    assert inputs.changed(built) is None


def test_an_edit_that_hides(built: Image) -> None:
    """Same size, same time: moved there from elsewhere."""
    path = built.tree / "net/a.c"
    status = path.stat()
    other = path.with_name("other")
    other.write_text("A.c")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    assert inputs.changed(built) == ["net/a.o"]


def test_what_editors_leave_is_nothing_new(built: Image) -> None:
    edit(built, "net/a.c")
    (built.tree / "net/.a.c.swp").write_text("")
    (built.tree / "net/a.c~").write_text("")
    assert inputs.changed(built) == ["net/a.o"]


def test_files_that_went(built: Image) -> None:
    (built.tree / "net/a.c").unlink()
    assert inputs.changed(built) is None


def test_an_image_without_a_record(built: Image) -> None:
    (built.objects / inputs.INPUTS).unlink()
    assert inputs.changed(built) is None
