# SPDX-License-Identifier: GPL-2.0
"""Folders, git revisions and tarballs as sources, and what is none of them."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from anykernel.errors import SourceError, ToolError, UsageError
from anykernel.source import fetch
from suites.selftest import tiny

pytestmark = pytest.mark.usefixtures("own_cache")


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"]
    argv = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tiny_tree: Path) -> Path:
    git(tiny_tree, "init", "-q", "-b", "main")
    git(tiny_tree, "add", "-A")
    git(tiny_tree, "commit", "-q", "-m", "first")
    git(tiny_tree, "tag", "v6.1.999")
    return tiny_tree


def pack(folder: Path, archive: Path, top: str = "linux-6.1.999") -> Path:
    modes: dict[str, Literal["w", "w:gz", "w:xz", "w:bz2"]] = {
        ".tar": "w",
        ".gz": "w:gz",
        ".xz": "w:xz",
        ".bz2": "w:bz2",
    }
    with tarfile.open(archive, modes[archive.suffix]) as file:
        file.add(folder, top)
    return archive


@pytest.mark.parametrize(
    "spec", ["", "6.1", "linux", "debian", "http://example.org/x", "debian:", "debian:six"]
)
def test_what_is_no_specification(spec: str) -> None:
    with pytest.raises((UsageError, SourceError)) as caught:
        fetch(spec)
    assert "debian:6.1" in str(caught.value) or "no folder" in str(caught.value)


def test_a_wrong_specification_shows_right_ones() -> None:
    with pytest.raises(UsageError, match=re.escape("debian:6.1.170-3, ~/linux, git:~/linux@v6.1")):
        fetch("bookworm")
    with pytest.raises(SourceError, match="there is no folder /no/such/linux"):
        fetch("/no/such/linux")
    with pytest.raises(SourceError, match=r"there is no file .*linux-6\.1\.tar\.xz"):
        fetch("linux-6.1.tar.xz")


def test_a_folder_is_used_where_it_is(tiny_tree: Path) -> None:
    before = tiny.snapshot(tiny_tree)
    tree = fetch(str(tiny_tree))
    assert (tree.path, tree.release, tree.live) == (tiny_tree, "6.1.999", True)
    assert fetch(str(tiny_tree)).id == tree.id
    assert tiny.snapshot(tiny_tree) == before


def test_home_and_relative_folders(tiny_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_tree.parent))
    monkeypatch.chdir(tiny_tree.parent)
    assert fetch("~/tiny").path == fetch("./tiny").path == fetch("tiny").path == tiny_tree


def test_each_edit_of_a_folder_is_another_source(tiny_tree: Path) -> None:
    seen = {fetch(str(tiny_tree)).id}
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x) { return -x; }\n")
    seen.add(fetch(str(tiny_tree)).id)
    (tiny_tree / "net/new.c").write_text("int new;\n")
    seen.add(fetch(str(tiny_tree)).id)
    (tiny_tree / "net/new.c").rename(tiny_tree / "net/other.c")
    seen.add(fetch(str(tiny_tree)).id)
    assert len(seen) == 4


def test_each_edit_of_a_checkout_too(repository: Path) -> None:
    seen = {fetch(str(repository)).id}
    echo = repository / "net/echo.c"
    echo.write_text("int net_echo(int x) { return -x; }\n")
    seen.add(fetch(str(repository)).id)
    git(repository, "add", "-A")
    assert fetch(str(repository)).id in seen, "the index is none of our business"
    (repository / "net/new.c").write_text("int new;\n")
    seen.add(fetch(str(repository)).id)
    (repository / "net/new.c").write_text("int now;\n")
    seen.add(fetch(str(repository)).id)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "second")
    seen.add(fetch(str(repository)).id)
    assert len(seen) == 4, "a commit changes no file"


def test_no_kernel_tree(tmp_path: Path, tiny_tree: Path) -> None:
    with pytest.raises(SourceError, match=f"{tmp_path} is no Linux source tree"):
        fetch(str(tmp_path))
    (tiny_tree / "Kbuild").unlink()
    with pytest.raises(SourceError, match="it has no Kbuild"):
        fetch(str(tiny_tree))


@pytest.mark.parametrize("release", [(6, 0, 19), (5, 10, 200), (2, 6, 39)])
def test_too_old(tiny_tree: Path, release: tuple[int, int, int]) -> None:
    tiny.write(tiny_tree, release)
    text = ".".join(map(str, release))
    with pytest.raises(SourceError, match=rf"is Linux {text}; the overlay needs 6\.1 or newer"):
        fetch(str(tiny_tree))


def test_releases(tiny_tree: Path) -> None:
    makefile = tiny_tree / "Makefile"
    assert fetch(str(tiny.write(tiny_tree, (7, 3, 0)))).release == "7.3.0"
    text = makefile.read_text().replace("EXTRAVERSION =", "EXTRAVERSION = -rc7")
    makefile.write_text("# SPDX-License-Identifier: GPL-2.0\n" + text)
    assert fetch(str(tiny_tree)).release == "7.3.0-rc7"
    makefile.write_text("all:\n\techo no version\n")
    with pytest.raises(SourceError, match="doesn't say which Linux it is"):
        fetch(str(tiny_tree))


def test_a_revision_is_exported_and_the_checkout_untouched(repository: Path) -> None:
    (repository / "net/echo.c").write_text("half-done work\n")
    before, head = tiny.snapshot(repository), git(repository, "rev-parse", "HEAD")
    tree = fetch(f"git:{repository}@v6.1.999")
    assert tiny.snapshot(repository) == before
    assert git(repository, "worktree", "list").count("\n") == 0
    assert (tree.release, tree.id, tree.live) == ("6.1.999", f"git-{head}", False)
    assert (tree.path / "net/echo.c").read_text() == tiny.FILES["net/echo.c"]
    assert not (tree.path / ".git").exists()
    # Names of one commit are one source.
    assert fetch(f"git:{repository}@main").id == tree.id
    assert fetch(f"git:{repository}@{head[:12]}").id == tree.id


@pytest.mark.parametrize("spec", ["git:", "git:@", "git:~/linux", "git:~/linux@", "git:@v6.1"])
def test_malformed_git_specifications(spec: str) -> None:
    with pytest.raises(UsageError, match=re.escape("write git:FOLDER@REVISION, as in git:~/linux")):
        fetch(spec)


def test_what_git_does_not_have(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no commit 'v9\.9'"):
        fetch(f"git:{repository}@v9.9")
    with pytest.raises(SourceError, match="has no commit '--help'"):
        fetch(f"git:{repository}@--help")
    (tmp_path / "plain").mkdir()
    with pytest.raises(SourceError, match="is no git repository"):
        fetch(f"git:{tmp_path / 'plain'}@main")
    with pytest.raises(SourceError, match="there is no folder"):
        fetch("git:/no/such/folder@main")


def test_without_git(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install git"):
        fetch(f"git:{repository}@main")


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_tarball(tiny_tree: Path, tmp_path: Path, ending: str) -> None:
    archive = pack(tiny_tree, tmp_path / f"linux-6.1.999.{ending}")
    tree = fetch(str(archive))
    assert (tree.release, tree.live) == ("6.1.999", False)
    assert (tree.path / "net/echo.c").read_text() == tiny.FILES["net/echo.c"]
    renamed = archive.rename(tmp_path / f"other.{ending}")
    assert fetch(str(renamed)).path == tree.path, "by content"


def nothing_half_made(own_cache: Path) -> bool:
    return list((own_cache / "sources").iterdir()) == []


def test_a_tarball_that_is_cut_off(tiny_tree: Path, tmp_path: Path, own_cache: Path) -> None:
    (tiny_tree / "large").write_bytes(os.urandom(200_000))
    archive = pack(tiny_tree, tmp_path / "linux.tar.gz")
    whole = archive.read_bytes()
    archive.write_bytes(whole[:100_000])
    with pytest.raises(SourceError, match=r"linux\.tar\.gz can't be unpacked; it may be cut off"):
        fetch(str(archive))
    assert nothing_half_made(own_cache)
    archive.write_bytes(whole)
    assert fetch(str(archive)).release == "6.1.999"


def test_a_tarball_that_is_none(tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "linux.tar.xz").write_text("<html>404</html>")
    with pytest.raises(SourceError, match="can't be unpacked"):
        fetch(str(tmp_path / "linux.tar.xz"))
    (tmp_path / "docs").mkdir()
    docs = pack(tmp_path / "docs", tmp_path / "docs.tar")
    with pytest.raises(SourceError, match="is no Linux source tree"):
        fetch(str(docs))
    assert nothing_half_made(own_cache)


def hostile(archive: Path, *members: tuple[str, str]) -> Path:
    """members: (name, text, or the target of a link after '->')."""
    with tarfile.open(archive, "w") as file:
        for name, text in members:
            info = tarfile.TarInfo(name)
            if text.startswith("->"):
                info.type, info.linkname = tarfile.SYMTYPE, text[2:]
                file.addfile(info)
            else:
                info.size = len(text)
                file.addfile(info, io.BytesIO(text.encode()))
    return archive


@pytest.mark.parametrize("how", ["parent", "absolute", "link"])
def test_a_tarball_reaches_nothing_outside(tmp_path: Path, own_cache: Path, how: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    members = {
        "parent": [("l/" + "../" * 12 + f"{outside}/evil", "x")],
        "absolute": [(f"{outside}/evil", "x")],
        "link": [("l/link", f"->{outside}"), ("l/link/evil", "x")],
    }[how]
    with pytest.raises(SourceError):
        fetch(str(hostile(tmp_path / "evil.tar", *members)))
    assert list(outside.iterdir()) == []
    assert nothing_half_made(own_cache)


def test_the_user_gets_told_what_happens(tiny_tree: Path, tmp_path: Path) -> None:
    said: list[str] = []
    fetch(str(pack(tiny_tree, tmp_path / "linux-6.1.999.tar")), said.append)
    assert said == ["unpacking linux-6.1.999.tar"]


def test_an_unfit_tarball_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    docs = pack(tmp_path / "docs", tmp_path / "docs.tar")
    with pytest.raises(SourceError, match=r"docs\.tar") as caught:
        fetch(str(docs))
    assert ".part-" not in str(caught.value)


def test_new_files_of_any_name_are_seen(repository: Path) -> None:
    first = fetch(str(repository)).id
    (repository / "net/größe.h").write_text("#define SIZE 1\n")
    second = fetch(str(repository)).id
    (repository / "net/größe.h").write_text("#define SIZE 2\n")
    assert len({first, second, fetch(str(repository)).id}) == 3


def test_a_repository_without_commits(tiny_tree: Path) -> None:
    git(tiny_tree, "init", "-q")
    assert fetch(str(tiny_tree)).release == "6.1.999"


def test_folders_of_one_repository_are_different_sources(tmp_path: Path) -> None:
    repository = tmp_path / "both"
    for number, name in enumerate(("one", "two")):
        tiny.write(repository / name, (6, 1, number))
    git(repository, "init", "-q")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "both")
    assert fetch(f"git:{repository}/one@HEAD").release == "6.1.0"
    assert fetch(f"git:{repository}/two@HEAD").release == "6.1.1"


def test_an_export_is_what_was_committed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what somebody's settings, or another commit in its place, make of it."""
    tree = fetch(f"git:{repository}@v6.1.999")
    (repository / "net/echo.c").write_text("int other;\n")
    git(repository, "commit", "-q", "-a", "-m", "other")
    git(repository, "replace", "v6.1.999^{commit}", "HEAD")
    git(repository, "config", "core.autocrlf", "true")
    (repository / ".git/info/attributes").write_text("net/core.c export-ignore\n")
    without = fetch(f"git:{repository}@v6.1.999")
    assert without.id != tree.id
    assert (without.path / "net/echo.c").read_bytes() == tiny.FILES["net/echo.c"].encode()
    assert not (without.path / "net/core.c").exists()
    (repository / ".git/info/attributes").unlink()
    assert fetch(f"git:{repository}@v6.1.999") == tree
