# SPDX-License-Identifier: GPL-2.0
"""What a kernel writes where it has nothing to write is its crash, and changes nothing.

Where the CPU has no protection keys, these tests find that out, and the damage is found later.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from anykernel.errors import BorderError, HostDied, KernelCrash, KernelError, UsageError
from anykernel.host import Host, Instance
from suites.selftest.host.conftest import HostFactory
from suites.selftest.host.fake import Fake
from suites.selftest.optional import keys

KERNELS = 0x1E0000000
STACK = 0x1F0000000 + 0xFF000
ARENA = 0x100000000
DESK = 0x1D0000000


def refused(instance: Instance, address: int) -> str:
    """What the report says of a write there."""
    with pytest.raises(KernelCrash) as caught:
        instance.syscall(Fake.POKE, address, 0x41)
    report = caught.value.report
    assert report.kind == "wild write"
    assert report.address == address
    return report.what


def shared(host: Host, index: int, part: int = 0) -> int:
    c = host.c
    return int(c.HK_BASE + c.HK_KERNELS_AT + index * c.HK_KERNEL_SIZE + part)


def mappings(host: Host) -> list[tuple[int, int, str]]:
    """(first address, end, permissions and name)."""
    lines = Path(f"/proc/{host.pid}/maps").read_text().splitlines()
    spans = [(line.split()[0].split("-"), line.split(maxsplit=1)[1]) for line in lines]
    return [(int(first, 16), int(end, 16), about) for (first, end), about in spans]


@keys
def test_whose_memory_it_was_is_named(start: HostFactory) -> None:
    host = start(kernels=3)
    first, second, _ = host.instances
    c = host.c
    for instance in host.instances:
        instance.snapshot()
    theirs = second.syscall(Fake.RAM, 100)
    second.syscall(Fake.POKE, theirs, 7)
    before = second.memory_hash()
    expected = {
        KERNELS: "the memory of the host program",
        STACK: "the memory of the host program",
        theirs: "the memory of kernel 1",
        second.image_base: "the memory of kernel 1",
        first.image_base: "its own code or read-only data",
        c.HK_BASE: "the memory that the host shares with Python",
        c.HK_BASE + c.HK_COMMANDS_AT: "the memory that the host shares with Python",
        c.HK_BASE + c.HK_OUT_AT: "the memory that the host shares with Python",
        shared(host, 0): "the memory that kernel 0's host shares with Python",
        shared(host, 0, c.HK_CAPTURE_AT): "the memory that kernel 0's host shares with Python",
        shared(host, 2, c.HK_USER_AT): "the user memory of kernel 2",
        second.user.base: "the user memory of kernel 1",
    }
    for address, whose in expected.items():
        assert refused(first, address) == f"a write into {whose}"
        first.restore(1)
    assert second.memory_hash() == before
    assert second.syscall(Fake.PEEK, theirs) == 7
    assert first.syscall(Fake.GLOBAL, 1) == 2


@keys
def test_all_that_is_writable_is_the_hosts_but_what_is_the_kernels(start: HostFactory) -> None:
    """The program's own variables, saved pages and lists, whatever the host has mapped."""
    host = start(kernels=2)
    first, second = host.instances
    first.snapshot()
    second.snapshot()
    own = range(first.image_base, first.ram_end)
    window = first.user.base
    tried = []
    for low, end, about in mappings(host):
        if "w" not in about[:4] or low in own or low in (DESK, DESK + 0x1000000, DESK + 0x2000000):
            continue
        if low == window or "[stack]" in about:
            continue
        assert "a write into" in refused(first, low if low + 4096 == end else low + 4096)
        first.restore(1)
        tried.append(about)
    assert len(tried) > 8
    assert any("anykernel-host" in about for about in tried)


