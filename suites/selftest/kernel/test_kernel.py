# SPDX-License-Identifier: GPL-2.0
"""The kernel under test as a whole: state, time, processes, settings."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from collections.abc import Callable

import pytest

from anykernel.errors import Deadlock, KernelCrash, UsageError
from anykernel.kernel import Kernel
from suites.selftest.inject import Injected


def test_it_is_linux(kernel: Kernel) -> None:
    assert kernel.release == kernel.image.release
    assert kernel.os.getpid() == 1 and kernel.os.getuid() == 0
    assert kernel.read_text("/proc/version").startswith(f"Linux version {kernel.release}")
    assert kernel.config["CONFIG_NET"] == "y" and "CONFIG_SMP" not in kernel.config
    assert "Linux version" in kernel.log and kernel.log[0].time is not None
    assert kernel.log.failures() == [] and kernel.warnings == 0
    assert {"/proc", "/sys", "/tmp"} <= {
        line.split()[1] for line in kernel.read_text("/proc/mounts").splitlines()
    }


def test_loopback_is_up(kernel: Kernel) -> None:
    for family, host in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
        with kernel.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
            sock.sendto(b"self", sock.getsockname())
            assert sock.recv(10) == b"self"


# Snapshots


def test_restore_takes_everything_back(kernel: Kernel) -> None:
    old = kernel.open("/tmp/old", "w+b", buffering=0)
    old.write(b"12")
    point = kernel.snapshot()
    now = kernel.clock.now
    for _ in range(3):
        assert not kernel.os.exists("/tmp/new")
        kernel.write_text("/tmp/new", "x")
        old.write(b"34")
        kernel.add_netdev("eth0")
        kernel.sysctl["net.ipv4.ip_forward"] = 1
        kernel.clock.advance(100)
        kernel.restore(point)
        assert kernel.clock.now == now
        assert kernel.sysctl["net.ipv4.ip_forward"] == "0"
        assert kernel.netdevs == {}
        assert kernel.os.fstat(old.fileno()).st_size == 2


def test_snapshots_nest(kernel: Kernel) -> None:
    outer = kernel.snapshot()
    kernel.write_text("/tmp/a", "a")
    inner = kernel.snapshot()
    kernel.write_text("/tmp/b", "b")
    kernel.restore(inner)
    assert sorted(kernel.os.listdir("/tmp")) == ["a"]
    kernel.restore(outer)
    assert kernel.os.listdir("/tmp") == []
    with pytest.raises(UsageError, match="no snapshot"):
        kernel.restore(inner)
    with pytest.raises(UsageError, match="no snapshot"):
        kernel.restore(0)


def test_save_and_try_as_often_as_wanted(kernel: Kernel) -> None:
    for attempt in range(40):
        here = kernel.snapshot()
        kernel.write_text("/tmp/x", str(attempt))
        kernel.restore(here)
        assert not kernel.os.exists("/tmp/x")


def test_a_with_block_takes_all_back_and_drops_the_snapshot(kernel: Kernel) -> None:
    first = None
    for _ in range(20):
        with kernel.snapshot() as here:
            assert here == (first := first or here)
            kernel.write_text("/tmp/x", "x")
            netdev = kernel.add_netdev("eth0")
        assert not kernel.os.exists("/tmp/x")
        with pytest.raises(UsageError, match="restored away"):
            netdev.inject(b"x")
    with pytest.raises(UsageError, match="no snapshot"):
        kernel.restore(here)
    with pytest.raises(FileNotFoundError), kernel.snapshot():
        kernel.os.rename("/tmp/nothing", "/tmp/x")
    assert not kernel.os.exists("/tmp/x")


def test_what_is_dropped_stays(kernel: Kernel) -> None:
    outer = kernel.snapshot()
    kernel.write_text("/tmp/a", "a")
    with kernel.open("/tmp/b", "w") as file:
        inner = kernel.snapshot()
        sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
        kernel.drop(inner)
        file.write("b")
        sock.bind(("127.0.0.1", 0))
    assert sorted(kernel.os.listdir("/tmp")) == ["a", "b"]
    with pytest.raises(UsageError, match="no snapshot"):
        kernel.drop(inner)
    kernel.restore(outer)
    assert kernel.os.listdir("/tmp") == []
    with pytest.raises(UsageError, match="restored away"):
        sock.getsockname()


def test_code_is_part_of_what_is_restored(kernel: Kernel) -> None:
    from anykernel.faults import failing_allocations

    here = kernel.snapshot()
    before = kernel.instance.memory_hash()
    code = kernel.inside.space.address("should_failslab")
    was = kernel.inside.space.read(code, 8)
    seen = []
    for fault in failing_allocations(kernel, leaks=False):
        with fault:
            kernel.os.getpid()
            seen.append(kernel.inside.space.read(code, 8))
    assert was not in seen
    kernel.restore(here)
    assert kernel.inside.space.read(code, 8) == was
    kernel.restore(here)
    assert kernel.instance.memory_hash() == before


@pytest.mark.kernel(allow_crash=True)
@pytest.mark.parametrize("name", ["linux_banner", "should_failslab"])
def test_code_and_constants_are_not_the_kernels_to_write(kernel: Kernel, name: str) -> None:
    at = kernel.inside.space.address(name)
    was = kernel.inside.space.read(at, 8)
    injected = Injected(kernel, "void go(long *at) { *(volatile long *)at = 1; }")
    here = kernel.snapshot()
    with pytest.raises(KernelCrash) as caught:
        injected("go", at)
    assert caught.value.report.kind == "wild write"
    assert caught.value.report.address == at
    kernel.restore(here)
    kernel.inside.space.write(at, b"by us   ")
    assert kernel.inside.space.read(at, 8) == b"by us   "
    kernel.restore(here)
    assert kernel.inside.space.read(at, 8) == was


LARGE_FRAMES = """
static noinline long deeper(long depth)
{
	volatile char room[SIZE];

	room[0] = depth;
	return depth ? deeper(depth - 1) + room[0] : 0;
}

