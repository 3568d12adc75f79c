# SPDX-License-Identifier: GPL-2.0
"""What kernels print is on the terminal while the test still runs, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BODY = """
import os, stat, time
import pytest

def say(kernel, text):
    if not kernel.os.exists("/tmp/kmsg"):
        kernel.os.mknod("/tmp/kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11))
    kernel.write_text("/tmp/kmsg", text + "\\n")

def test_one(kernel, tmp_path_factory):
    print("of the test")
    say(kernel, "first \\x1b[31m")
    # Whoever reads the terminal lets the test go on.
    while not os.path.exists("seen"):
        time.sleep(0.01)
    say(kernel, "second")

def test_two(kernel, network):
    say(network.node("left"), "third")
    kernel.clock.advance(1)
"""


def test_lines_come_while_the_test_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BODY)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--kernel-log-live"]
    lines = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=pytester.path) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if "first" in line:
                (pytester.path / "seen").touch()
    assert process.returncode == 0
    said = [line for line in lines if line.startswith(("kernel: ", "left: "))]
    assert [line.partition("] ")[2] for line in said] == [r"first \x1b[31m", "second", "third"]
    assert "of the test" not in "\n".join(lines), "its own output is captured as ever"


@pytest.mark.parametrize(
    ("options", "ini", "shown"),
    [([], "", False), (["-s"], "", True), ([], "kernel_log_live = true", True)],
)
def test_who_asks_for_it(
    pytester: pytest.Pytester, options: list[str], ini: str, shown: bool
) -> None:
    pytester.makeini(f"[pytest]\n{ini}\n")
    pytester.makepyfile(BODY)
    (pytester.path / "seen").touch()
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=2)
    assert ("second" in result.stdout.str()) == shown


def test_workers_have_no_terminal(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BODY)
    (pytester.path / "seen").touch()
    before = len(os.listdir("/proc/self/fd"))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n1", "--kernel-log-live")
    result.assert_outcomes(passed=2)
    assert len(os.listdir("/proc/self/fd")) == before
