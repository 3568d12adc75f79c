# SPDX-License-Identifier: GPL-2.0
"""The system calls that are left to a host, and to the kernels in it: each other one, and each
argument that a call must not have, is tried by code in a real kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

import anykernel
from anykernel.errors import KernelCrash
from anykernel.host import CrashReport, Instance
from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import Kernel
from anykernel.net import Network
from suites.selftest.inject import Injected

TABLE = Path(anykernel.__file__).parent / "overlay" / "host" / "calls.c"
MODES = {
    "virtual": {"true"},
    "real": {"true", "real"},
    "network": {"true", "lazy", "file"},
}
SOURCE = """
long call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	long ret;

	asm volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			"r"(r9) : "rcx", "r11", "memory");
	return ret;
}
long call_32(long nr)
{
	long ret;

	asm volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(0), "c"(0) : "memory");
	return ret;
}
"""
HEADER, PAGE = 0x20000000000, 4096
READ, WRITE, EXEC = 1, 2, 4
PRIVATE, ANONYMOUS, NORESERVE, AT_ONCE = 2, 0x20, 0x4000, 0x100000
PROBES = {"uprobe", "uretprobe"}
"""New machines let these pass each filter: from anywhere but a probe, they are SIGILL."""
EXAMPLES = ["open", "openat", "socket", "execve", "fork", "clone", "kill", "ptrace", "mmap",
            "pkey_alloc", "munmap", "mremap", "ioctl", "prctl", "unshare", "setns", "exit",
            "exit_group", "rt_sigprocmask", "process_vm_writev", "io_uring_setup", "memfd_create",
            "sigaltstack", "rt_sigaction", "rt_sigreturn", "modify_ldt", "arch_prctl",
            "seccomp"]  # fmt: skip


def allowed(mode: str) -> set[str]:
    """Those that the table has, with some arguments, for a host of this clock."""
    rows = re.findall(r"\{ SYS_(\w+), ([\w.]+),", TABLE.read_text())
    assert len(rows) > 15
    return {name for name, when in rows if when in MODES[mode]}


class Caller:
    """Makes system calls of the machine in a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.instance = cast("Instance", kernel.instance)
        self.injected = Injected(kernel, SOURCE)
        self.start = self.instance.snapshot()

    def refused(self, name: str, *args: int, nr: int | None = None) -> CrashReport:
        """Makes the call, which ends the kernel, and goes back."""
        number = NUMBERS[name] if nr is None else nr
        with pytest.raises(KernelCrash) as caught:
            self.injected("call", number, *args, *[0] * (6 - len(args)))
        self.instance.restore(self.start)
        report = caught.value.report
        assert report.kind == "sandbox", f"{name}{args}: {report.kind}: {report.what}"
        return report


@pytest.fixture
def caller(request: pytest.FixtureRequest) -> Caller:
    """Of a kernel whose clock the parameter says; of a network: its first node."""
    found = request.getfixturevalue(request.param)
    return Caller(found.node("a") if isinstance(found, Network) else found)


def modes(*names: str) -> pytest.MarkDecorator:
    """Parametrizes (caller, mode)."""
    return pytest.mark.parametrize(
        ("caller", "mode"),
        [
            pytest.param(
                "network" if name == "network" else "kernel",
                name,
                id=name,
                marks=pytest.mark.kernel(
                    allow_crash=True, **({"clock": "real"} if name == "real" else {})
                ),
            )
            for name in names or MODES
        ],
        indirect=["caller"],
    )


