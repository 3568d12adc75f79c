# SPDX-License-Identifier: GPL-2.0
"""`anykernel stubs`, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anykernel.cli.stubs import minor
from anykernel.kernel import Kernel
from anykernel.link.policy import load

MAIN = [sys.executable, "-c", "from anykernel.cli import main; main()", "stubs"]


@pytest.fixture
def source(kernel: Kernel) -> list[str]:
    """The kernel that this run is about."""
    return ["--source", kernel.image.source, "--flavour", kernel.image.flavour]


def run(*arguments: str | Path, fails: bool = False) -> str:
    done = subprocess.run(
        [*MAIN, *map(str, arguments)],
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode != 0) == fails, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if fails else done.stdout


def test_all_named_images(source: list[str]) -> None:
    said = run(*source)
    names = re.findall(r"^(\S+) +\d+ +\d+ +\d+ +\d+ +\d+ +\d+ +\S", said, re.M)
    assert names == list(load().images)
    assert re.search(r"^net-ipv4 .* net/ipv4\b", said, re.M)


def test_one(source: list[str]) -> None:
    said = run("net-ipv4", *source)
    assert re.match(r"image net-ipv4: \d+ generated \(\d+ granted\), \d+ variants", said)
    assert (
        "  void nf_conntrack_destroy(struct nf_conntrack *nfct)\n    of net/netfilter/core.o\n"
        in said
    )
    assert re.search(r"needed by: .*net/core/skbuff\.o", said)
    assert re.search(r"int netfilter_init\(void\)\n.*\n.*\n    why: called by sock_init", said)
    assert max(map(len, said.replace("(", "\n").splitlines())) < 200


def test_components(source: list[str]) -> None:
    data = json.loads(run("net/ipv4, fs/ext4", "--json", *source))
    (image,) = data
    assert image["name"] == "net/ipv4,fs/ext4"
    assert {"net/ipv4", "fs/ext4", "fs/jbd2", "base"} <= set(image["components"])
    assert image["size"] > 1 << 20
    (stub,) = [one for one in image["stubs"] if one["symbol"] == "netfilter_init"]
    assert stub["generated"] is True
    assert stub["kind"] == "function"
    assert stub["home"] == "net/netfilter/core.o"
    assert "net/socket.o" in stub["users"]


@pytest.mark.slow
def test_what_nobody_lacks(source: list[str], tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[grant.no_such_function]\nreturns = 0\nwhy = "x"')
    said = run("--policy", tmp_path, *source)
    assert re.search(r"^granted, but lacked by none of these: .*no_such_function", said, re.M)


def test_writing(source: list[str], kernel: Kernel, tmp_path: Path) -> None:
    folder = tmp_path / minor(kernel.image.release)
    folder.mkdir()
    (folder / "old.txt").write_text("of an image that has gone")
    said = run("--write", tmp_path, *source)
    written = sorted(folder.iterdir())
    assert said.split() == [str(folder / f"{name}.txt") for name in load().images]
    assert [path.stem for path in written] == sorted(load().images)
    for path in written:
        text = path.read_text()
        assert text.startswith(f"image {path.stem}: ")
        assert str(Path.home()) not in text
        assert kernel.image.release not in text


def test_what_is_wrong(source: list[str], tmp_path: Path) -> None:
    assert "did you mean net/ipv" in run("net/ipv5", *source, fails=True)
    said = run("base", "--write", tmp_path, *source, fails=True)
    assert "--write is for all named images at once" in said
    assert f"there is no folder {tmp_path}/x" in run(
        "--policy", tmp_path / "x", *source, fails=True
    )


@pytest.mark.parametrize(
    ("release", "said"), [("6.1.192", "6.1"), ("6.12-rc3", "6.12"), ("7.0", "7.0")]
)
def test_minor(release: str, said: str) -> None:
    assert minor(release) == said
