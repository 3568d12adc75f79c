# SPDX-License-Identifier: GPL-2.0
"""gdb on a host process: that it attaches, knows the kernel's names and leaves it as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anykernel import proc
from anykernel.errors import KernelCrash, ToolError, UsageError
from anykernel.host import gdb
from anykernel.kernel import Kernel
from anykernel.settings import settings


def run(pid: int, images: list[gdb.Symbols], *execute: str) -> str:
    if absent := proc.absent("gdb"):
        pytest.skip(absent)
    argv = gdb.command(pid, images, [*execute, "detach", "quit"])
    done = subprocess.run(
        [argv[0], "--batch", "-nx", *argv[1:]],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout + done.stderr


def host_of(kernel: Kernel) -> int:
    return int(kernel.instance._host.pid)  # type: ignore[attr-defined]


def test_images_of_a_process_are_found_in_its_maps(kernel: Kernel) -> None:
    host = kernel.instance._host  # type: ignore[attr-defined]
    assert gdb.of_process(host.pid) == gdb.of_host(host)
    assert gdb.of_host(host)[0].base == kernel.instance.image_base  # type: ignore[attr-defined]


def test_it_attaches_and_the_kernel_goes_on(kernel: Kernel) -> None:
    pid = host_of(kernel)
    said = run(pid, gdb.of_process(pid), "info line icmp_rcv", "info symbol icmp_rcv")
    assert "icmp_rcv" in said and "starts at address" in said, said
    kernel.write_text("/tmp/x", "after gdb")
    assert kernel.read_text("/tmp/x") == "after gdb"


@pytest.mark.kernel(allow_crash=True)
def test_a_crash_can_be_seen(kernel: Kernel) -> None:
    with pytest.raises(KernelCrash):
        kernel.inside.memset(16, 0, 16)
    pid = host_of(kernel)
    said = run(pid, gdb.of_process(pid), "crash")
    frames = [line for line in said.splitlines() if line.startswith("#")]
    assert "memset" in frames[0], said
    assert any(" in " in line for line in frames[1:]), said


def test_paths_with_blanks_and_quotes() -> None:
    image = gdb.Symbols(Path('/a b/the "new" one/vmlinux'), 0x200000000)
    argv = gdb.command(17, [image])
    assert r'add-symbol-file "/a b/the \"new\" one/vmlinux" -o 0x200000000' in argv
    assert argv[argv.index("-p") + 1] == "17"
    assert any(one.startswith("source ") and Path(one[7:]).is_file() for one in argv)
    assert "'" in gdb.by_hand(17, [image])


def test_a_process_without_a_kernel() -> None:
    with pytest.raises(UsageError, match="runs no kernel of ours"):
        gdb.of_process(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(UsageError, match=f"no process {ended.pid} to be looked at"):
        gdb.of_process(ended.pid)
    assert "has ended" in gdb.refused(ended.pid)


@pytest.mark.parametrize(
    ("scope", "user", "says"),
    [("0", 1000, ""), ("1", 1000, ""), ("2", 0, ""), ("2", 1000, "only root"), ("3", 0, "nobody")],
)
def test_what_the_machine_forbids(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scope: str, user: int, says: str
) -> None:
    yama = tmp_path / "ptrace_scope"
    yama.write_text(f"{scope}\n")
    monkeypatch.setattr(gdb, "YAMA", yama)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    why = gdb.refused(os.getpid())
    assert says in why
    assert bool(why) == bool(says)
    if says == "only root":
        assert "sysctl kernel.yama.ptrace_scope=1" in why


def test_where_gdb_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYKERNEL_HIDE", "gdb")
    settings.cache_clear()
    try:
        with pytest.raises(ToolError, match="apt-get install gdb"):
            gdb.attach(os.getpid(), [])
    finally:
        monkeypatch.undo()
        settings.cache_clear()
