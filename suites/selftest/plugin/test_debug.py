# SPDX-License-Identifier: GPL-2.0
"""--kernel-gdb: gdb, or how to start it, before the kernel that failed is gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from anykernel import proc

BODY = """
import pytest

def test_crashes(kernel):
    kernel.inside.memset(16, 0, 16)

def test_fails_of_something_else(kernel):
    assert False

def test_next(kernel):
    assert kernel.os.getpid() == 1
"""


def run(pytester: pytest.Pytester, commands: str) -> str:
    pytester.makepyfile(BODY)
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--kernel-gdb"]
    done = subprocess.run(
        argv, input=commands, capture_output=True, text=True, cwd=pytester.path, check=False
    )
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count(">>> the kernel crashed: oops") == 1
    assert done.stdout.count(">>> gdb on process") == 1
    return done.stdout + done.stderr


@pytest.mark.skipif(bool(proc.absent("gdb")), reason=proc.absent("gdb"))
def test_gdb_stands_where_the_kernel_crashed(pytester: pytest.Pytester) -> None:
    said = run(pytester, "echo in gdb:\\n\ninfo symbol $rip\nquit\n")
    assert "memset + " in said.partition("in gdb:")[2], said


def test_without_gdb_it_says_what_to_install(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYKERNEL_HIDE", "gdb")
    said = run(pytester, "")
    assert ">>> gdb is not installed: apt-get install gdb" in said
    assert ">>> by hand: gdb --quiet" in said
    assert "add-symbol-file" in said


def test_workers_have_no_terminal(fake: pytest.Pytester) -> None:
    fake.makepyfile("def test_it(): pass")
    result = fake.runpytest_subprocess("--kernel-gdb", "-n1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --kernel-gdb needs the terminal: leave -n out"])
