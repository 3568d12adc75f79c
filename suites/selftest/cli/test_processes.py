# SPDX-License-Identifier: GPL-2.0
"""`anykernel gdb`: finds the processes of kernels, and attaches to one."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable

import pytest

from anykernel.cli import processes
from anykernel.errors import KernelCrash, UsageError
from anykernel.kernel import Kernel
from suites.selftest.cli.test_commands import MAIN, fails, run
from suites.selftest.optional import needs


def host_of(kernel: Kernel) -> int:
    return int(kernel.instance._host.pid)  # type: ignore[attr-defined]


def test_running_kernels_are_listed(kernel_factory: Callable[..., Kernel]) -> None:
    mine = {host_of(kernel_factory()), host_of(kernel_factory())}
    found = {one.pid: one for one in processes.running()}
    assert mine <= found.keys()
    for pid in mine:
        assert found[pid].seconds >= 0 and "python" in found[pid].owner
    with pytest.raises(UsageError, match=r"which process\? anykernel gdb PID") as caught:
        processes.choose(None)
    assert all(str(pid) in str(caught.value) for pid in mine)


def test_the_only_one_needs_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    one = processes.Running(17, "pytest", 1.0)
    monkeypatch.setattr(processes, "running", lambda: iter([one]))
    assert processes.choose(None) == 17 and processes.choose(18) == 18
    monkeypatch.setattr(processes, "running", lambda: iter([]))
    with pytest.raises(UsageError, match="no kernel of yours runs on this machine: start one"):
        processes.choose(None)


def test_what_is_no_kernel() -> None:
    assert "runs no kernel of ours" in fails("gdb", str(os.getpid()))
    assert "there is no process" in fails("gdb", str(1 << 30))


def test_the_command_line_can_be_had(kernel: Kernel) -> None:
    pid = host_of(kernel)
    argv = shlex.split(run("gdb", "--print", str(pid)).stdout)
    assert argv[0] == "gdb" and str(pid) in argv
    assert any(str(kernel.image.vmlinux) in one for one in argv)


def attached(kernel: Kernel, *commands: str) -> str:
    options = [word for one in (*commands, "detach", "quit") for word in ("-x", one)]
    done = subprocess.run(
        [*MAIN, "gdb", str(host_of(kernel)), *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs("gdb")
def test_a_kernel_that_runs(kernel: Kernel) -> None:
    said = attached(kernel, "info symbol icmp_rcv", "print (int) jiffies_64 != 0", "crash")
    assert "icmp_rcv in section .text" in said and "= 1" in said
    assert "no kernel of this process has crashed" in said
    assert kernel.os.getpid() == 1


@needs("gdb")
@pytest.mark.kernel(allow_crash=True)
def test_a_kernel_that_crashed(kernel: Kernel) -> None:
    with pytest.raises(KernelCrash):
        kernel.inside.dev_open(None, None)
    said = attached(kernel, "crash", "frame 0")
    assert "bad memory access" in said and "dev_open" in said
    assert "net/core/dev.c" in said, said


def test_gdb_is_not_everywhere(kernel: Kernel) -> None:
    said = fails("gdb", str(host_of(kernel)), env={"ANYKERNEL_HIDE": "gdb"})
    assert "gdb is not installed: apt-get install gdb" in said
