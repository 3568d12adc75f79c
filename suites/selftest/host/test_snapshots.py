# SPDX-License-Identifier: GPL-2.0
"""Snapshots restore exactly, nest, and survive everything that tests do to them."""

from __future__ import annotations

import random

import pytest

from anykernel.errors import KernelCrash, UsageError
from anykernel.host import Host, Instance
from suites.selftest.host.conftest import MEMORY, HostFactory
from suites.selftest.host.fake import Fake

PAGES = MEMORY // 4096
FIRST = 16
"""The first page of RAM that the fake doesn't use itself."""


class Pages:
    """The kernel's memory by page number, with a word of each in view."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.ram = instance.syscall(Fake.RAM, 0)

    def poke(self, page: int, value: int) -> None:
        assert self.instance.syscall(Fake.POKE, self.ram + page * 4096 + 8, value) == 0

    def peek(self, page: int) -> int:
        return self.instance.syscall(Fake.PEEK, self.ram + page * 4096 + 8)


@pytest.fixture
def pages(instance: Instance) -> Pages:
    return Pages(instance)


def test_restores_ram_data_time_and_randomness(instance: Instance, pages: Pages) -> None:
    pages.poke(100, 5)
    instance.syscall(Fake.GLOBAL, 10)
    before = instance.now
    instance.syscall(Fake.SLEEP, 1000)
    depth = instance.snapshot()
    after = [instance.syscall(Fake.RANDOM) for _ in range(3)]
    pages.poke(100, 6)
    pages.poke(200, 7)
    instance.syscall(Fake.GLOBAL, 1)
    instance.syscall(Fake.SLEEP, 5000)
    for _ in range(3):
        instance.restore(depth)
        assert instance.now == before + 1000
        assert pages.peek(100) == 5 and pages.peek(200) == 0
        assert instance.syscall(Fake.GLOBAL, 0) == 11
        assert [instance.syscall(Fake.RANDOM) for _ in range(3)] == after


def test_numbers_are_depths(instance: Instance) -> None:
    assert [instance.snapshot() for _ in range(3)] == [1, 2, 3]
    instance.restore(2)
    assert instance.snapshot() == 3
    instance.restore(1)
    with pytest.raises(UsageError):
        instance.restore(2)
    with pytest.raises(UsageError):
        instance.restore(0)
    instance.restore(1)


def test_page_changed_at_every_depth(instance: Instance, pages: Pages) -> None:
    for depth in range(1, 6):
        pages.poke(50, depth)
        assert instance.snapshot() == depth
    pages.poke(50, 99)
    for depth in range(5, 0, -1):
        instance.restore(depth)
        assert pages.peek(50) == depth
        pages.poke(50, 77)
        instance.restore(depth)
        assert pages.peek(50) == depth


def test_page_first_changed_deeper(instance: Instance, pages: Pages) -> None:
    outer = instance.snapshot()
    instance.snapshot()
    pages.poke(60, 1)
    inner = instance.snapshot()
    pages.poke(60, 2)
    pages.poke(61, 3)
    instance.restore(inner)
    assert (pages.peek(60), pages.peek(61)) == (1, 0)
    instance.restore(outer)
    assert (pages.peek(60), pages.peek(61)) == (0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_against_a_model(instance: Instance, pages: Pages, seed: int) -> None:
    """Random writes, snapshots, restores and drops; a dictionary says what must be there."""
    choose = random.Random(seed)
    used = choose.sample(range(FIRST, PAGES), 40)
    model: dict[int, int] = {}
    saved: list[dict[int, int]] = []
    for _ in range(400):
        what = choose.random()
        if what < 0.7:
            page, value = choose.choice(used), choose.randrange(1 << 32)
            pages.poke(page, value)
            model[page] = value
        elif what < 0.85:
            saved.append(dict(model))
            assert instance.snapshot() == len(saved)
        elif saved and what < 0.9:
            depth = choose.randint(1, len(saved))
            instance.drop(depth)
            del saved[depth - 1 :]
        elif saved:
            depth = choose.randint(1, len(saved))
            instance.restore(depth)
            del saved[depth:]
            model = dict(saved[-1])
            for page in used:
                assert pages.peek(page) == model.get(page, 0)
    for page in used:
        assert pages.peek(page) == model.get(page, 0)


def test_a_thousand_levels(instance: Instance, pages: Pages) -> None:
    for depth in range(1, 1001):
        pages.poke(50, depth)
        pages.poke(100 + depth, depth)
        assert instance.snapshot() == depth
    for depth in (1000, 999, 500, 17, 16, 15, 1):
        instance.restore(depth)
        assert pages.peek(50) == depth
        assert pages.peek(100 + depth) == depth
        assert pages.peek(101 + depth) == 0
        assert instance.snapshot() == depth + 1


def test_a_loop_that_drops_takes_no_memory(instance: Instance, pages: Pages) -> None:
    outer = instance.snapshot()
    pages.poke(50, 1)
    for _ in range(500):
        inner = instance.snapshot()
        pages.poke(50, 2)
        pages.poke(60, 2)
        instance.restore(inner)
        instance.drop(inner)
        assert pages.peek(50) == 1
        assert pages.peek(60) == 0
    instance.restore(outer)
    assert pages.peek(50) == 0
    assert instance.hot_pages < 20


def test_dropping_keeps_what_is(instance: Instance, pages: Pages) -> None:
    outer = instance.snapshot()
    pages.poke(50, 1)
    middle = instance.snapshot()
    pages.poke(50, 2)
    pages.poke(51, 2)
    instance.snapshot()
    pages.poke(52, 3)
    instance.drop(middle)
    assert [pages.peek(page) for page in (50, 51, 52)] == [2, 2, 3]
    with pytest.raises(UsageError, match="there is no snapshot"):
        instance.restore(middle)
    instance.restore(outer)
    assert [pages.peek(page) for page in (50, 51, 52)] == [0, 0, 0]
    instance.drop(outer)
    pages.poke(50, 4)
    with pytest.raises(UsageError, match="there is no snapshot"):
        instance.drop(outer)
    assert instance.snapshot() == 1
    pages.poke(50, 5)
    instance.restore(1)
    assert pages.peek(50) == 4


@pytest.mark.parametrize("place", ["code", "the last bytes of code"])
def test_code_is_restored_and_part_of_the_hash(instance: Instance, place: str) -> None:
    base = instance.image_base
    at = base + 0x100 if place == "code" else _end_of_code(instance) - 8
    before = instance.read_memory(at, 8)
    outer = instance.snapshot()
    hashes = [instance.memory_hash()]
    instance.write_memory(at, b"changed!")
    assert instance.read_memory(at, 8) == b"changed!"
    hashes.append(instance.memory_hash())
    inner = instance.snapshot()
    instance.write_memory(at, b"again!!!")
    hashes.append(instance.memory_hash())
    assert len(set(hashes)) == 3
    for _ in range(2):
        instance.restore(inner)
        assert instance.read_memory(at, 8) == b"changed!"
        assert instance.memory_hash() == hashes[1]
        instance.write_memory(at, b"again!!!")
        assert instance.memory_hash() == hashes[2]
    instance.restore(outer)
    assert instance.read_memory(at, 8) == before
    assert instance.memory_hash() == hashes[0]
    assert instance.syscall(Fake.GLOBAL, 1) == 2


def test_code_that_was_changed_before_a_snapshot_stays(instance: Instance) -> None:
    at = instance.image_base + 0x100
    instance.write_memory(at, b"changed!")
    depth = instance.snapshot()
    instance.write_memory(at, b"again!!!")
    instance.restore(depth)
    assert instance.read_memory(at, 8) == b"changed!"
    instance.write_memory(at, b"again!!!")
    instance.drop(depth)
    assert instance.snapshot() == depth
    instance.restore(depth)
    assert instance.read_memory(at, 8) == b"again!!!"


def _end_of_code(instance: Instance) -> int:
    """The image's first segment ends where its data, in the next page, begins."""
    import struct

    header = instance.read_memory(instance.image_base, 64)
    offset, size, count = struct.unpack_from("<Q14xHH", header, 32)
    for number in range(count):
        raw = instance.read_memory(instance.image_base + offset + number * size, 56)
        kind, flags, _, address, _, in_file = struct.unpack_from("<IIQQQQ", raw)
        if kind == 1 and flags & 1:
            return int(instance.image_base + address + in_file)
    raise AssertionError("no code")


