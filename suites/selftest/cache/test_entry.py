# SPDX-License-Identifier: GPL-2.0
"""The cache: whole or absent, made once, damage found, a full disk explained."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from anykernel import cache
from anykernel.cache import CacheError
from anykernel.errors import AnykernelError


def fill(folder: Path) -> tuple[dict[str, Any], list[str]]:
    (folder / "sub").mkdir()
    (folder / "sub/key").write_bytes(b"precious")
    (folder / "other").write_bytes(b"not guarded")
    return {"answer": 42}, ["sub/key"]


def refuse(folder: Path) -> tuple[dict[str, Any], list[str]]:
    raise AssertionError("made again though it is there")


@pytest.fixture
def entry(own_cache: Path) -> cache.Entry:
    return cache.make("things", "one", fill)


def test_an_entry_is_made_once(entry: cache.Entry) -> None:
    assert entry.data == {"answer": 42}
    assert (entry.path / "sub/key").read_bytes() == b"precious"
    assert cache.make("things", "one", refuse) == entry
    assert cache.load("things", "one") == entry
    assert cache.load("things", "two") is None


def test_nothing_is_left_of_a_build_that_fails(own_cache: Path) -> None:
    def fail(folder: Path) -> tuple[dict[str, Any], list[str]]:
        (folder / "half").write_bytes(b"x" * 4096)
        raise AnykernelError("no luck")

    with pytest.raises(AnykernelError, match="no luck"):
        cache.make("things", "one", fail)
    assert list((own_cache / "things").iterdir()) == []
    assert cache.load("things", "one") is None
    cache.make("things", "one", fill)


def test_an_interrupt_leaves_nothing_either(own_cache: Path) -> None:
    def interrupted(folder: Path) -> tuple[dict[str, Any], list[str]]:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.make("things", "one", interrupted)
    assert list((own_cache / "things").iterdir()) == []


def replace_by_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "sub/key").write_bytes(b"rotten!!"),  # the same size
        lambda path: (path / "sub/key").write_bytes(b"short"),
        lambda path: (path / "sub/key").unlink(),
        lambda path: shutil.rmtree(path / "sub"),
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "manifest.json").write_bytes(b""),
        lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe{"),
        lambda path: (path / "manifest.json").write_text("[1, 2]"),
        lambda path: (path / "manifest.json").write_text('{"data": {}}'),
        lambda path: (path / "manifest.json").write_text('{"data": {}, "files": {"sub/key": 3}}'),
        replace_by_a_file,
    ],
)
def test_damage_is_found_and_repaired(entry: cache.Entry, damage: Any) -> None:
    damage(entry.path)
    assert cache.load("things", "one") is None
    assert not entry.path.exists()
    assert cache.make("things", "one", fill).data == {"answer": 42}
    assert (entry.path / "sub/key").read_bytes() == b"precious"


@pytest.mark.parametrize("files", [[], "sub/key", None])
def test_a_manifest_of_other_types_is_damage(entry: cache.Entry, files: object) -> None:
    manifest = entry.path / "manifest.json"
    manifest.write_text(json.dumps({"data": {}, "files": files}))
    assert cache.load("things", "one") is None
    assert cache.make("things", "one", fill).data == {"answer": 42}


def test_a_copied_cache_is_whole(entry: cache.Entry, own_cache: Path) -> None:
    """cp -r changes times, not content."""
    copy = own_cache.with_name("copy")
    shutil.copytree(own_cache, copy, copy_function=shutil.copyfile)
    shutil.rmtree(own_cache)
    copy.rename(own_cache)
    assert cache.load("things", "one") == entry


def test_an_entry_under_another_name_is_not_believed(entry: cache.Entry) -> None:
    entry.path.rename(entry.path.with_name("two"))
    assert cache.load("things", "two") is None
    assert cache.load("things", "one") is None


def _count(folder: Path, counter: Path) -> tuple[dict[str, Any], list[str]]:
    with counter.open("a") as file:
        file.write("made\n")
    time.sleep(0.2)
    return fill(folder)


def _maker(counter: Path, barrier: Any, said: Any) -> None:
    barrier.wait()
    made = cache.make("things", "one", lambda to: _count(to, counter), said.put)
    assert made.data == {"answer": 42}


def test_several_processes_ask_at_once_and_one_makes(own_cache: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, said = context.Barrier(3), context.Queue()
    counter = tmp_path / "counter"
    makers = [context.Process(target=_maker, args=(counter, barrier, said)) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(60)
    assert [maker.exitcode for maker in makers] == [0, 0, 0]
    assert counter.read_text() == "made\n"
    assert "another process makes things-one" in said.get(timeout=5)


KILLED = """
import sys, time
from anykernel import cache
def build(folder):
    (folder / "half").write_bytes(b"x")
    print("begun", flush=True)
    time.sleep(60)
cache.make("things", "one", build)
"""


def test_a_killed_maker_locks_nobody_out_and_is_swept(own_cache: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGKILL)
    (left,) = (own_cache / "things").iterdir()
    another = left.with_name(f"{cache.PREFIX}one-more-abcd1234")
    another.mkdir()
    assert cache.load("things", "one") is None
    assert cache.make("things", "one", fill).data == {"answer": 42}
    assert not left.exists()
    # Young ones of other entries may belong to somebody at work.
    assert another.exists()
    long_ago = time.time() - cache.LEFT_BEHIND - 60
    os.utime(another, (long_ago, long_ago))
    cache.make("things", "two", fill)
    assert not another.exists()


def test_a_full_disk_is_explained(own_cache: Path) -> None:
    def full(folder: Path) -> tuple[dict[str, Any], list[str]]:
        (folder / "some").write_bytes(b"x")
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
        return {}, []

    with pytest.raises(CacheError, match="full") as caught:
        cache.make("things", "one", full)
    assert "ANYKERNEL_CACHE" in str(caught.value)
    assert list((own_cache / "things").iterdir()) == []


ON_SMALL_DISK = """
import sys
from anykernel import cache
from anykernel.errors import AnykernelError
def build(folder):
    (folder / "small").write_bytes(b"x" * 1000)
    (folder / "large").write_bytes(b"x" * 1000000)
    return {}, ["small"]
try:
    cache.make("things", "one", build)
except AnykernelError as error:
    print(error)
print("left:", [p.name for p in cache.directory("things").iterdir()])
"""


def test_a_small_tmpfs(own_cache: Path, tmp_path: Path) -> None:
    """The same with a file system that really has no room."""
    own_cache.mkdir()
    script = tmp_path / "script.py"
    script.write_text(ON_SMALL_DISK)
    python = shlex.quote(sys.executable)
    mount = f"mount -t tmpfs -o size=300k none {own_cache} && exec {python} {script}"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "the disk of the cache is full" in done.stdout
    assert done.stdout.endswith("left: []\n")


def test_other_errors_of_the_disk(own_cache: Path, tmp_path: Path) -> None:
    for number in (errno.EACCES, errno.EROFS, errno.EPERM):
        said = pytest.raises(CacheError, match="set ANYKERNEL_CACHE to a folder of yours")
        with said, cache.explained(tmp_path):
            raise OSError(number, os.strerror(number), "somewhere")
    with pytest.raises(IsADirectoryError), cache.explained(tmp_path):
        tmp_path.read_bytes()


def test_remove_takes_what_is_there(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "sub").mkdir(parents=True)
    link.symlink_to(folder)
    cache.remove(link)
    assert folder.is_dir() and not link.is_symlink()
    cache.remove(folder)
    cache.remove(folder)
    assert list(tmp_path.iterdir()) == []
