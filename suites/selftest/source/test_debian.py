# SPDX-License-Identifier: GPL-2.0
"""Debian's sources: which version is taken, from where, and what goes wrong on the way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from anykernel.cache import CacheError
from anykernel.errors import SourceError, ToolError, UsageError
from anykernel.source import debian, fetch
from suites.selftest.source.fakeapt import FakeApt

pytestmark = pytest.mark.skipif(not debian.KEYRING.exists(), reason="no Debian")


@pytest.fixture
def apt(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    fake = FakeApt(tmp_path / "apt")
    monkeypatch.setenv("PATH", f"{fake.bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ANYKERNEL_MIRROR", "file:/archive")
    return fake


def test_the_newest_of_a_series(apt: FakeApt) -> None:
    apt.binary("6.1", "6.1.9-1", (6, 1, 9))
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    apt.binary("6.1", "6.1.170-3", (6, 1, 170))
    said: list[str] = []
    tree = fetch("debian:6.1", said.append)
    assert (tree.release, tree.id, tree.live) == ("6.1.192", "debian-6.1.192-2", False)
    assert (tree.path / "net/core.c").is_file()
    assert said == [
        "fetching Debian's package lists",
        "downloading linux-source-6.1 6.1.192-2",
        "unpacking linux-source-6.1 6.1.192-2",
    ]
    assert sorted(p.name for p in tree.path.parent.iterdir()) == [
        "checksums.json",
        "manifest.json",
        "tree",
    ]


def test_a_second_time_nobody_is_asked(apt: FakeApt) -> None:
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    first = fetch("debian:6.1")
    apt.calls()
    apt.fails("no network")
    assert fetch("debian:6.1") == first
    assert fetch("debian:6.1.192-2").path == first.path
    assert apt.calls() == []


def test_series_are_not_mixed(apt: FakeApt) -> None:
    """6.1 isn't 6.12."""
    apt.offers("linux-source-6.1", "6.12.8-1")
    apt.binary("6.1", "6.1.4-1", (6, 1, 4))
    apt.binary("6.12", "6.12.107-1", (6, 12, 107))
    apt.binary("7.3", "7.3~rc7-1~exp1", (7, 3, 0))
    assert fetch("debian:6.1").release == "6.1.4"
    assert fetch("debian:6.12").release == "6.12.107"
    assert fetch("debian:7.3").id == "debian-7.3~rc7-1~exp1"


def test_an_exact_release(apt: FakeApt) -> None:
    apt.binary("6.1", "6.1.170-3", (6, 1, 170))
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    assert fetch("debian:6.1.170-3").release == "6.1.170"
    assert not any("deb-src" in call or "source" in call.split()[1] for call in apt.calls())


def test_an_older_release_from_its_source_package(apt: FakeApt) -> None:
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    apt.source("linux", "6.1.8-1", (6, 1, 8))
    tree = fetch("debian:6.1.8-1")
    assert (tree.release, tree.id) == ("6.1.8", "debian-6.1.8-1")
    assert (tree.path / "net/core.c").is_file()
    assert "apt-get source --download-only linux=6.1.8-1" in apt.calls()


def test_a_release_without_debians_revision(apt: FakeApt) -> None:
    apt.binary("6.1", "6.1.17-1", (6, 1, 17))
    apt.binary("6.1", "6.1.170-3", (6, 1, 170))
    assert fetch("debian:6.1.17").id == "debian-6.1.17-1"


def test_what_debian_does_not_have(apt: FakeApt) -> None:
    apt.offers("linux-source-6.1", "6.1.192-2")
    with pytest.raises(SourceError, match=r"no kernel source 6\.1\.5-9; of 6\.1 there are: 6\.1\."):
        fetch("debian:6.1.5-9")
    with pytest.raises(SourceError, match=r"no kernel source 6\.99; of 6\.99 there are: none"):
        fetch("debian:6.99")


@pytest.mark.parametrize("what", ["", "bookworm", "6", "6.1; rm -rf /", "v6.1", "6.1/../x", "-1"])
def test_what_is_no_version(apt: FakeApt, what: str) -> None:
    with pytest.raises(UsageError, match=r"as in debian:6\.1 or debian:6\.1\.170-3"):
        fetch(f"debian:{what}")
    assert apt.calls() == []


def test_a_network_that_fails(apt: FakeApt, own_cache: Path) -> None:
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    apt.fails("E: Failed to fetch file:/archive  Could not connect\n")
    with pytest.raises(SourceError, match="Could not connect") as caught:
        fetch("debian:6.1")
    assert "ANYKERNEL_MIRROR" in str(caught.value) and "tarball" in str(caught.value)
    apt.fails("")
    assert fetch("debian:6.1").release == "6.1.192"