def test_hash_is_exact(instance: Instance, pages: Pages) -> None:
    depth = instance.snapshot()
    before = instance.memory_hash()
    for page in range(FIRST, 500, 7):
        pages.poke(page, page)
    assert instance.memory_hash() != before
    instance.restore(depth)
    assert instance.memory_hash() == before


def test_many_pages(instance: Instance, pages: Pages) -> None:
    depth = instance.snapshot()
    before = instance.memory_hash()
    for _ in range(2):
        for page in range(FIRST, PAGES):
            pages.poke(page, 1)
        instance.restore(depth)
        assert instance.memory_hash() == before


def test_after_a_crash(instance: Instance, pages: Pages) -> None:
    outer = instance.snapshot()
    pages.poke(70, 1)
    inner = instance.snapshot()
    for bad in (Fake.PANIC, Fake.RECURSE, Fake.ILLEGAL):
        pages.poke(70, 2)
        with pytest.raises(KernelCrash):
            instance.syscall(bad)
        instance.restore(inner)
        assert pages.peek(70) == 1
    with pytest.raises(KernelCrash):
        instance.syscall(Fake.PANIC)
    instance.restore(outer)
    assert pages.peek(70) == 0


def test_user_memory_is_not_part(instance: Instance) -> None:
    with instance.user.alloc(8) as buffer:
        depth = instance.snapshot()
        buffer.view[:] = b"remember"
        instance.restore(depth)
        assert bytes(buffer.view) == b"remember"


def test_kernels_have_their_own(start: HostFactory) -> None:
    first, second = start(kernels=2).instances
    depth = first.snapshot()
    first.syscall(Fake.GLOBAL, 1)
    second.syscall(Fake.GLOBAL, 5)
    first.restore(depth)
    assert first.syscall(Fake.GLOBAL, 0) == 1
    assert second.syscall(Fake.GLOBAL, 0) == 6


def test_too_much_is_refused(host: Host, instance: Instance) -> None:
    """Levels that change all pages take as much memory as the kernel has, each."""
    value = 0

    def deeper() -> None:
        nonlocal value
        while value < 100:
            instance.snapshot()
            value += 1
            instance.syscall(Fake.STRIPE, FIRST, PAGES, value)
            instance.syscall(Fake.STRIPE, FIRST + 1, PAGES, value)

    with pytest.raises(UsageError, match=r"drop\(\) those that are over"):
        deeper()
    assert value > 10
    assert host.alive
    assert instance.syscall(Fake.PEEK, instance.syscall(Fake.RAM, FIRST) + 8) == value
    instance.restore(1)
    assert instance.syscall(Fake.PEEK, instance.syscall(Fake.RAM, FIRST) + 8) == 0
    assert instance.snapshot() == 2


def test_steady_state_takes_no_memory(instance: Instance, pages: Pages) -> None:
    depth = instance.snapshot()
    for _ in range(300):
        for page in range(FIRST, FIRST + 20):
            pages.poke(page, 1)
        instance.restore(depth)
    assert instance.hot_pages < 40
