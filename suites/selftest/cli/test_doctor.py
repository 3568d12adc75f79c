# SPDX-License-Identifier: GPL-2.0
"""`anykernel doctor` on machines that lack things."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from anykernel.cli.doctor import TOOLS
from anykernel.proc import PACKAGES
from suites.selftest.cli.test_commands import run

PACKAGE_OF = {tool: PACKAGES.get(tool, tool) for tool, _ in TOOLS}


def test_each_tool_with_its_package(tmp_path: Path) -> None:
    done = run("doctor", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    said = dict(re.findall(r"^missing (\S+) \(.*\): package (\S+)$", done.stdout, re.M))
    assert said == PACKAGE_OF
    last = done.stdout.splitlines()[-1]
    assert set(last.removeprefix("On Debian: apt-get install ").split()) == {
        *PACKAGE_OF.values(),
        "libc6-dev",
        "libelf-dev",
    }


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="asks dpkg")
@pytest.mark.parametrize("tool", sorted(PACKAGE_OF))
def test_debian_has_the_tool_in_that_package(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run(["dpkg", "-S", f"*/bin/{tool}"], capture_output=True, text=True)
    packages = {line.split(":")[0] for line in done.stdout.splitlines()}
    # perl-base has the program; without perl's modules the kernel's scripts don't run.
    assert PACKAGE_OF[tool] in packages or packages == {f"{tool}-base"}


def test_the_readme_names_what_doctor_asks_for() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    table = readme.partition("| Debian package | why |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = {name.strip() for row in rows for name in row.split(",")}
    assert set(PACKAGE_OF.values()) - named <= {"apt", "tar"}, "every Debian has these"


def test_a_compiler_without_its_headers(tmp_path: Path) -> None:
    gcc = tmp_path / "gcc"
    gcc.write_text("#!/bin/sh\nexit 1\n")
    gcc.chmod(0o755)
    said = run("doctor", env={"PATH": str(tmp_path)}).stdout
    assert re.search(r"^ok +gcc", said, re.M)
    assert "missing header stdio.h: package libc6-dev" in said


def test_a_wrong_setting_is_named() -> None:
    done = run("doctor", env={"ANYKERNEL_JOBS": "many"})
    assert done.returncode == 1
    assert "ANYKERNEL_JOBS=many: it is a number of processes" in done.stderr


def test_ccache_without_a_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("doctor", env={"CCACHE_DIR": str(tmp_path / "file" / "ccache")})
    assert done.returncode == 1
    assert f"{tmp_path}/file can't be written to: builds do without ccache" in done.stdout
