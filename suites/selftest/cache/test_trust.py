# SPDX-License-Identifier: GPL-2.0
"""Whose the cache is, a cache that can't be written, and files that change after they were looked
at."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from anykernel import cache
from anykernel.build import again, ensure_image
from anykernel.cache import CacheError, Damaged
from anykernel.host import Host
from anykernel.host.compiled import host_program
from suites.selftest.cache.test_entry import fill, refuse
from suites.selftest.cli.test_cache import flip

ELSE = 12345
"""A user who isn't us."""


@pytest.fixture
def entry(own_cache: Path) -> cache.Entry:
    return cache.make("things", "one", fill)


def given_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `path` somebody else's: as root in earnest, else by looking at it as another."""
    if os.geteuid() == 0:
        os.chown(path, ELSE, ELSE)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: ELSE)


@pytest.mark.parametrize("which", ["cache", "kind", "entry"])
def test_what_belongs_to_somebody_else(
    entry: cache.Entry, own_cache: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    path = {"cache": own_cache, "kind": own_cache / "things", "entry": entry.path}[which]
    given_away(path, monkeypatch)
    asks: tuple[Callable[[str, str], object], ...] = (cache.load, partial(cache.make, build=refuse))
    for ask in asks:
        with pytest.raises(CacheError, match="not to you") as caught:
            ask("things", "one")
        assert "Set ANYKERNEL_CACHE to a folder of yours" in str(caught.value)
        assert f"chown -R {os.geteuid()}" in str(caught.value)
    assert entry.path.exists(), "nor is it removed"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
def test_root_is_trusted_unless_others_can_write(
    entry: cache.Entry, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: ELSE)
    assert cache.load("things", "one") == entry
    for path in (own_cache, entry.path.parent, entry.path):
        path.chmod(0o775)
        with pytest.raises(CacheError, match=r"not yours and others can write to it .mode 775"):
            cache.load("things", "one")
        path.chmod(0o755)
    assert cache.load("things", "one") == entry


def test_a_composed_tree_and_programs_of_somebody_else(
    own_cache: Path, tiny_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = ensure_image(str(tiny_tree))
    program = host_program()
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x) { return -x; }\n")
    given_away(image.tree, monkeypatch)
    with pytest.raises(CacheError, match="not to you"):
        ensure_image(str(tiny_tree))
    given_away(program.parent, monkeypatch)
    with pytest.raises(CacheError, match="not to you"):
        host_program()


READ_ONLY = """
import sys
from anykernel import cache
from anykernel.build import ensure_image
from anykernel.host.compiled import client, host_program
from anykernel.settings import settings
try:
    open(settings().cache_dir / "written", "w")
    sys.exit("the cache can be written")
except OSError:
    pass
image = ensure_image(sys.argv[1])
print(image.library)
host_program(), client()
try:
    ensure_image(sys.argv[1], config={"TINY": "y"})
except cache.CacheError as error:
    print(error)
"""


def read_only(own_cache: Path, code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python where the cache's file system is read-only."""
    mount = f"mount --bind {own_cache} {own_cache} && mount -o remount,bind,ro {own_cache}"
    script = f'{mount} && exec {shlex.quote(sys.executable)} -c "$CODE" "$@"'
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", script, "sh", *map(str, arguments)],
        env={
            **os.environ,
            "CODE": code,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.stderr.startswith(("unshare:", "mount:")):
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done


def test_a_cache_that_is_read_only(own_cache: Path, tiny_tree: Path) -> None:
    """All is there: nothing is written, nothing locked."""
    from anykernel.host.compiled import client

    client.cache_clear()
    image = ensure_image(str(tiny_tree))
    host_program(), client()
    client.cache_clear()
    shutil.rmtree(own_cache / "locks")
    said = read_only(own_cache, READ_ONLY, tiny_tree).stdout.splitlines()
    assert said[0] == str(image.library)
    assert "the cache can't be written" in said[1] and "Read-only" in said[1]


def test_damage_in_a_cache_that_is_read_only(own_cache: Path, tiny_tree: Path) -> None:
    image = ensure_image(str(tiny_tree))
    flip(image.library)
    code = (
        "import sys\n"
        "from anykernel import cache\n"
        "from anykernel.build import ensure_image\n"
        "try: ensure_image(sys.argv[1])\n"
        "except cache.CacheError as error: print(error)\n"
    )
    said = read_only(own_cache, code, tiny_tree).stdout
    assert f"images/{image.id} is damaged ({image.library.name} has other content)" in said
    assert "the cache can't be written" in said


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def loop(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to(path.name)


def a_folder(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        cache.remove(path / name)
        (path / name).mkdir()
        (path / name / "more").touch()

    return damage


def a_loop(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        cache.remove(path / name)
        (path / name).symlink_to(Path(name).name)

    return damage


def huge(path: Path) -> None:
    with (path / cache.MANIFEST).open("r+b") as file:
        file.truncate(1 << 40)


def deep(path: Path) -> None:
    (path / cache.MANIFEST).write_text("[" * 100_000)


def another_format(path: Path) -> None:
    (path / cache.MANIFEST).write_text('{"format": 99, "key": "one"}')


def an_older_one(path: Path) -> None:
    """Without checksums of all files: nobody knows what became of them."""
    text = '{"key": "one", "data": {}, "files": {}}'
    (path / cache.MANIFEST).write_text(text)


def data_changed(path: Path) -> None:
    text = (path / cache.MANIFEST).read_text()
    assert '"answer": 42' in text
    (path / cache.MANIFEST).write_text(text.replace('"answer": 42', '"answer": 43'))


@pytest.mark.parametrize(
    "damage",
    [
        empty,
        loop,
        huge,
        deep,
        another_format,
        an_older_one,
        data_changed,
        a_folder(cache.MANIFEST),
        a_folder("sub/key"),
        a_folder("checksums.json"),
        a_loop(cache.MANIFEST),
        a_loop("sub/key"),
        a_loop("checksums.json"),
        lambda path: flip(path / "checksums.json"),
        lambda path: (path / "checksums.json").unlink(),
        lambda path: (path / "checksums.json").write_text("{}"),
    ],
)
def test_an_entry_in_any_state_is_made_again(
    entry: cache.Entry, damage: Callable[[Path], None]
) -> None:
    damage(entry.path)
    assert cache.make("things", "one", fill) == entry
    assert cache.damage(entry.path) is None


def test_a_library_with_a_flipped_bit(own_cache: Path, tiny_tree: Path) -> None:
    """As it was, for all that its size and its time of modification say."""
    image = ensure_image(str(tiny_tree))
    before = image.library.read_bytes()
    for path in (image.library, image.vmlinux, image.config):
        flip(path)
        assert ensure_image(str(tiny_tree)) == image
        assert image.library.read_bytes() == before
        assert cache.damage(image.library.parent) is None


def test_a_host_program_with_a_flipped_bit(own_cache: Path) -> None:
    program = host_program()
    before = program.read_bytes()
    flip(program)
    assert host_program() == program
    assert program.read_bytes() == before


@pytest.mark.parametrize("how", ["gone", "flipped", "cut off", "all gone"])
def test_a_library_that_changes_after_it_was_looked_at(
    own_cache: Path, tiny_tree: Path, how: str
) -> None:
    image = ensure_image(str(tiny_tree))
    if how == "gone":
        image.library.unlink()
    elif how == "flipped":
        flip(image.library)
    elif how == "cut off":
        os.truncate(image.library, 100)
    else:
        shutil.rmtree(own_cache / "images")
    with pytest.raises(Damaged, match="run this again, and it is made anew"):
        Host(image)
    assert ensure_image(str(tiny_tree)) == image
    assert image.library.is_file()


def test_kept_files_are_looked_at_when_they_are_used(own_cache: Path, tiny_tree: Path) -> None:
    image = ensure_image(str(tiny_tree))
    kept = image.objects / "commands.json"
    cache.sound([kept])
    flip(kept)
    with pytest.raises(Damaged, match=r"commands\.json has other content"):
        cache.sound([kept])
    assert not kept.exists()
    again(image)
    cache.sound(cache.listed(image.objects))
    (image.objects / "order").unlink()
    with pytest.raises(Damaged, match="order is missing"):
        cache.sound(cache.listed(image.objects), read=False)


def test_a_source_that_changed_meanwhile(own_cache: Path, tiny_tree: Path) -> None:
    image = ensure_image(str(tiny_tree))
    cache.remove(image.library.parent)
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x) { return -x; }\n")
    with pytest.raises(CacheError, match="its source has changed since it was built"):
        again(image)


def test_a_cache_that_was_moved_is_read_once(
    entry: cache.Entry, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files have other inodes: that they are the same is found out, and noted."""
    manifest = entry.path / cache.MANIFEST
    copy = own_cache.with_name("copy")
    shutil.copytree(own_cache, copy)
    shutil.rmtree(own_cache)
    copy.rename(own_cache)
    before = manifest.read_text()
    assert cache.load("things", "one") == entry
    noted = manifest.read_text()
    assert noted != before
    assert cache.load("things", "one") == entry
    assert manifest.read_text() == noted
    assert cache.damage(entry.path) is None
