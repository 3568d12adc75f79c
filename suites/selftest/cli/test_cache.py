# SPDX-License-Identifier: GPL-2.0
"""`anykernel cache`: what is a user's own or in use stays."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from anykernel import cache
from suites.selftest.cli.test_commands import fails, run

OURS = {"images": "0123456789abcdef", "objects": "0123456789ab-01234567", "trees": "0123456789ab"}


def build(tree: Path) -> Path:
    return Path(run("build", "--source", tree, "--quiet").stdout.strip()).parent


def age(*paths: Path) -> None:
    long_ago = time.time() - 60 * 86400
    for path in paths:
        os.utime(path, (long_ago, long_ago))


@pytest.fixture
def belongings(own_cache: Path, tmp_path: Path) -> list[Path]:
    """What somebody has who says ANYKERNEL_CACHE=$HOME: folders that have our folders' names."""
    found = []
    for kind in ("images", "objects", "trees", "sources", "host", "apt", "ccache"):
        folder = own_cache / kind / "holidays"
        folder.mkdir(parents=True)
        found.append(folder / "beach.jpg")
        found[-1].write_text("sand")
        age(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found.append(elsewhere / "notes")
    found[-1].write_text("mine")
    (own_cache / "images" / "link").symlink_to(elsewhere)
    found.append(own_cache / "images" / "link")
    # Even with a name as ours, what it leads to is not ours.
    (own_cache / "images" / OURS["images"]).symlink_to(elsewhere)
    return found


@pytest.mark.parametrize(
    "command", [("verify",), ("prune", "--days", "0"), ("prune",), ("clear", "--yes")]
)
def test_belongings_stay(belongings: list[Path], command: tuple[str, ...]) -> None:
    done = run("cache", *command)
    assert done.returncode == 0, done.stderr
    assert [path for path in belongings if not path.exists()] == []
    assert "holidays" not in run("cache", "list").stdout


def test_clear_leaves_nothing_of_ours(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    part = own_cache / "images" / f"{cache.PREFIX}0123456789abcdef-abcd_234"
    part.mkdir()
    assert re.fullmatch(r"freed \d+ MB\n", run("cache", "clear", "--yes").stdout)
    assert not image.exists()
    assert not part.exists()
    for kind in ("images", "objects", "trees"):
        assert list((own_cache / kind).iterdir()) == []
    assert build(tiny_tree) == image, "and all can be made again"


def test_clear_of_a_cache_that_is_none(own_cache: Path) -> None:
    assert run("cache", "clear", "--yes").stdout == "freed 0 MB\n"
    own_cache.parent.mkdir(exist_ok=True)
    assert fails("cache", "clear", env={"ANYKERNEL_CACHE": str(own_cache)}).endswith("Aborted!\n")


def test_what_is_being_built_stays(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    (objects,) = (own_cache / "objects").iterdir()
    (tree,) = (own_cache / "trees").iterdir()
    age(image, objects, tree)
    with cache.locked(f"objects-{objects.name}"):
        run("cache", "prune")
        assert objects.exists()
        assert tree.exists(), "make reads it"
        assert not image.exists(), "nobody makes this one"
        said = run("cache", "clear", "--yes").stderr
        assert f"objects/{objects.name} is being built and stays" in said
        assert objects.exists()
    run("cache", "prune")
    assert not objects.exists()
    assert not tree.exists()


def test_a_half_made_image_whose_maker_lives_stays(own_cache: Path) -> None:
    part = own_cache / "images" / f"{cache.PREFIX}0123456789abcdef-abcd_234"
    part.mkdir(parents=True)
    with cache.locked("images-0123456789abcdef"):
        run("cache", "clear", "--yes")
        assert part.exists()
    run("cache", "clear", "--yes")
    assert not part.exists()


def test_a_list_with_sizes(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    with (image / "more").open("wb") as file:
        file.truncate(300_000_000)
    (own_cache / "images" / OURS["images"]).mkdir()  # of a user, or without a manifest
    said = run("cache", "list").stdout
    assert re.search(rf"^  images +{image.name} +300 MB  Linux 6\.1\.999, {tiny_tree}$", said, re.M)
    assert re.search(rf"^  images +{OURS['images']} +0 MB$", said, re.M)
    assert re.search(r"^  all but ccache +300 MB$", said, re.M)


def test_damage_that_keeps_size_and_time(own_cache: Path, tiny_tree: Path) -> None:
    library = next(build(tiny_tree).glob("liblinux*.so"))
    status = library.stat()
    data = bytearray(library.read_bytes())
    data[-1] ^= 1
    library.write_bytes(data)
    os.utime(library, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert f"{library.name} has other content" in run("cache", "verify").stdout
    assert not library.exists()
    assert run("cache", "verify").stdout == "all is whole\n"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"files": {"vmlinux": 1}}'])
def test_a_damaged_manifest(tiny_tree: Path, own_cache: Path, text: str) -> None:
    image = build(tiny_tree)
    (image / cache.MANIFEST).write_text(text)
    assert run("cache", "list").returncode == 0
    assert f"{cache.MANIFEST} can't be read" in run("cache", "verify").stdout
    assert not image.exists()


def test_to_verify_is_not_to_use(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    age(image)
    assert run("cache", "verify").stdout == "all is whole\n"
    run("cache", "prune")
    assert not image.exists()


@pytest.mark.usefixtures("own_cache")
def test_days_are_a_number_of_days() -> None:
    assert "--days" in fails("cache", "prune", "--days", "-1")
    assert "--days" in fails("cache", "prune", "--days", "week")


def test_a_cache_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in (("list",), ("verify",), ("prune",), ("clear", "--yes")):
        said = fails("cache", *command, env={"ANYKERNEL_CACHE": str(tmp_path / "file")})
        assert "set ANYKERNEL_CACHE to a folder of yours" in said
