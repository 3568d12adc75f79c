# SPDX-License-Identifier: GPL-2.0
"""The wheel has all that is needed, and works where nothing of the checkout is."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


def outside() -> dict[str, str]:
    """An environment without anything that could lead back to the checkout."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL_ENV", "COV"))
    }


def run(*command: str | Path, cwd: Path) -> str:
    """Runs outside(); returns standard output."""
    done = subprocess.run(
        command, cwd=cwd, env=outside(), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT),
        cwd=folder,
    )
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a clean environment with only the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("clean") / "env"
    venv.create(folder, with_pip=True)
    run(
        *(folder / "bin" / "python", "-m", "pip", "install", "-q"),
        *("--disable-pip-version-check", wheel),
        cwd=folder,
    )
    return folder / "bin"


def test_wheel_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    def files(folder: str, ending: str = "") -> set[str]:
        return {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.name.endswith(ending) and "__pycache__" not in path.parts
        }

    tracked = set(
        subprocess.run(
            ["git", "ls-files", "anykernel"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert tracked - names == set(), "in the repository, not in the wheel"
    for suite in ("smoke", "fuzz", "isolation"):
        shipped = {
            name.replace("suites/", "anykernel/_suites/", 1)
            for name in files(f"suites/{suite}", ".py")
        }
        assert shipped - names == set()
    assert "anykernel/_stubs/README.md" in names
    assert "anykernel/overlay/include/liblinux.h" in names
    strange = [
        name
        for name in names
        if name.endswith((".pyc", ".o", ".so")) or name.startswith("suites/") or "selftest" in name
    ]
    assert strange == []


def test_the_command_works(installed: Path, tmp_path: Path) -> None:
    assert "doctor" in run(installed / "anykernel", "--help", cwd=tmp_path)


def test_a_kernel_test_runs_from_the_wheel(
    installed: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import anykernel\n"
        "import pytest\n"
        "def test_where():\n"
        f"    assert anykernel.__file__.startswith({str(installed.parent)!r})\n"
        "def test_sysctl(kernel):\n"
        "    assert kernel.sysctl['kernel.ostype'] == 'Linux'\n"
        "@pytest.mark.kernel(components=['net/ipv4'])\n"
        "def test_components(kernel):\n"
        "    assert kernel.os.getpid() == 1\n"
        "def test_unit(unit):\n"
        "    assert unit('net/ipv4/tcp_cubic.c').cubic_root(27) == 3\n"
    )
    said = run(installed / "python", "-m", "pytest", "-q", tmp_path, cwd=tmp_path)
    assert "4 passed" in said


def test_a_shipped_suite_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert " passed" in run(installed / "anykernel", "suite", "smoke", cwd=tmp_path)


def test_what_a_suite_needs_more_is_an_extra(installed: Path, tmp_path: Path) -> None:
    """The clean environment has no networkx: what compares with it is skipped, and says how."""
    said = run(installed / "anykernel", "suite", "dce", "-rs", "-k", "routing or udp", cwd=tmp_path)
    assert " passed" in said and "1 skipped" in said
    assert "pip install pytest-anykernel[dce]" in said


def test_a_shipped_test_that_fails_says_how_to_run_it_again(
    installed: Path, tmp_path: Path
) -> None:
    (suites,) = installed.parent.glob("lib/python*/site-packages/anykernel/_suites/smoke")
    (suites / "test_broken.py").write_text("def test_it(kernel): assert kernel is None\n")
    path = os.pathsep.join([str(installed), os.environ["PATH"]])
    command = "anykernel suite smoke -k broken"
    for folder in (suites, tmp_path):
        done = subprocess.run(
            command, shell=True, cwd=folder, env=outside() | {"PATH": path}, text=True,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 1 and " 1 failed" in done.stdout, done.stdout + done.stderr
        (command,) = re.findall(r"^anykernel suite .*$", done.stdout, re.M)
        assert " -- test_broken.py::test_it " in command
    assert "collected 1 item" in done.stdout
