# SPDX-License-Identifier: GPL-2.0
"""The host with a real kernel in it: exactness, determinism, crashes and tasks."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from anykernel.build.image import Image
from anykernel.errors import Deadlock, KernelCrash, ProcessEnded
from anykernel.host import Host, Instance
from anykernel.kernel import Kernel

GETPID, NANOSLEEP, PIPE, READ, EXIT, REBOOT, WRITE = 39, 35, 22, 0, 60, 169, 1
THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
"""CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM: one that nobody has to wait for."""
BROADCAST = b"\xff" * 6 + b"\x02\0\0\0\0\x02"


@pytest.fixture
def image(kernel: Kernel) -> Image:
    return kernel.image


@pytest.fixture
def host(image: Image) -> Iterator[Host]:
    with Host(image, seed=3) as host:
        yield host


@pytest.fixture
def instance(host: Host) -> Instance:
    return host.instances[0]


def some_work(instance: Instance) -> None:
    """Files, time, a device and frames."""
    with instance.user.alloc(4096) as buffer:
        assert instance.syscall(PIPE, buffer.address) == 0
        reader, writer = struct.unpack("<2i", buffer.view[:8])
        assert instance.syscall(WRITE, writer, buffer.address, 1000) == 1000
        assert instance.syscall(READ, reader, buffer.address, 4096) == 1000
        buffer.view[:16] = struct.pack("<2q", 60, 0)
        assert instance.syscall(NANOSLEEP, buffer.address, 0) == 0
    dev, _ = instance.netdev_add("eth%d", b"\x02\0\0\0\0\x01", 1500)
    instance.inject(dev, [BROADCAST + b"\x08\x06" + bytes(46)] * 20)


def test_same_seed_same_memory(image: Image) -> None:
    hashes = []
    for _ in range(2):
        with Host(image, seed=11) as host:
            instance = host.instances[0]
            booted = instance.memory_hash()
            instance.user.window[:65536] = bytes(65536)
            some_work(instance)
            hashes.append((booted, instance.memory_hash(), instance.now))
    assert hashes[0] == hashes[1]


def test_another_seed_another_memory(image: Image) -> None:
    with Host(image, seed=1) as one, Host(image, seed=2) as two:
        assert one.instances[0].memory_hash() != two.instances[0].memory_hash()


def test_restore_is_exact(instance: Instance) -> None:
    outer = instance.snapshot()
    before = instance.memory_hash()
    some_work(instance)
    inner = instance.snapshot()
    between = instance.memory_hash()
    assert between != before
    for _ in range(3):
        some_work(instance)
        instance.restore(inner)
        assert instance.memory_hash() == between
    instance.restore(outer)
    assert instance.memory_hash() == before


def test_kernels_do_not_disturb_each_other(image: Image) -> None:
    with Host(image, kernels=3) as host:
        quiet = host.instances[1].memory_hash()
        for index in (0, 2):
            some_work(host.instances[index])
        assert host.instances[1].memory_hash() == quiet
        assert host.instances[1].syscall(GETPID) == 1


def test_time_passes_only_virtually(instance: Instance) -> None:
    before = instance.now
    with instance.user.write(struct.pack("<2q", 3600, 0)) as buffer:
        assert instance.syscall(NANOSLEEP, buffer.address, 0) == 0
    assert 3600 <= (instance.now - before) / 1e9 < 3601


def test_timeout_cancels(instance: Instance) -> None:
    with instance.user.alloc(64) as buffer:
        assert instance.syscall(PIPE, buffer.address) == 0
        (reader,) = struct.unpack("<i", buffer.view[:4])
        before = instance.now
        with pytest.raises(TimeoutError):
            instance.syscall(READ, reader, buffer.address, 1, timeout=2.5)
        assert 2.5 <= (instance.now - before) / 1e9 < 2.6
        with pytest.raises(Deadlock) as caught:
            instance.syscall(READ, reader, buffer.address, 1)
        assert "liblinux" in caught.value.tasks or "task:" in caught.value.tasks
    assert instance.syscall(GETPID) == 1


def test_bad_pointers(instance: Instance) -> None:
    assert instance.syscall(PIPE, 8) == -errno.EFAULT
    assert instance.syscall(PIPE, 0x2_0000_0000) == -errno.EFAULT
    assert instance.syscall(PIPE, (1 << 64) - 4096) == -errno.EFAULT
    end = instance.user.base + len(instance.user.window)
    assert instance.syscall(PIPE, end - 4) == -errno.EFAULT


def test_power_off_ends_as_a_report(instance: Instance) -> None:
    depth = instance.snapshot()
    with pytest.raises(KernelCrash) as caught:
        instance.syscall(REBOOT, 0xFEE1DEAD, 672274793, 0x4321FEDC, 0)
    assert caught.value.report.kind == "halt"
    instance.restore(depth)
    assert instance.syscall(GETPID) == 1


def test_init_must_not_exit(instance: Instance) -> None:
    """pid 1 that exits is a panic, with the kernel's own words and a stack with lines."""
    depth = instance.snapshot()
    with pytest.raises(KernelCrash) as caught:
        instance.syscall(EXIT, 0)
    report = caught.value.report
    assert report.kind == "panic"
    assert "Attempted to kill init" in report.what
    assert any(frame.startswith("panic+") for frame in report.frames)
    assert any("kernel/exit.c:" in frame for frame in report.frames)
    instance.restore(depth)
    assert instance.syscall(GETPID) == 1


def test_slots_are_reused(instance: Instance) -> None:
    for _ in range(300):
        task = instance.spawn(THREAD)
        with pytest.raises(ProcessEnded):
            instance.post(EXIT, 0, task=task)
        assert instance.poll(task) is None
