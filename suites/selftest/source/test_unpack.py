# SPDX-License-Identifier: GPL-2.0
"""Tarballs of somebody who means harm, and such that are cut off: nothing outside of the cache is
touched, nothing half-made stays."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from anykernel.errors import SourceError, ToolError
from anykernel.source import fetch
from suites.selftest import tiny
from suites.selftest.build.test_compose import everything
from suites.selftest.source.test_spec import nothing_half_made, pack

Member = tuple[str, bytes, str]
"""(name, type of tarfile, text or where it leads)."""


def archive(path: Path, *members: Member) -> Path:
    """A tarball of a whole tiny tree, with `members` behind it."""
    tree = tiny.write(path.parent / "l")
    with tarfile.open(path, "w") as file:
        file.add(tree, "l")
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                file.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                file.addfile(info)
    return path


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("l/../../evil", FILE, "x")],
        [("l/net/../../../evil", FILE, "x")],
        [("../evil", FILE, "x")],
        [("{out}/evil", FILE, "x")],
        [("l/link", LINK, "{out}")],
        [("l/link", LINK, "../../../../../../../../..{out}"), ("l/link/evil", FILE, "x")],
        [("l/link", LINK, "net"), ("l/link/../../../evil", FILE, "x")],
        [("l/link", LINK, "net"), ("l/link/evil", FILE, "x")],
        [("l/hard", HARD, "{out}/precious")],
        [("l/hard", HARD, "l/../../../../../../../../../../..{out}/precious")],
        [("l/link", LINK, "{out}/precious"), ("l/link", FILE, "overwritten")],
        [("l/device", tarfile.CHRTYPE, "")],
        [("l/device", tarfile.BLKTYPE, "")],
        [("l/pipe", tarfile.FIFOTYPE, "")],
        [("l/Makefile", FILE, "VERSION = 6\n"), ("l/Makefile/evil", FILE, "x")],
        [("l/nowhere", HARD, "l/not/there")],
        [("l/" + "x" * 300, FILE, "a name that no file system has")],
    ],
    ids=lambda members: members[-1][0][:24],
)
def test_a_tarball_that_means_harm(tmp_path: Path, own_cache: Path, members: list[Member]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    placed = [(n.format(out=outside), kind, text.format(out=outside)) for n, kind, text in members]
    evil = archive(tmp_path / "evil.tar", *placed)
    before = everything(outside)
    with pytest.raises(SourceError, match=r"evil\.tar can't be unpacked|no Linux source"):
        fetch(str(evil))
    assert everything(outside) == before
    assert not list(tmp_path.rglob("evil"))
    assert nothing_half_made(own_cache)


def test_many_links_of_links_lead_nowhere(tmp_path: Path, own_cache: Path) -> None:
    """Paths longer than the kernel resolves have led out of Python's filter (CVE-2025-4517)."""
    deep = "d" * 200
    members: list[Member] = []
    step = ""
    for letter in "abcdefghijklmnop":
        members.append((f"l/{step}{deep}", tarfile.DIRTYPE, ""))
        members.append((f"l/{step}{letter}", LINK, deep))
        step += f"{deep}/"
    short = "/".join("abcdefghijklmnop")
    members.append((f"l/{short}/{'l' * 254}", LINK, "../" * 16))
    members.append(("l/escape", LINK, f"{short}/{'l' * 254}/../../../../../.."))
    members.append(("l/escape/evil", FILE, "x"))
    with pytest.raises(SourceError):
        fetch(str(archive(tmp_path / "evil.tar", *members)))
    assert not list(tmp_path.rglob("evil"))
    assert nothing_half_made(own_cache)


def test_what_a_kernels_tarball_has(tmp_path: Path, own_cache: Path) -> None:
    """Links of all good kinds, programs, a name twice, empty folders; owners aren't taken."""
    good = archive(
        tmp_path / "linux.tar",
        ("l/scripts/net", LINK, "../net"),
        ("l/net/gone", LINK, "nowhere"),
        ("l/net/same.c", HARD, "l/net/echo.c"),
        ("l/net/core.c", FILE, "int second;\n"),
        ("l/empty", tarfile.DIRTYPE, ""),
    )
    (tmp_path / "l/slowly").chmod(0o775)
    with tarfile.open(good, "a") as file:
        file.add(tmp_path / "l/slowly", "l/slowly")
    tree = fetch(str(good)).path
    assert os.readlink(tree / "scripts/net") == "../net"
    assert (tree / "net/same.c").read_text() == tiny.FILES["net/echo.c"]
    assert (tree / "net/core.c").read_text() == "int second;\n"
    assert (tree / "slowly").stat().st_mode & 0o777 == 0o755
    assert (tree / "slowly").stat().st_uid == os.getuid()
    assert (tree / "empty").is_dir()


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_zstd(tiny_tree: Path, tmp_path: Path) -> None:
    plain = pack(tiny_tree, tmp_path / "linux.tar")
    subprocess.run(["zstd", "-q", str(plain)], check=True)
    assert fetch(str(tmp_path / "linux.tar.zst")).release == "6.1.999"


@pytest.mark.parametrize(("ending", "package"), [("xz", "xz-utils"), ("zst", "zstd")])
def test_without_the_program_that_unpacks(
    tiny_tree: Path,
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    package: str,
) -> None:
    (tmp_path / f"linux.tar.{ending}").write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=f"apt-get install {package}"):
        fetch(str(tmp_path / f"linux.tar.{ending}"))
    assert nothing_half_made(own_cache)


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_cut_off_anywhere(tiny_tree: Path, tmp_path: Path, own_cache: Path, ending: str) -> None:
    """At the end of a member, too, where a tarball looks whole."""
    (tiny_tree / "zlast").write_bytes(os.urandom(40_000))
    whole = pack(tiny_tree, tmp_path / f"linux.{ending}")
    data = whole.read_bytes()
    step = 512 if ending == "tar" else 977
    cuts = list(range(0, len(data) - 10_240 if ending == "tar" else len(data), step))
    for size in cuts[:: max(1, len(cuts) // 25)]:
        whole.write_bytes(data[:size])
        with pytest.raises(SourceError):
            fetch(str(whole))
        assert nothing_half_made(own_cache), size
    whole.write_bytes(data)
    assert fetch(str(whole)).release == "6.1.999"
