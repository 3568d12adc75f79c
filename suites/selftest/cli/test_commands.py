# SPDX-License-Identifier: GPL-2.0
"""The `anykernel` command, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anykernel.kernel import Kernel

CODE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, in a run in the background
from anykernel.cli import main
main()
"""
MAIN = [sys.executable, "-c", CODE]


def run(
    *arguments: str | Path, env: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command's result; it never shows a traceback."""
    done = subprocess.run(
        [*MAIN, *map(str, arguments)],
        env={**os.environ, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def fails(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """What a command that fails says on stderr."""
    done = run(*arguments, env=env)
    assert done.returncode in (1, 2)
    return done.stderr


def test_help_names_all_commands() -> None:
    said = run("--help").stdout
    for command in (
        *("doctor", "build", "components", "stubs", "boot", "shell", "suite", "gdb", "cache"),
    ):
        assert re.search(rf"^  {command} ", said, re.M)
        assert "--help" in run(command, "-h").stdout


def test_version() -> None:
    assert re.fullmatch(r"anykernel, version \d+\.\d+.*\n", run("--version").stdout)


# doctor


def test_doctor_finds_nothing_on_a_machine_that_builds(kernel: Kernel) -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert "missing" not in done.stdout


def test_doctor_for_programs(kernel: Kernel, tmp_path: Path) -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert all(one["ok"] for one in found) and "gcc" in " ".join(one["what"] for one in found)
    done = run("doctor", "--json", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert {"flex", "bc"} <= {one["package"] for one in json.loads(done.stdout) if not one["ok"]}


def test_build_for_programs(kernel: Kernel) -> None:
    image = kernel.image
    said = run("build", "--source", image.source, "--flavour", image.flavour, "--json").stdout
    found = json.loads(said)
    assert found["id"] == image.id and found["release"] == image.release
    assert Path(found["library"]) == image.library and Path(found["vmlinux"]).exists()


def test_doctor_names_packages(tmp_path: Path) -> None:
    for tool in ("make", "bc"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = run("doctor", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert re.search(r"^ok +make", done.stdout, re.M)
    assert re.search(r"^missing flex .*: package flex$", done.stdout, re.M)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("On Debian: apt-get install ")
    for package in ("binutils", "bison", "flex", "gcc", "libc6-dev", "libelf-dev"):
        assert f" {package}" in last
    assert " make" not in last


def test_doctor_sees_a_cache_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = run("doctor", env={"ANYKERNEL_CACHE": str(tmp_path / "file" / "cache")}).stdout
    assert re.search(r"^missing cache .*file", said, re.M)


# build


@pytest.mark.usefixtures("own_cache")
def test_build_says_where_things_are(tiny_tree: Path) -> None:
    done = run("build", "--source", tiny_tree)
    assert done.returncode == 0, done.stderr
    assert "Linux 6.1.999, flavour default" in done.stdout
    places = dict(line.split() for line in done.stdout.splitlines()[1:])
    assert Path(places["library"]).name == "liblinux-6.1.999.so"
    assert Path(places["library"]).is_file()
    assert Path(places["symbols"]).is_file()
    assert (Path(places["tree"]) / "net/core.c").is_file()
    quiet = run("build", "--source", tiny_tree, "--quiet")
    assert quiet.stdout == places["library"] + "\n"


@pytest.mark.usefixtures("own_cache")
def test_build_shows_progress(tiny_tree: Path) -> None:
    said = run("build", "--source", tiny_tree).stderr
    assert "composing the tree" in said
    assert "configuring" in said


@pytest.mark.usefixtures("own_cache")
def test_build_refuses_what_can_not_be(tiny_tree: Path, tmp_path: Path) -> None:
    assert "examples: debian:6.1" in fails("build", "--source", "linux")
    assert "write debian:SERIES" in fails("build", "--source", "debian:sid")
    assert f"there is no folder {tmp_path}/x" in fails("build", "--source", tmp_path / "x")
    assert "is no Linux source tree" in fails("build", "--source", tmp_path)
    assert "debug, default, wide" in fails("build", "--source", tiny_tree, "--flavour", "fast")
    build = ("build", "--source", tiny_tree, "--config")
    assert "did you mean NET_FORBIDDEN" in fails(*build, "NET_FORBIDEN=y")
    assert "write SYMBOL=VALUE" in fails(*build, "NET_FORBIDDEN")
    assert "was not granted" in fails(*build, "NET_FORBIDDEN=y")
    for wrong in ("=y", "NET_FORBIDDEN="):
        assert "write SYMBOL=VALUE" in fails(*build, wrong)


@pytest.mark.usefixtures("own_cache")
def test_build_shows_compile_errors_and_keeps_the_log(tiny_tree: Path) -> None:
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x)\n{\n\treturn y;\n}\n")
    said = fails("build", "--source", tiny_tree)
    assert re.search(rf"{tiny_tree}/net/echo\.c:3:16: error: .y. undeclared", said)
    log = re.search(r"^log: (.*)$", said, re.M)
    assert log
    assert "undeclared" in Path(log[1]).read_text()


@pytest.mark.usefixtures("own_cache")
def test_an_interrupted_build(tiny_tree: Path) -> None:
    (tiny_tree / "slowly").write_text("sleep 30")
    process = subprocess.Popen(
        [*MAIN, "build", "--source", str(tiny_tree)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = ""
    while "configuring" not in said:
        said += process.stderr.readline()
    time.sleep(0.3)
    process.send_signal(2)
    said += process.communicate(timeout=20)[1]
    assert process.returncode != 0
    assert "Traceback" not in said
    assert "Aborted!" in said


# boot


def test_boot_shows_the_log(kernel: Kernel) -> None:
    image = kernel.image
    done = run("boot", "--source", image.source, "--flavour", image.flavour)
    assert done.returncode == 0, done.stderr
    assert f"Linux version {kernel.release}" in done.stdout
    assert re.search(rf"Linux {kernel.release} booted in [\d.]+ ms\n$", done.stdout)


def test_a_reader_who_goes_away(kernel: Kernel) -> None:
    image = kernel.image
    command = [*MAIN, "boot", "--source", image.source, "--flavour", image.flavour]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert b"Traceback" not in process.communicate(timeout=60)[1]


# suite


def test_suites_are_listed() -> None:
    assert run("suite").stdout.split() == ["dce", "fuzz", "isolation", "smoke", "wide"]


def test_an_unknown_suite() -> None:
    assert "did you mean smoke" in fails("suite", "smok")


def test_a_suite_on_a_users_kernel(kernel: Kernel) -> None:
    image = kernel.image
    source = ("--source", image.source, "--flavour", image.flavour)
    done = run("suite", "smoke", *source, "-q", "-k", "ping")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    assert run("suite", "smoke", *source, "-q", "-k", "no_such_test").returncode == 5


# cache


@pytest.mark.usefixtures("own_cache")
def test_the_cache(tiny_tree: Path, own_cache: Path) -> None:
    library = Path(run("build", "--source", tiny_tree, "--quiet").stdout.strip())
    mine = own_cache / "images" / "README"
    mine.write_text("a user's own")
    said = run("cache", "list").stdout
    assert said.startswith(f"{own_cache}\n")
    assert re.search(rf"^  images +{library.parent} ", said, re.M)
    assert run("cache", "verify").stdout == "all is whole\n"

    library.write_bytes(b"damaged")
    assert f"images/{library.parent.name} was damaged" in run("cache", "verify").stdout
    assert not library.exists()
    assert run("build", "--source", tiny_tree, "--quiet").stdout.strip() == str(library)

    assert run("cache", "prune").stdout == "freed 0 MB\n"
    assert library.exists()
    long_ago = time.time() - 31 * 86400
    os.utime(library.parent, (long_ago, long_ago))
    run("cache", "prune")
    assert not library.exists()
    assert mine.exists()


@pytest.mark.usefixtures("own_cache")
def test_what_is_used_is_not_pruned(tiny_tree: Path) -> None:
    library = Path(run("build", "--source", tiny_tree, "--quiet").stdout.strip())
    long_ago = time.time() - 31 * 86400
    os.utime(library.parent, (long_ago, long_ago))
    run("build", "--source", tiny_tree, "--quiet")
    run("cache", "prune")
    assert library.exists()


def test_clear_asks_first(tiny_tree: Path, own_cache: Path) -> None:
    library = Path(run("build", "--source", tiny_tree, "--quiet").stdout.strip())
    (own_cache / "notes.txt").write_text("a user's own")
    assert run("cache", "clear", stdin="n\n").returncode == 1
    assert library.exists()
    assert run("cache", "clear", stdin="y\n").returncode == 0
    assert not library.exists()
    assert (own_cache / "notes.txt").exists()


def test_python_m_anykernel() -> None:
    command = [sys.executable, "-m", "anykernel", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == run("--version").stdout
