# SPDX-License-Identifier: GPL-2.0
"""A disk that is full from any change on: an error that says what to do, never half an entry, and
the next run has all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from suites.selftest.source.test_spec import pack

SOURCE = Path(__file__).with_name("faulty.c")
LOOP = """
import ctypes, os, shutil, sys
from pathlib import Path
from anykernel import cache
from anykernel.settings import settings

once, tree = int(sys.argv[1]), sys.argv[2]
root = settings().cache_dir
faulty = ctypes.CDLL(None)

def fill(folder):
    (folder / "sub").mkdir()
    (folder / "sub/large").write_bytes(b"x" * 100_000)
    (folder / "small").write_text("x")
    os.symlink("small", folder / "link")
    return {"answer": 42}, ["small"]

def make():
    return cache.make("things", "one", fill).path

def fetch():
    from anykernel.source import fetch
    return fetch(tree).path.parent

def compose():
    from anykernel.build.compose import compose
    from anykernel.source import fetch
    return compose(fetch(tree))

what = {"make": make, "fetch": fetch, "compose": compose}[sys.argv[3]]
number, said = 0, 0
while True:
    number += 1 if sys.argv[3] == "make" else max(1, number // 2)
    shutil.rmtree(root, ignore_errors=True)
    faulty.fail_at(str(root).encode(), number, once)
    try:
        what()
    except cache.CacheError as error:
        said += 1
        assert "the disk of the cache is full" in str(error), error
        assert "ANYKERNEL_CACHE" in str(error)
    failures = faulty.failed()
    faulty.fail_at(b"/", 0, 0)
    left = [p for p in root.rglob(cache.PREFIX + "*")]
    assert not left, (number, left)
    path = what()
    if sys.argv[3] != "compose":
        assert cache.damage(path) is None, (number, cache.damage(path))
    if not failures:
        break
print(number, said)
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("faulty") / "faulty.so"
    argv = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([*argv, str(SOURCE)], check=True)
    return library


@pytest.mark.parametrize("once", [False, True], ids=["stays-full", "for-once"])
@pytest.mark.parametrize("what", ["make", "fetch", "compose"])
def test_the_nth_change(
    faulty: Path, own_cache: Path, tiny_tree: Path, tmp_path: Path, what: str, once: bool
) -> None:
    if what == "fetch":
        tree = pack(tiny_tree, tmp_path / "linux.tar")
    else:
        tree = tiny_tree
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(int(once)), str(tree), what],
        env={
            **os.environ,
            "LD_PRELOAD": str(faulty),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    number, said = map(int, done.stdout.split())
    assert number > 5 and said >= 5, done.stdout


def test_the_helper_fails(faulty: Path, tmp_path: Path) -> None:
    """Else the tests above show nothing."""
    code = (
        "import ctypes, errno, os, sys\n"
        "ctypes.CDLL(None).fail_at(sys.argv[1].encode(), 2, 0)\n"
        "os.mkdir(sys.argv[1] + '/one')\n"
        "try: os.mkdir(sys.argv[1] + '/two')\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    env = {**os.environ, "LD_PRELOAD": str(faulty)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "ENOSPC\n"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
