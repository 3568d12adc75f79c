# SPDX-License-Identifier: GPL-2.0
"""A folder's identity is what is in its files: whatever git is told, or its environment says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from anykernel.errors import SourceError
from anykernel.source import fetch, state
from suites.selftest import tiny
from suites.selftest.source.test_spec import git

OTHER = "int net_echo(int x) { return -x; }\n"


@pytest.fixture
def repository(tiny_tree: Path, own_cache: Path) -> Path:
    (tiny_tree / ".gitignore").write_text("*.gen.h\n")
    (tiny_tree / "net/a.gen.h").write_text("#define A 1\n")
    git(tiny_tree, "init", "-q", "-b", "main")
    git(tiny_tree, "add", "-A")
    git(tiny_tree, "commit", "-q", "-m", "first")
    return tiny_tree


def edit(repository: Path) -> None:
    (repository / "net/echo.c").write_text(OTHER)


def skip_worktree(repository: Path) -> None:
    git(repository, "update-index", "--skip-worktree", "net/echo.c")
    edit(repository)


def assume_unchanged(repository: Path) -> None:
    git(repository, "update-index", "--assume-unchanged", "net/echo.c")
    edit(repository)


def ignored(repository: Path) -> None:
    (repository / "net/a.gen.h").write_text("#define A 2\n")


def excluded(repository: Path) -> None:
    (repository / ".git/info/exclude").write_text("*.new.c\n")
    (repository / "net/some.new.c").write_text("int more;\n")


def diff_external(repository: Path) -> None:
    git(repository, "config", "diff.external", "true")
    edit(repository)


def textconv(repository: Path) -> None:
    (repository / ".gitattributes").write_text("*.c diff=blind\n")
    fetch(str(repository))
    git(repository, "config", "diff.blind.textconv", "true")
    edit(repository)


def fsmonitor(repository: Path) -> None:
    """One that says that nothing has changed."""
    hook = repository / ".git/quiet"
    hook.write_text("#!/bin/sh\nprintf 'token\\0'\n")
    hook.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(hook))
    git(repository, "status")
    edit(repository)


def locked_index(repository: Path) -> None:
    (repository / ".git/index.lock").touch()
    edit(repository)


def no_index(repository: Path) -> None:
    (repository / ".git/index").unlink()
    edit(repository)


def damaged(repository: Path) -> None:
    shutil.rmtree(repository / ".git/objects")
    edit(repository)


def sparse(repository: Path) -> None:
    git(repository, "sparse-checkout", "set", "--no-cone", "/*", "!/net/core.c")


def same_size_and_time(repository: Path) -> None:
    """What `touch -r` does after an edit of one letter."""
    echo = repository / "net/echo.c"
    before = echo.stat()
    echo.write_text(echo.read_text().replace("return x", "return 7"))
    os.utime(echo, ns=(before.st_atime_ns, before.st_mtime_ns))


def mode(repository: Path) -> None:
    git(repository, "config", "core.fileMode", "false")
    (repository / "slowly").chmod(0o755)


def removed(repository: Path) -> None:
    (repository / "net/a.gen.h").unlink()


@pytest.mark.parametrize(
    "hidden",
    [
        skip_worktree,
        assume_unchanged,
        ignored,
        excluded,
        diff_external,
        textconv,
        fsmonitor,
        locked_index,
        no_index,
        damaged,
        sparse,
        same_size_and_time,
        mode,
        removed,
    ],
)
def test_what_git_is_told_to_hide(
    repository: Path, hidden: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "RECENT_NS", 0)  # as if the edit came long after
    first = fetch(str(repository)).id
    assert fetch(str(repository)).id == first
    time.sleep(0.01)
    hidden(repository)
    assert fetch(str(repository)).id != first


def test_a_submodule(repository: Path, tmp_path: Path) -> None:
    part = repository / "drivers/part"
    part.mkdir(parents=True)
    (part / "part.c").write_text("int part;\n")
    git(part, "init", "-q")
    git(part, "add", "-A")
    git(part, "commit", "-q", "-m", "part")
    git(repository, "add", "drivers/part")  # as a submodule
    git(repository, "config", "diff.ignoreSubmodules", "all")
    first = fetch(str(repository)).id
    (part / "part.c").write_text("int other_part;\n")
    assert fetch(str(repository)).id != first


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_that_lead_elsewhere(repository: Path, tmp_path: Path, what: str) -> None:
    elsewhere = tmp_path / "elsewhere/deep"
    elsewhere.mkdir(parents=True)
    (elsewhere / "own.c").write_text("int own;\n")
    target = elsewhere.parent if what == "folder" else elsewhere / "own.c"
    (repository / "net/own.c").symlink_to(target)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "a link")
    first = fetch(str(repository)).id
    (elsewhere / "own.c").write_text("int other;\n")
    second = fetch(str(repository)).id
    (repository / "net/own.c").unlink()
    (repository / "net/own.c").symlink_to(os.path.relpath(target, repository / "net"))
    assert len({first, second, fetch(str(repository)).id}) in (2, 3)
    assert first != second


def test_links_in_a_circle(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/back").symlink_to(repository)
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "elsewhere")
    (repository / "out").symlink_to(tmp_path / "elsewhere")
    (repository / "self").symlink_to("self")
    (repository / "net/up").symlink_to("..")
    first = fetch(str(repository)).id
    edit(repository)
    assert fetch(str(repository)).id != first


def test_a_link_to_very_much(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST", 10)
    (repository / "all").symlink_to("/usr/lib")
    with pytest.raises(SourceError, match=r"tiny/all leads out of the source .* remove that link"):
        fetch(str(repository))


@pytest.mark.parametrize(
    "name", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG_PARAMETERS", "GIT_PREFIX"]
)
def test_an_environment_that_names_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As it is within a hook of git."""
    other = tiny.write(tmp_path / "other")
    git(other, "init", "-q")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "other")
    head = git(repository, "rev-parse", "HEAD")
    first = fetch(str(repository)).id
    values = {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": "/nowhere"}
    monkeypatch.setenv(name, str(values.get(name, "'core.bare'='true'")))
    assert fetch(str(repository)).id == first
    assert fetch(f"git:{repository}@HEAD").id == f"git-{head}"
    edit(repository)
    assert fetch(str(repository)).id != first


def test_a_worktree_and_a_folder_of_a_repository(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "worktree"))
    tiny.write(repository / "below/linux")
    for folder in (tmp_path / "worktree", repository / "below/linux"):
        first = fetch(str(folder)).id
        edit(folder)
        assert fetch(str(folder)).id != first


