# SPDX-License-Identifier: GPL-2.0
"""`anykernel cache`: what is a user's own or in use stays."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from anykernel import cache
from anykernel.cli.stored import NAMES
from anykernel.settings import settings
from suites.selftest import tiny
from suites.selftest.cli.test_commands import fails, run
from suites.selftest.source.test_spec import git, pack

OURS = {"images": "0123456789abcdef", "objects": "0123456789ab-01234567", "trees": "0123456789ab"}


def build(tree: Path) -> Path:
    return Path(run("build", "--source", tree, "--quiet").stdout.strip()).parent


def flip(path: Path) -> None:
    """Changes a bit in the middle, and nothing else that `ls -l` shows."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stored_paths(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


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
    about = rf"now +now +Linux 6\.1\.999, {tiny_tree}"
    assert re.search(rf"^  images +{image} +300 MB +{about}$", said, re.M)
    assert re.search(rf"^  images +{own_cache}/images/{OURS['images']} +0 MB +now$", said, re.M)
    assert re.search(r"^  all but ccache +300 MB", said, re.M)
    for kind in ("trees", "objects"):
        (path,) = (own_cache / kind).iterdir()
        assert re.search(rf"^  {kind} +{path} .*{tiny_tree}$", said, re.M)


def test_a_list_for_programs(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    age(image)
    found = json.loads(run("cache", "list", "--json").stdout)
    assert found["path"] == str(own_cache)
    assert found["bytes"] == sum(one["size"] for one in found["entries"]) > 0
    (one,) = (one for one in found["entries"] if one["kind"] == "images")
    assert one["path"] == str(image) and one["name"] == image.name
    assert one["source"] == str(tiny_tree)
    assert abs(one["made"] - time.time()) < 600
    assert abs(one["used"] - time.time() + 60 * 86400) < 600


def test_long_names_are_whole(own_cache: Path, tmp_path: Path) -> None:
    tree = tiny.write(tmp_path / ("a-long-name-" * 8))
    assert re.search(rf"^  trees .*{tree}$", (build(tree), run("cache", "list").stdout)[1], re.M)


@pytest.mark.parametrize("how", ["name", "kind", "path"])
def test_one_entry_is_removed(own_cache: Path, tiny_tree: Path, how: str) -> None:
    image = build(tiny_tree)
    what = {"name": image.name, "kind": f"images/{image.name}", "path": str(image)}[how]
    said = run("cache", "remove", what).stdout
    assert re.fullmatch(rf"removed images/{image.name}\nfreed \d+ MB\n", said)
    assert not image.exists()
    assert list((own_cache / "objects").iterdir()), "the rest stays"
    assert build(tiny_tree) == image


@pytest.mark.parametrize("kind", ["folder", "git", "tar"])
def test_all_of_one_source_is_removed(
    own_cache: Path, tiny_tree: Path, tmp_path: Path, kind: str
) -> None:
    """And nothing of others, nor of the user's own files."""
    other = build(tiny.write(tmp_path / "other"))
    git(tiny_tree, "init", "-q")
    git(tiny_tree, "add", "-A")
    git(tiny_tree, "commit", "-q", "-m", "first")
    spec = {"folder": f"{tiny_tree}", "git": f"git:{tiny_tree}@HEAD", "tar": ""}[kind]
    spec = spec or str(pack(tiny_tree, tmp_path / "linux.tar"))
    before = tiny.snapshot(tiny_tree)
    kept = {path for kind in NAMES for path in stored_paths(own_cache / kind)}
    image = Path(run("build", "--source", spec, "--quiet").stdout.strip()).parent
    assert image.exists()
    run("cache", "remove", spec)
    assert {path for kind in NAMES for path in stored_paths(own_cache / kind)} == kept
    assert other.exists() and tiny.snapshot(tiny_tree) == before


def test_images_of_parts_go_with_their_kernel(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    settings.cache_clear()
    part = cache.make("images", "00000000000000aa", lambda to: ({"base": image.name}, []))
    unit = cache.make("units", "00000000000000bb", lambda to: ({"base": image.name}, []))
    other = cache.make("units", "00000000000000cc", lambda to: ({"base": "another"}, []))
    run("cache", "remove", str(tiny_tree))
    assert [one.path.exists() for one in (part, unit, other)] == [False, False, True]


def test_what_is_not_there_is_not_removed(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    for what in ("no-such-name", "debian:6.1", "/", "images", "..", "", str(own_cache)):
        said = fails("cache", "remove", what)
        assert "anykernel cache list" in said
    assert image.exists()


def test_what_is_being_built_is_not_removed(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    settings.cache_clear()
    with cache.locked(f"images-{image.name}"):
        assert "is being built and stays" in fails("cache", "remove", image.name)
    assert image.exists()


def all_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def test_each_flipped_bit_is_found(own_cache: Path, tiny_tree: Path) -> None:
    """In whatever file of an image, with its size and its time of modification as before."""
    image = build(tiny_tree)
    settings.cache_clear()
    names = [path.relative_to(image) for path in all_files(image)]
    assert {"vmlinux", "config", "manifest.json", "checksums.json"} <= set(map(str, names))
    assert any(name.suffix == ".json" and len(name.parts) > 1 for name in names)
    for name in names:
        path = image / name
        if not path.stat().st_size:
            continue
        whole = path.read_bytes()
        flip(path)
        how = "can't be read" if path.name == cache.MANIFEST else "has other content"
        assert cache.damage(image) == f"{name} {how}"
        path.write_bytes(whole)
        assert cache.damage(image) is None


def test_a_file_more_or_less_is_found(own_cache: Path, tiny_tree: Path) -> None:
    image = build(tiny_tree)
    (image / "objects/more.h").write_text("#define MORE\n")
    assert "objects/more.h doesn't belong there" in run("cache", "verify").stdout
    assert build(tiny_tree) == image
    (image / "objects/order").unlink()
    assert "objects/order is missing" in run("cache", "verify").stdout
    assert build(tiny_tree) == image
    (image / "objects/order").unlink()
    (image / "objects/order").symlink_to("library")
    assert "objects/order is no file any more" in run("cache", "verify").stdout


def test_a_flipped_bit_in_a_source(own_cache: Path, tiny_tree: Path, tmp_path: Path) -> None:
    spec = str(pack(tiny_tree, tmp_path / "linux.tar"))
    run("build", "--source", spec)
    (source,) = (own_cache / "sources").iterdir()
    flip(source / "tree/net/echo.c")
    assert "tree/net/echo.c has other content" in run("cache", "verify").stdout
    assert not source.exists()
    assert run("build", "--source", spec).returncode == 0


def test_damage_that_keeps_size_and_time(own_cache: Path, tiny_tree: Path) -> None:
    library = next(build(tiny_tree).glob("liblinux*.so"))
    flip(library)
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