def test_a_download_that_is_cut_off(apt: FakeApt, own_cache: Path) -> None:
    """apt checks sizes itself; but should one get through, no half tree counts as present."""
    deb = apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    whole = deb.read_bytes()
    deb.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises((SourceError, ToolError)):
        fetch("debian:6.1")
    assert list((own_cache / "sources").iterdir()) == []
    deb.write_bytes(whole)
    assert fetch("debian:6.1").release == "6.1.192"


FULL = "E: You don't have enough free space in /x/archives/.\n"


def test_a_full_disk(apt: FakeApt) -> None:
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    fetch("debian:6.1")
    apt.binary("6.12", "6.12.1-1", (6, 12, 1))
    apt.fails(FULL)
    with pytest.raises(CacheError, match="the disk of the cache is full"):
        fetch("debian:6.12")


def test_a_disk_that_is_full_from_the_start(apt: FakeApt) -> None:
    apt.fails(FULL)
    said = ""
    try:
        fetch("debian:6.1")
    except OSError as error:
        said = str(error)
    except CacheError as error:
        said = str(error)
    assert "the disk of the cache is full" in said


@pytest.mark.parametrize("damage", ["tree", "manifest.json", "tree/Makefile"])
def test_a_source_damaged_by_hand_is_fetched_again(apt: FakeApt, damage: str) -> None:
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    tree = fetch("debian:6.1")
    apt.calls()
    subprocess.run(["rm", "-r", str(tree.path.parent / damage)], check=True)
    assert fetch("debian:6.1") == tree
    assert (tree.path / "Makefile").is_file()
    assert any("download" in call for call in apt.calls())


def test_the_configuration_is_our_own(apt: FakeApt, own_cache: Path) -> None:
    """As apt itself understands it."""
    apt.binary("6.1", "6.1.192-2", (6, 1, 192))
    fetch("debian:6.1")
    names = {
        "LISTS": "Dir::State::lists/d",
        "STATUS": "Dir::State::status/f",
        "CACHE": "Dir::Cache/d",
        "SOURCES": "Dir::Etc::sourcelist/f",
    }
    done = subprocess.run(
        ["apt-config", "shell", *(word for pair in names.items() for word in pair)],
        env={**os.environ, "APT_CONFIG": str(apt.home / "apt.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found.keys() == names.keys()
    for path in found.values():
        assert Path(path.strip("'")).is_relative_to(own_cache)
    lines = (own_cache / "apt/sources.list").read_text().splitlines()
    assert len(lines) == len(debian.SUITES)
    for line in lines:
        assert line.startswith(f"deb [signed-by={debian.KEYRING}] file:/archive ")


def test_an_archive_without_signatures_is_refused(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real apt; the system's own lists stay as they are."""
    for suite in debian.SUITES:
        folder = tmp_path / "archive/dists" / suite
        (folder / "main/binary-amd64").mkdir(parents=True)
        (folder / "main/binary-amd64/Packages").touch()
        (folder / "Release").write_text(f"Suite: {suite}\nCodename: {suite}\nComponents: main\n")
    lists = sorted(os.listdir("/var/lib/apt/lists"))
    monkeypatch.setenv("ANYKERNEL_MIRROR", f"file:{tmp_path / 'archive'}")
    with pytest.raises(SourceError, match="is not signed"):
        fetch("debian:6.1")
    assert sorted(os.listdir("/var/lib/apt/lists")) == lists


DEB822 = """\
Types: deb deb-src
URIs: {0}/debian/
Suites: bookworm
Components: main
# URIs: {0}/wrong

Types: deb
URIs: {0}/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
# deb {0}/wrong bookworm main
deb [arch=amd64 signed-by=/x.gpg] {0}/debian bookworm main
deb {0}/debian-security/ bookworm-security main
deb {0}/other stable main
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("sources.list.d/debian.sources", DEB822), ("sources.list", ONE_LINE)],
)
def test_mirrors_of_the_system(own_cache: Path, tmp_path: Path, name: str, text: str) -> None:
    place = "https://mirror.example"
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text.format(place))
    assert debian.mirrors(tmp_path) == (f"{place}/debian", f"{place}/debian-security")


def test_a_system_without_debian(own_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb https://mirror.example/ubuntu noble main\n")
    with pytest.raises(SourceError, match="set ANYKERNEL_MIRROR"):
        debian.mirrors(tmp_path)


def test_without_the_keyring(apt: FakeApt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "keyring.gpg")
    with pytest.raises(SourceError, match="apt-get install debian-archive-keyring"):
        fetch("debian:6.1")