def test_the_page_about_trust_lists_them() -> None:
    page = (Path(anykernel.__file__).parent / "docs" / "trust.md").read_text()
    rows = re.findall(r"^\| (`\w+`.*?) \|", page, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(re.findall(r"\{ SYS_(\w+),", TABLE.read_text()))


@modes()
def test_others_are_refused_by_name(caller: Caller, mode: str) -> None:
    for name in EXAMPLES:
        if name in allowed(mode) - {"exit_group", "mmap", "rt_sigreturn"}:
            continue
        assert f"system call {name} forbidden" in caller.refused(name).what


@pytest.mark.slow
@modes()
def test_all_others_are_refused(caller: Caller, mode: str) -> None:
    names = {number: name for name, number in NUMBERS.items()}
    for number in range(max(names) + 20):
        name = names.get(number, "")
        if name in allowed(mode) | PROBES:
            continue
        what = caller.refused(name, nr=number).what
        assert what == f"system call {name or number} forbidden by the sandbox"


@pytest.mark.kernel(allow_crash=True)
def test_other_tables_are_refused(kernel: Kernel) -> None:
    """x32's, and those of 32-bit programs."""
    caller = Caller(kernel)
    what = caller.refused("getpid", nr=0x40000000 | NUMBERS["getpid"]).what
    assert what == "system call getpid (of x32) forbidden by the sandbox"
    with pytest.raises(KernelCrash) as caught:
        caller.injected("call_32", 20)
    said = (caught.value.report.kind, caught.value.report.what)
    # A machine without them has no such interrupt.
    assert said == ("sandbox", "system call 20 of the 32-bit table forbidden by the sandbox") or (
        said[0] == "oops" and "general protection" in said[1]
    )


def wrong_protections(caller: Caller) -> Iterator[tuple[int, int, int]]:
    """(address, bytes, protection) of mprotect()."""
    base, end = caller.instance.image_base, caller.instance.ram_end
    data = end - 64 * PAGE
    yield from ((data, PAGE, READ | WRITE | EXEC), (data, PAGE, READ | EXEC), (data, PAGE, EXEC))
    yield from ((base, PAGE, READ | WRITE), (base, PAGE, READ | EXEC), (base, PAGE, READ))
    yield (base, end - base, READ)
    yield from ((end - PAGE, 2 * PAGE, READ), (end, PAGE, READ), (base - PAGE, PAGE, READ))
    yield from ((data, 1 << 40, READ), (data, (1 << 64) - PAGE, READ), (data, 1 << 44, READ))
    yield from ((HEADER, PAGE, READ), (0x1E0000000, PAGE, READ), (0x1F0000000, PAGE, READ))
    yield from ((data + (1 << 44), PAGE, READ), (data | 1 << 63, PAGE, READ), (0, PAGE, READ))
    yield (data, PAGE, READ | 1 << 32)
    yield (data, PAGE, READ | 0x01000000)  # PROT_GROWSDOWN


@modes()
def test_protections_are_of_data_and_never_executable(caller: Caller, mode: str) -> None:
    for address, size, protection in wrong_protections(caller):
        caller.refused("mprotect", address, size, protection)
        caller.refused("pkey_mprotect", address, size, protection, 0)
    data = caller.instance.ram_end - 64 * PAGE
    for protection in (READ, READ | WRITE):
        nr = NUMBERS["mprotect"]
        assert caller.injected("call", nr, data, PAGE, protection, 0, 0, 0) == 0


@modes()
def test_arguments_of_what_is_allowed(caller: Caller, mode: str) -> None:
    base, end = caller.instance.image_base, caller.instance.ram_end
    data = end - 64 * PAGE
    doorbell, done = HEADER + 8, HEADER + 12
    for address, op in ((data, 0), (done, 0), (doorbell, 1), (doorbell, 3), (doorbell, 128)):
        caller.refused("futex", address, op, 0)
    caller.refused("futex", doorbell, 0, 0, data)
    for fd in (0, 1, 3, 1 << 31):
        caller.refused("write", fd, data, 1)
        caller.refused("pread64", fd if mode != "network" else fd + 100, data, 1, 0)
    caller.refused("exit_group", 0)
    caller.refused("clock_gettime", 0, data)
    for advice in (3, 9, 14, 100):
        caller.refused("madvise", data, PAGE, advice)
    caller.refused("madvise", data, PAGE, 4)
    caller.refused("madvise", base, end - base, 4)
    caller.refused("madvise", HEADER, PAGE, 4)


@modes("network")
def test_what_is_mapped_later_is_a_kernel_or_room_for_snapshots(caller: Caller, mode: str) -> None:
    there = PRIVATE | NORESERVE | AT_ONCE
    later = caller.instance.image_base + 0x10000000
    for protection in (READ | WRITE | EXEC, READ | EXEC, EXEC):
        caller.refused("mmap", 0, PAGE, protection, PRIVATE | ANONYMOUS | NORESERVE, -1, 0)
        caller.refused("mmap", later, PAGE, protection, there | ANONYMOUS, -1, 0)
    for address in (HEADER, 0x1E0000000, 0x10000, 1 << 46):
        caller.refused("mmap", address, PAGE, READ | WRITE, there | ANONYMOUS, -1, 0)
    fixed = 0x10
    caller.refused("mmap", 0, PAGE, READ | WRITE, PRIVATE | ANONYMOUS | NORESERVE | fixed, -1, 0)
    caller.refused("mmap", 0, PAGE, READ | WRITE, 1 | ANONYMOUS | NORESERVE, -1, 0)
    for fd in range(20):
        caller.refused("mmap", later, PAGE, READ | EXEC, there, fd, 123 * PAGE)
