# SPDX-License-Identifier: GPL-2.0
"""The composed tree: all of the source, and nothing of the user's in danger."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anykernel import cache
from anykernel.build import ensure_image
from anykernel.build.compose import compose
from anykernel.source import Tree, fetch
from suites.selftest import tiny

pytestmark = pytest.mark.usefixtures("own_cache")


def test_all_of_the_source(tiny_tree: Path) -> None:
    composed = compose(fetch(str(tiny_tree)))
    for name, text in tiny.FILES.items():
        if name != "Makefile":
            assert (composed / name).read_text() == text


def test_a_build_in_the_composed_tree_changes_no_source(tiny_tree: Path) -> None:
    before = tiny.snapshot(tiny_tree)
    composed = compose(fetch(str(tiny_tree)))
    # What make, an editor and git clean do.
    (composed / "net/echo.o").write_text("object")
    (composed / "include/generated").mkdir(parents=True)
    (composed / ".config").write_text("CONFIG_NET=y\n")
    (composed / "net/core.c").unlink()
    compose(fetch(str(tiny_tree)))
    assert tiny.snapshot(tiny_tree) == before


def test_edits_are_seen_and_unchanged_files_keep_their_times(tiny_tree: Path) -> None:
    composed = compose(fetch(str(tiny_tree)))
    kept = composed / "Kbuild"
    time = kept.lstat().st_mtime_ns
    (tiny_tree / "net/new.c").write_text("int new;\n")
    (tiny_tree / "drivers/net").mkdir(parents=True)
    (tiny_tree / "drivers/net/a.c").write_text("int a;\n")
    (tiny_tree / "net/core.c").unlink()
    (tiny_tree / "net/echo.c").write_text("changed\n")
    assert compose(fetch(str(tiny_tree))) == composed, "so that make builds what changed"
    assert (composed / "net/new.c").read_text() == "int new;\n"
    assert (composed / "drivers/net/a.c").read_text() == "int a;\n"
    assert not os.path.lexists(composed / "net/core.c")
    assert (composed / "net/echo.c").read_text() == "changed\n"
    assert kept.lstat().st_mtime_ns == time


def test_two_sources_have_two_trees(tiny_tree: Path, tmp_path: Path) -> None:
    other = tiny.write(tmp_path / "other")
    assert compose(fetch(str(tiny_tree))) != compose(fetch(str(other)))


def test_what_an_in_tree_build_of_the_user_left(tiny_tree: Path) -> None:
    """Kbuild refuses O= where it sees a .config."""
    (tiny_tree / ".config").write_text("CONFIG_X86=y\n")
    (tiny_tree / "include/generated").mkdir(parents=True)
    (tiny_tree / "include/generated/autoconf.h").write_text("#define CONFIG_X86 1\n")
    before = tiny.snapshot(tiny_tree)
    composed = compose(fetch(str(tiny_tree)))
    assert not os.path.lexists(composed / ".config")
    assert not os.path.lexists(composed / "include/generated")
    assert tiny.snapshot(tiny_tree) == before


def test_links_and_git_of_the_source(tiny_tree: Path) -> None:
    (tiny_tree / "scripts").mkdir()
    (tiny_tree / "scripts/dtc").symlink_to("../net")
    (tiny_tree / "scripts/gone").symlink_to("nowhere")
    composed = compose(fetch(str(tiny_tree)))
    assert (composed / "scripts/dtc/echo.c").read_text() == tiny.FILES["net/echo.c"]
    assert not (composed / ".git").exists()


def test_a_user_who_has_an_arch_lib_keeps_it(tiny_tree: Path) -> None:
    (tiny_tree / "arch/lib").mkdir()
    (tiny_tree / "arch/lib/Makefile").write_text("the user's own\n")
    composed = compose(fetch(str(tiny_tree)))
    assert (tiny_tree / "arch/lib/Makefile").read_text() == "the user's own\n"
    assert not os.path.lexists(composed / "arch/lib")


def test_a_composed_tree_damaged_by_hand_is_repaired(tiny_tree: Path) -> None:
    composed = compose(fetch(str(tiny_tree)))
    (composed / "net/echo.c").unlink()
    compose(fetch(str(tiny_tree)))
    assert (composed / "net/echo.c").is_file()


def test_links_that_lead_to_where_the_cache_was(tiny_tree: Path, own_cache: Path) -> None:
    composed = compose(fetch(str(tiny_tree)))
    (composed / "net/echo.c").unlink()
    (composed / "net/echo.c").symlink_to(own_cache / "of-old/net/echo.c")
    compose(fetch(str(tiny_tree)))
    assert (composed / "net/echo.c").read_text() == tiny.FILES["net/echo.c"]


def test_a_tree_removed_by_hand(tiny_tree: Path) -> None:
    composed = compose(fetch(str(tiny_tree)))
    cache.remove(composed)
    assert (compose(fetch(str(tiny_tree))) / "net/echo.c").is_file()


def test_a_link_or_a_file_of_the_source_that_becomes_a_folder(tiny_tree: Path) -> None:
    """What stood for it must not lead us into the user's folder."""
    (tiny_tree / "include").symlink_to("net")
    (tiny_tree / "lib").write_text("a file\n")
    compose(fetch(str(tiny_tree)))
    for name in ("include", "lib"):
        (tiny_tree / name).unlink()
        (tiny_tree / name).mkdir()
        (tiny_tree / name / "mine.h").symlink_to("../net/echo.c")
    composed = compose(fetch(str(tiny_tree)))
    for name in ("include", "lib"):
        assert os.readlink(tiny_tree / name / "mine.h") == "../net/echo.c"
        assert not (composed / name).is_symlink()
        assert (composed / name / "mine.h").read_text() == tiny.FILES["net/echo.c"]


