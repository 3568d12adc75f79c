# SPDX-License-Identifier: GPL-2.0
"""The command with streams that are closed, full or left, and on a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from anykernel.kernel import Kernel
from suites.selftest.cli.test_commands import MAIN, run
from suites.selftest.terminal import ENOUGH, Terminal


def shell(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a line of sh, as "$@"."""
    argv = ["sh", "-c", script, "sh", *MAIN, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr + done.stdout
    assert "Exception ignored" not in done.stderr
    return done


def of(kernel: Kernel) -> tuple[str, str, str, str]:
    return "--source", kernel.image.source, "--flavour", kernel.image.flavour


@pytest.mark.parametrize("command", ["--help", "--version", "suite", "doctor", "cache"])
@pytest.mark.parametrize("to", ["/dev/full", "&-"])
def test_output_that_nobody_gets(command: str, to: str) -> None:
    done = shell(f'"$@" >{to}', command)
    if to == "/dev/full" and command != "cache":  # its help without a command is for stderr
        assert done.returncode == 1
        assert "No space left on device" in done.stderr


def test_all_streams_closed(kernel: Kernel) -> None:
    """The host gets files under numbers that pass for its streams."""
    assert shell('"$@" <&- >&- 2>&-', "boot", *of(kernel)).returncode == 0


def test_a_shell_without_input(kernel: Kernel) -> None:
    for script in ('"$@" <&-', '"$@" </dev/null'):
        done = shell(script, "shell", *of(kernel))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_shell_whose_output_is_full(kernel: Kernel) -> None:
    """When the script notices, or else when all is over, as with `python -`."""
    argv = ["sh", "-c", 'echo "print(1)" | "$@" >/dev/full', "sh", *MAIN, "shell", *of(kernel)]
    for unbuffered in ("", "1"):
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Exception ignored" not in done.stderr


def test_a_shell_exits_as_its_script_says(kernel: Kernel) -> None:
    assert run("shell", *of(kernel), stdin="exit(3)\n").returncode == 3


@pytest.mark.usefixtures("own_cache")
def test_a_build_on_a_terminal(tiny_tree: Path) -> None:
    """The bar is on stderr, and gone when the work is done; stdout is for programs."""
    (tiny_tree / "slowly").write_text("sleep 0.5")
    argv = [*MAIN, "build", "--quiet", "--source", str(tiny_tree)]
    with Terminal(argv, setsid=False, output=subprocess.PIPE) as terminal:
        said = terminal.until("vmlinux") + terminal.heard()
        out = terminal.process.communicate(timeout=ENOUGH)[0].decode()
    assert out.endswith("/liblinux-6.1.999.so\n")
    assert "%" in said


def test_ctrl_c_in_a_suite_is_for_pytest(kernel: Kernel, tmp_path: Path) -> None:
    """Who has the terminal sends it to all; pytest still says what it did, and its exit code."""
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "def pytest_runtest_call():\n    print('running', flush=True)\n    time.sleep(30)\n"
        "def pytest_sessionfinish():\n    time.sleep(0.5)\n"
        "def pytest_unconfigure():\n    print('all is tidied up', flush=True)\n"
    )
    process = subprocess.Popen(
        [*MAIN, "suite", "smoke", *of(kernel), "-s", "-p", "slow", "-k", "ping"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    while "running" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    os.killpg(process.pid, signal.SIGINT)
    said += process.communicate(timeout=30)[0]
    assert process.returncode == 2, said
    assert "KeyboardInterrupt" in said
    assert "all is tidied up" in said
