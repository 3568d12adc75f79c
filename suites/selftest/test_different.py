# SPDX-License-Identifier: GPL-2.0
"""What the page "What is different" says of a kernel is so, and the tests that it names exist."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import pytest

from anykernel.kernel import Kernel

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "anykernel/docs/different.md").read_text()


def test_its_tests_exist() -> None:
    named = re.findall(r"`((?:suites/[\w/]+\.py)|test_\w+)`", PAGE)
    own = {name for name in named if name.startswith("test_")}
    assert own <= set(globals()), "here"
    assert all((ROOT / name).exists() for name in named if name.startswith("suites/"))
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    for row in rows:
        assert row.count("|") == 5, row
        assert "|---" in row or row.startswith("| different") or "`" in row.split("|")[4], row


def test_a_forked_process_shares_memory(kernel: Kernel) -> None:
    """What the child reads is in the parent's memory: they have one address space."""
    assert kernel.config.get("CONFIG_MMU") is None
    with kernel.fork() as child, kernel.memory() as memory:
        shared = memory.put(b"of the parent")
        file = child.os.open("/tmp/f", os.O_CREAT | os.O_RDWR)
        child.syscall("write", file, shared, 13)
    assert kernel.read_text("/tmp/f") == "of the parent"


def test_there_is_one_cpu(kernel: Kernel) -> None:
    assert kernel.read_text("/proc/cpuinfo").count("processor") == 1
    assert kernel.config.get("CONFIG_SMP") is None


def test_nothing_preempts(kernel: Kernel) -> None:
    assert kernel.config["CONFIG_PREEMPT_NONE"] == "y"


def test_there_are_no_modules(kernel: Kernel) -> None:
    assert not kernel.os.exists("/proc/modules")
    with pytest.raises(OSError) as refused:
        kernel.syscall("init_module", b"x", 1, "")
    assert refused.value.errno == errno.ENOSYS


def test_there_is_no_hardware(kernel: Kernel) -> None:
    assert not kernel.os.exists("/proc/bus/pci") and not kernel.os.exists("/sys/bus/usb")
    assert kernel.read_text("/proc/net/dev").count(":") == 1, "lo"


def test_programs_are_interpreted(kernel: Kernel) -> None:
    assert kernel.config.get("CONFIG_BPF_JIT") is None
    assert not kernel.os.exists("/proc/sys/net/core/bpf_jit_enable")


def test_an_hour_takes_no_time(kernel: Kernel) -> None:
    began, before = kernel.clock.now, time.monotonic()
    kernel.clock.advance(3600)
    assert kernel.clock.now - began == 3600 * 10**9
    assert time.monotonic() - before < 3600
    boot = kernel.clock.now  # stands still while the test computes
    time.sleep(0.01)
    assert kernel.clock.now == boot


def test_no_program_is_executed(kernel: Kernel) -> None:
    assert kernel.os.getpid() == 1
    kernel.write_text("/tmp/program", "\x7fELF" + "x" * 200)
    kernel.os.chmod("/tmp/program", 0o755)
    with pytest.raises(OSError) as refused:
        kernel.syscall("execve", "/tmp/program", None, None)
    assert refused.value.errno == errno.ENOEXEC
    (shared,) = kernel.read_text("/proc/self/maps").splitlines()
    begin, end = (int(one, 16) for one in shared.split()[0].split("-"))
    assert begin <= kernel.memory().new(1).address < end


def test_nobody_is_traced(kernel: Kernel) -> None:
    """Another process can be stopped, but it has no registers."""
    pid = kernel.fork().os.getpid()
    kernel.syscall("ptrace", 16, pid, 0, 0)  # PTRACE_ATTACH
    assert kernel.os.waitpid(pid, 0)[0] == pid
    with pytest.raises(OSError) as refused:
        kernel.syscall("ptrace", 12, pid, 0, 0)  # PTRACE_GETREGS
    assert refused.value.errno == errno.EIO


def test_settings_are_the_kernels(kernel: Kernel) -> None:
    assert kernel.sysctl["net.core.default_qdisc"] == "pfifo_fast"
    assert kernel.sysctl["net.ipv4.conf.all.rp_filter"] == "0"
    assert kernel.config["CONFIG_HZ"] == "250"