@keys
def test_saved_pages(start: HostFactory) -> None:
    host = start()
    instance = host.instances[0]
    depth = instance.snapshot()
    before = instance.memory_hash()
    ram = instance.syscall(Fake.RAM, 0)
    size = instance.ram_end - ram
    for page in range(100, 200):
        instance.syscall(Fake.POKE, ram + page * 4096, page)
    # Room for fifteen times its memory: no other mapping is as large.
    low, end, _ = max(mappings(host), key=lambda span: span[1] - span[0])
    assert end - low > 15 * size
    seen = set()
    for at in (low, low + 4096, (low + end) // 2 & -4096, end - 4096):
        seen.add(refused(instance, at))
        instance.restore(depth)
        assert instance.memory_hash() == before
    assert "a write into the saved pages of kernel 0" in seen


@keys
def test_neighbours_of_very_many(start: HostFactory) -> None:
    """There are fourteen keys for kernels: of those, each is protected from all the others."""
    host = start(kernels=20)
    for writer in (0, 13, 19):
        instance = host.instances[writer]
        instance.snapshot()
        for victim in (writer - 1, writer + 1, (writer + 5) % 20, (writer + 13) % 20):
            if not 0 <= victim < 20:
                continue
            at = host.instances[victim].syscall(Fake.RAM, 50)
            assert refused(instance, at) == f"a write into the memory of kernel {victim}"
            instance.restore(1)


def test_what_the_host_gives_back_still_works(start: HostFactory) -> None:
    """With keys and without: frames, randomness, the log, time, bad user pointers."""
    seen = []
    for use in (True, False):
        instance = start(keys=use).instances[0]
        instance.record(True)
        frames = [bytes([n]) * (60 + 100 * n) for n in range(4)]
        answers = instance.exchange(3, frames)
        assert answers == [[frame] * n for n, frame in enumerate(frames)]
        big = bytes([5]) * 60_000
        assert instance.exchange(3, [big]) == [[big] * 5]
        captured = [(one.direction, len(one.data)) for one in instance.captured()]
        assert captured == [
            *((way, len(frame)) for n, frame in enumerate(frames) for way in ["rx"] + ["tx"] * n),
            ("rx", 60_000),
            *[("tx", 60_000)] * 5,
        ]
        assert instance.syscall(Fake.PRINT, 16) == 16
        assert instance.console()[1].endswith(b"printed\nprinted\n")
        assert instance.syscall(Fake.READ, 0x7000_0000_0000) == -14
        seen.append((instance.syscall(Fake.RANDOM), instance.now, instance.memory_hash()))
    assert seen[0] == seen[1]


@keys
def test_frames_before_a_crash_are_captured(instance: Instance) -> None:
    instance.record(True)
    instance.inject(1, [b"\x02" * 60])
    refused(instance, KERNELS)
    assert [one.direction for one in instance.captured()] == ["rx", "tx", "tx"]


def test_a_desk_full_of_nonsense(start: HostFactory) -> None:
    """Which the kernel may write: the host believes none of it, and loses no frame in silence."""
    host = start()
    instance = host.instances[0]
    depth = instance.snapshot()
    said = []
    for word in range(0, 256, 8):
        for value in (0xFFFF_FFFF_FFFF_FFFF, 0x4141_4141_4141_4141, 0x3FFFF, 1 << 63):
            try:
                instance.syscall(Fake.POKE, DESK + word, value)
                assert instance.exchange(1, [b"\x01" * 64]) == [[b"\x01" * 64]]
            except KernelCrash as crash:
                said.append(str(crash))
                instance.restore(depth)
    assert said
    assert all("a write over the frames that the kernel has sent" in one for one in said)
    assert instance.exchange(1, [b"\x01" * 64]) == [[b"\x01" * 64]]
    assert host.alive


def find(host: Host, wanted: bytes) -> list[int]:
    """Where it lies in the host's own memory: not in a kernel's, nor in what is shared."""
    found = []
    ram = [range(one.image_base, one.ram_end) for one in host.instances]
    with Path(f"/proc/{host.pid}/mem").open("rb", buffering=0) as memory:
        for low, end, about in mappings(host):
            if "w" not in about[:4] or "memfd" in about or any(low in one for one in ram):
                continue
            for start in range(low, end, 1 << 24):
                memory.seek(start)
                data = memory.read(min(1 << 24, end - start))
                at = data.find(wanted)
                while at >= 0:
                    found.append(start + at)
                    at = data.find(wanted, at + 1)
    return found


@pytest.mark.parametrize("what", ["copy", "list"])
def test_without_keys_damage_is_found_when_it_is_restored(start: HostFactory, what: str) -> None:
    """Never a silent wrong start: the host is given up, and says why."""
    host = start(keys=False)
    instance = host.instances[0]
    page = instance.syscall(Fake.RAM, 100)
    number = (page - instance.image_base) // 4096
    instance.syscall(Fake.POKE, page + 8, 0x1234_5678_9ABC_DEF0)
    depth = instance.snapshot()
    for _ in range(2):
        instance.syscall(Fake.POKE, page + 8, 5)
        instance.restore(depth)
        assert instance.syscall(Fake.PEEK, page + 8) == 0x1234_5678_9ABC_DEF0
    if what == "copy":
        found = find(host, struct.pack("<Q", 0x1234_5678_9ABC_DEF0))
        (at,) = (at for at in found if at % 4096 == 8)
        instance.syscall(Fake.POKE, at, 0x1234_5678_9ABC_DEF1)
    else:
        # struct saved_page: its page, a small number of a copy, no level below.
        places = [
            at
            for at in find(host, struct.pack("<I", number))
            if at % 8 == 0
            and instance.syscall(Fake.PEEK, at) >> 32 < 100
            and instance.syscall(Fake.PEEK, at + 8) == 0
        ]
        for at in places:
            other = instance.syscall(Fake.PEEK, at) + 1
            instance.syscall(Fake.POKE, at, other)
        assert places
    with pytest.raises(HostDied, match="snapshot damaged: a saved page of kernel 0"):
        instance.restore(depth)
    assert not host.alive


def test_without_keys_damage_of_counts_is_found(start: HostFactory) -> None:
    """Whatever word of what the host knows of its kernel is written: a verdict, never silence."""
    survived = 0
    for word in range(0, 240, 8):
        with start(keys=False) as host:
            instance = host.instances[0]
            page = instance.syscall(Fake.RAM, 100)
            depth = instance.snapshot()
            before = instance.memory_hash()
            instance.syscall(Fake.POKE, page, 5)
            try:
                value = instance.syscall(Fake.PEEK, KERNELS + word)
                instance.syscall(Fake.POKE, KERNELS + word, value ^ 1)
                instance.restore(depth)
                assert instance.memory_hash() == before
                survived += 1
            except (KernelError, BorderError, UsageError):
                pass
    assert survived < 30