long go(long depth) { return deeper(depth); }
"""


@pytest.mark.kernel(allow_crash=True)
@pytest.mark.parametrize("size", [5000, 16 << 10, 64 << 10])
def test_a_frame_larger_than_the_guard_page(kernel: Kernel, size: int) -> None:
    """It meets the guard all the same, also when tests before have written to what lies below the
    stack: memory of others."""
    here = kernel.snapshot()
    before = kernel.instance.memory_hash()
    for _ in range(2):
        injected = Injected(kernel, LARGE_FRAMES.replace("SIZE", str(size)))
        with pytest.raises(KernelCrash) as caught:
            injected("go", 100)
        assert caught.value.report.kind == "stack overflow"
        kernel.restore(here)
        assert kernel.instance.memory_hash() == before


def test_what_was_restored_away_says_so(kernel: Kernel) -> None:
    kept = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    point = kernel.snapshot()
    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, kernel.open("/tmp/f", "w") as f:
        netdev = kernel.add_netdev("eth0")
        child = kernel.fork()
        call = kernel.submit(sock.recv, 1)
        kernel.restore(point)
        for use in (
            lambda: sock.recv(1),
            lambda: f.fileno(),
            lambda: netdev.inject(b"x"),
            lambda: child.os.getpid(),
            call.result,
        ):
            with pytest.raises(UsageError, match="restored away"):
                use()
    kept.bind(("127.0.0.1", 0))
    again = kernel.submit(kept.recv, 1)
    kept.sendto(b"y", kept.getsockname())
    assert again.result() == b"y"


def test_a_call_that_runs_across_a_restore(kernel: Kernel) -> None:
    read, write = kernel.os.pipe()
    call = kernel.submit(kernel.os.read, read, 10)
    point = kernel.snapshot()
    for _ in range(2):
        assert not call.done()
        kernel.restore(point)
    kernel.os.write(write, b"now")
    assert call.result() == b"now"
    kernel.restore(point)
    with pytest.raises(UsageError, match="restored away"):
        call.result()


def test_the_log_goes_back(kernel: Kernel) -> None:
    point = kernel.snapshot()
    lines = len(kernel.log)
    for number in range(2):
        kernel.write_text("/dev/kmsg" if kernel.os.exists("/dev/kmsg") else "/tmp/x", "hello")
        kernel.log.text()
        kernel.restore(point)
        assert len(kernel.log) == lines, number
        assert "hello" not in kernel.log


# Time


def test_time_passes_only_when_told(kernel: Kernel) -> None:
    before = kernel.clock.now
    kernel.os.getpid()
    assert kernel.clock.now - before < 1_000_000
    kernel.clock.advance(3600)
    assert kernel.clock.now - before >= 3600 * 10**9
    assert kernel.clock.seconds == kernel.clock.now / 1e9
    before = kernel.clock.now
    kernel.syscall("nanosleep", (5).to_bytes(8, "little") + bytes(8), None)
    assert 5.0 <= (kernel.clock.now - before) / 1e9 < 5.1
    with pytest.raises(UsageError, match="go back"):
        kernel.clock.advance(-1)
    assert kernel.clock.run_until_idle(1) >= before


def test_timeouts_are_virtual(kernel: Kernel) -> None:
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(1000)
    before = kernel.clock.seconds
    with pytest.raises(TimeoutError):
        sock.recv(1)
    assert 1000 <= kernel.clock.seconds - before < 1001
    assert kernel.select([sock], [], [], 1000) == ([], [], [])
    assert 2000 <= kernel.clock.seconds - before < 2002


def test_what_never_ends_is_a_deadlock(kernel: Kernel) -> None:
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    with pytest.raises(Deadlock):
        sock.recv(1)
    call = kernel.submit(sock.recv, 1)
    with pytest.raises(Deadlock):
        call.result()
    with pytest.raises(TimeoutError):
        call.result(timeout=1)
    assert not call.done()
    assert call.cancel() and call.done()
    with pytest.raises(InterruptedError):
        call.result()
    sock.sendto(b"x", sock.getsockname())
    assert sock.recv(1) == b"x", "it works on"


def test_a_timeout_in_the_background(kernel: Kernel) -> None:
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(10)
    call = kernel.submit(sock.recv, 1)
    kernel.clock.advance(9)
    assert not call.done()
    kernel.clock.advance(2)
    assert call.done() and isinstance(call.exception(), TimeoutError)
    call = kernel.submit(sock.recv, 1)
    with pytest.raises(TimeoutError):
        call.result()


# Processes


def test_a_process_has_its_own_files_and_namespaces(kernel: Kernel) -> None:
    read, write = kernel.os.pipe()
    with kernel.fork() as child:
        assert child.os.getpid() != 1 and child.os.getppid() == 1
        child.os.write(write, b"inherited")
        assert kernel.os.read(read, 20) == b"inherited"
        child.os.close(write)
        kernel.os.write(write, b"still open")
        child.os.unshare(os.CLONE_NEWNET if hasattr(os, "CLONE_NEWNET") else 0x40000000)
        assert "eth0" not in child.read_text("/proc/self/net/dev")
        kernel.add_netdev("eth0")
        assert "eth0" not in child.read_text("/proc/self/net/dev")
        assert "eth0" in kernel.read_text("/proc/self/net/dev")
        pid = child.os.getpid()
    assert kernel.os.waitpid(pid) == (pid, 0)
    with pytest.raises(UsageError, match="ended"):
        child.os.getpid()
    with pytest.raises(UsageError, match="first process"):
        kernel.exit()


def test_another_user(kernel: Kernel) -> None:
    kernel.write_text("/tmp/secret", "x")
    kernel.os.chmod("/tmp/secret", 0o600)
    with kernel.fork() as child:
        child.os.setuid(1000)
        with pytest.raises(PermissionError):
            child.open("/tmp/secret")


# Settings and counters


def test_sysctl(kernel: Kernel) -> None:
    assert kernel.sysctl["net.ipv4.ip_forward"] == "0"
    kernel.sysctl["net/ipv4/ip_forward"] = True
    assert kernel.sysctl["net.ipv4.ip_forward"] == "1"
    kernel.sysctl["net.ipv4.tcp_rmem"] = (4096, 8192, 16384)
    assert kernel.sysctl["net.ipv4.tcp_rmem"] == "4096\t8192\t16384"
    assert "net.ipv4.nonsense" not in kernel.sysctl and "net.ipv4.ip_forward" in kernel.sysctl
    with pytest.raises(KeyError):
        kernel.sysctl["net.ipv4.nonsense"]
    with pytest.raises(KeyError):
        kernel.sysctl["net.ipv4.nonsense"] = 1
    with pytest.raises(OSError):
        kernel.sysctl["net.ipv4.ip_forward"] = "many"
    names = list(kernel.sysctl)
    assert "kernel.ostype" in names and "net.ipv4.conf.lo.forwarding" in names
    assert kernel.sysctl["kernel.ostype"] == "Linux"


def test_counters(kernel: Kernel) -> None:
    before = kernel.snmp["Udp"]
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.sendto(b"x", sock.getsockname())
    assert kernel.snmp["Udp"]["OutDatagrams"] == before["OutDatagrams"] + 1
    assert {"Ip", "Icmp", "Tcp", "TcpExt", "IpExt"} <= set(kernel.snmp)
    assert "InReceives" in kernel.snmp["Ip6"] and "InErrors" in kernel.snmp["Udp6"]


def test_file_systems_can_be_mounted(kernel: Kernel) -> None:
    kernel.os.mkdir("/mnt")
    kernel.os.mount("none", "/mnt", "tmpfs")
    kernel.write_text("/mnt/file", "x")
    kernel.os.umount("/mnt")
    assert kernel.os.listdir("/mnt") == []
    with pytest.raises(OSError, match="No such device"):
        kernel.os.mount("none", "/mnt", "nosuchfs")


def test_no_user_memory_is_lost(kernel: Kernel) -> None:
    """However calls end: the window would be full after a dozen megabytes."""
    most = 1 << 20
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    point = kernel.snapshot()
    for _ in range(5):
        for error, timeout in ((TimeoutError, 1), (Deadlock, None)):
            sock.settimeout(timeout)
            with pytest.raises(error):
                sock.recvmsg(most, 10)
        with pytest.raises(OSError):
            sock.sendmsg([bytes(most)], [], 0, sock.getsockname())
        kernel.submit(sock.recv, most).cancel()
        kernel.submit(sock.recv, most)
        kernel.submit(sock.recvfrom, most)
        kernel.restore(point)
        with pytest.raises(KernelCrash):
            kernel.syscall("exit_group", 1, bytearray(most))
        kernel.restore(point)


@pytest.mark.parametrize("clock", ["virtual", "real"])
def test_an_interrupted_call_leaves_the_kernel_alive(
    kernel_factory: Callable[..., Kernel], clock: str
) -> None:
    """Ctrl-C, while timers go off for ever, or while nothing happens."""
    kernel = kernel_factory(clock=clock)
    near, far = kernel.socketpair()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            kernel.clock.advance(1e9) if clock == "virtual" else near.recv(1)
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    far.send(b"x")
    assert near.recv(1) == b"x"
    assert kernel.clock.seconds < 1e9


def test_kmsg_is_the_kernels_log(kernel: Kernel) -> None:
    """A program's words are in it, at any level; the usual files of /dev are there."""
    kernel.write_text("/dev/kmsg", "of a program\n")
    with kernel.open("/dev/kmsg", "wb", buffering=0) as file:
        file.write(b"<7>of a debugging one\n")
    assert [record.text for record in kernel.log[-2:]] == ["of a program", "of a debugging one"]
    assert stat.S_ISCHR(kernel.os.stat("/dev/kmsg").st_mode)
    with kernel.open("/dev/zero", "rb", buffering=0) as zero:
        assert zero.read(4) == bytes(4)
    assert kernel.write_text("/dev/null", "x") == 1
    with pytest.raises(OSError, match="No space left"):
        kernel.write_text("/dev/full", "x")