def test_the_same_content_again_is_the_same_source(repository: Path) -> None:
    """A branch and back, a commit of what is there, a touch: nothing to build."""
    first = fetch(str(repository)).id
    old = (repository / "net/echo.c").read_text()
    edit(repository)
    second = fetch(str(repository)).id
    git(repository, "commit", "-q", "-a", "-m", "second")
    assert fetch(str(repository)).id == second != first
    (repository / "net/echo.c").write_text(old)
    (repository / "net/core.c").touch()
    assert fetch(str(repository)).id == first


def test_what_a_build_cannot_see(tiny_tree: Path, own_cache: Path) -> None:
    """An editor at work, an in-tree build, objects of a build elsewhere (O=)."""
    first = fetch(str(tiny_tree)).id
    for name in ("net/.echo.c.swp", "net/echo.c~", "net/.#echo.c", "net/#echo.c#", ".idea/x.xml"):
        (tiny_tree / name).parent.mkdir(exist_ok=True)
        (tiny_tree / name).write_text("unsaved")
    for name in (".config", "vmlinux", "net/echo.o", "net/.echo.o.cmd", "net/echo.dwo"):
        (tiny_tree / name).write_text("built")
    (tiny_tree / "out").mkdir()
    (tiny_tree / "out/source").symlink_to(tiny_tree)
    (tiny_tree / "out/big.o").write_text("built")
    assert fetch(str(tiny_tree)).id == first
    (tiny_tree / "net/blob.o").write_text("that nobody here has made")
    assert fetch(str(tiny_tree)).id != first


def test_files_that_cannot_be_read_or_opened(tiny_tree: Path, own_cache: Path) -> None:
    os.mkfifo(tiny_tree / "net/pipe")
    (tiny_tree / "net/private.c").write_text("")
    (tiny_tree / "net/private.c").chmod(0)
    (tiny_tree / "net/gone.c").symlink_to("nowhere")
    (tiny_tree / os.fsdecode(b"net/\xff.h")).write_text("of another encoding\n")
    assert fetch(str(tiny_tree)).id == fetch(str(tiny_tree)).id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "{}",
        '{"format": 1, "files": {"net/": {"echo.c": 1}}}',
        '{"format": 1, "files": {"net/": 1}}',
    ],
)
def test_a_damaged_memory(tiny_tree: Path, own_cache: Path, text: str) -> None:
    first = fetch(str(tiny_tree)).id
    (record,) = (own_cache / "states").iterdir()
    record.write_text(text)
    assert fetch(str(tiny_tree)).id == first
    record.unlink()
    record.mkdir()
    assert fetch(str(tiny_tree)).id == first


def test_what_is_remembered_is_not_read_again(
    tiny_tree: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = time.time() - 60
    for path in tiny_tree.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    monkeypatch.setattr(state, "RECENT_NS", 0)
    time.sleep(0.01)
    first = fetch(str(tiny_tree)).id
    (record,) = (own_cache / "states").iterdir()
    assert set(json.loads(record.read_text())["files"]["net/"]) == {"core.c", "echo.c"}
    read = "import sys; sys.addaudithook(lambda event, args: event == 'open' and print(args[0]))\n"
    code = f"from anykernel.source import fetch; print(fetch({str(tiny_tree)!r}).id)"
    argv = [sys.executable, "-c", read + code]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=Path.cwd())
    lines = done.stdout.split("\n")
    assert first in lines
    assert [line for line in lines if line.startswith(f"{tiny_tree}/net")] == []