def test_a_folder_of_the_source_that_becomes_a_file(tiny_tree: Path) -> None:
    (tiny_tree / "lib").mkdir()
    (tiny_tree / "lib/a.c").write_text("int a;\n")
    compose(fetch(str(tiny_tree)))
    (tiny_tree / "lib/a.c").rename(tiny_tree / "a.c")
    (tiny_tree / "lib").rmdir()
    (tiny_tree / "a.c").rename(tiny_tree / "lib")
    assert (compose(fetch(str(tiny_tree))) / "lib").read_text() == "int a;\n"


def test_an_in_tree_build_is_not_seen_for_a_moment(
    tiny_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may be at its make, which refuses such a tree."""
    (tiny_tree / ".config").write_text("CONFIG_X86=y\n")
    (tiny_tree / "include/generated").mkdir(parents=True)
    made: list[str] = []
    link = os.symlink

    def watched(to: str, name: Path) -> None:
        made.append(str(name))
        link(to, name)

    monkeypatch.setattr(os, "symlink", watched)
    composed = compose(fetch(str(tiny_tree)))
    assert str(composed / "Kbuild") in made
    assert str(composed / ".config") not in made


def test_a_worktree_of_git(tiny_tree: Path) -> None:
    """Its .git is a file: with it, git would take the composed tree for the checkout."""
    composed = compose(fetch(str(tiny_tree)))
    (composed / ".git").symlink_to(tiny_tree / ".git")  # of an older version of ours
    (tiny_tree / ".git").write_text("gitdir: /elsewhere/.git/worktrees/tiny\n")
    tree = Tree(tiny_tree, "6.1.999", str(tiny_tree), "folder-1", live=True)
    assert not os.path.lexists(compose(tree) / ".git")


def everything(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """All that is in a folder: type, time and content by name; nothing is followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else b""
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        found[str(path.relative_to(folder))] = (kind, status.st_mtime_ns, content)
    return found


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize(
    "name", ["arch", "arch/lib", "include", "include/config", "scripts", "net"]
)
def test_folders_that_are_links(
    tiny_tree: Path, tmp_path: Path, name: str, where: str, absolute: bool
) -> None:
    """Neither the tree nor what its links lead to is written to or removed from."""
    for file in (
        "arch/lib/own.c",
        "include/config/auto.conf",
        "include/generated/a.h",
        "scripts/x",
    ):
        (tiny_tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tiny_tree / file).write_text("the user's\n")
    elsewhere = (tiny_tree if where == "inside" else tmp_path) / "elsewhere"
    (tiny_tree / name).rename(elsewhere)
    link = tiny_tree / name
    link.symlink_to(elsewhere if absolute else os.path.relpath(elsewhere, link.parent))
    before = everything(tmp_path / "tiny"), everything(elsewhere)
    for _ in range(2):
        composed = compose(fetch(str(tiny_tree)))
        assert (everything(tmp_path / "tiny"), everything(elsewhere)) == before
    for file in ("net/echo.c", "arch/x86/entry/syscalls/syscall_64.tbl", "scripts/x"):
        assert (composed / file).read_bytes() == (tiny_tree / file).read_bytes()
    assert not os.path.lexists(composed / "arch/lib")
    for gone in ("arch/lib/own.c", "include/config", "include/generated"):
        assert not os.path.lexists(composed / gone), gone


def test_what_is_written_through_a_link_inside_stays_inside(tiny_tree: Path) -> None:
    (tiny_tree / "scripts").mkdir()
    (tiny_tree / "scripts/net").symlink_to("../net")
    before = everything(tiny_tree)
    composed = compose(fetch(str(tiny_tree)))
    (composed / "scripts/net/echo.o").write_text("object")
    assert (composed / "net/echo.o").exists()
    assert everything(tiny_tree) == before


def test_a_composed_tree_of_links_is_mended(tiny_tree: Path) -> None:
    """As an older version made it, or somebody by hand."""
    before = everything(tiny_tree)
    composed = compose(fetch(str(tiny_tree)))
    for name in ("arch", "net"):
        cache.remove(composed / name)
        (composed / name).symlink_to(tiny_tree / "net")
    compose(fetch(str(tiny_tree)))
    assert everything(tiny_tree) == before


def test_a_source_that_is_a_composed_tree(tiny_tree: Path) -> None:
    """Its note of what its links lead to is its own."""
    (tiny_tree / ".anykernel-source").write_text("the user's")
    compose(fetch(str(tiny_tree)))
    compose(fetch(str(tiny_tree)))
    assert (tiny_tree / ".anykernel-source").read_text() == "the user's"


def test_scripts_of_the_build_write_nothing_beside_them(
    tiny_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python looks where a link leads, and keeps what it has compiled there."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (tiny_tree / "scripts").mkdir()
    (tiny_tree / "scripts/part.py").write_text("print('part')\n")
    (tiny_tree / "scripts/gen.py").write_text("import part\n")
    (tiny_tree / "slowly").write_text("python3 scripts/gen.py\n")
    before = everything(tiny_tree)
    image = ensure_image(str(tiny_tree))
    assert "part\n" in (image.library.parent / "build.log").read_text()
    assert everything(tiny_tree) == before
