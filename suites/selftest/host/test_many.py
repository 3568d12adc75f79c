# SPDX-License-Identifier: GPL-2.0
"""Many kernels in one process: snapshots stay exact when the process may have no more mappings.

Each other page of a kernel that is written to is two mappings more, so the limit of 65,530 that
Linux has by default is really reached here.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from anykernel.build.image import Image
from anykernel.host import Host, Instance
from anykernel.kernel import Kernel
from suites.selftest.host.conftest import MEMORY, HostFactory
from suites.selftest.host.fake import Fake

PAGES = MEMORY // 4096
FIRST = 16
"""The first page of RAM that the fake doesn't use itself."""
LIMIT = int(Path("/proc/sys/vm/max_map_count").read_text())
FULL = LIMIT // (PAGES - FIRST)
"""So many kernels with each other page written fit into the limit."""

few = pytest.mark.skipif(
    FULL > 64, reason=f"vm.max_map_count is {LIMIT}: too many mappings to use them up"
)


def mappings(host: Host) -> int:
    return len(Path(f"/proc/{host.pid}/maps").read_text().splitlines())


def stripe(instance: Instance, value: int, first: int = FIRST, end: int = PAGES) -> None:
    assert instance.syscall(Fake.STRIPE, first, end, value) == 0


def use_up(host: Host, fillers: list[Instance]) -> None:
    """Leaves the host room for one or two mappings; the fillers' next write has to come after
    all that the test does."""
    for filler in fillers:
        filler.snapshot()
        room = LIMIT - mappings(host)
        stripe(filler, 1, FIRST, min(PAGES, FIRST + room - 8))
    assert LIMIT - mappings(host) < 12


@few
def test_every_kernel_is_restored(start: HostFactory) -> None:
    host = start(kernels=FULL + 4)
    outer, inner = {}, {}
    for instance in host.instances:
        stripe(instance, 7)
        assert instance.snapshot() == 1
        outer[instance] = instance.memory_hash()
    for instance in host.instances:
        stripe(instance, 50 + instance.index)
    assert mappings(host) <= LIMIT
    for instance in host.instances:
        assert instance.snapshot() == 2
        inner[instance] = instance.memory_hash()
        assert inner[instance] != outer[instance]
    for _ in range(2):
        for instance in host.instances:
            stripe(instance, 100, FIRST + 1)
        for instance in host.instances:
            instance.restore(2)
            assert instance.memory_hash() == inner[instance]
    for instance in host.instances:
        stripe(instance, 100)
    for _ in range(2):
        for instance in host.instances:
            instance.restore(1)
            assert instance.memory_hash() == outer[instance]
            stripe(instance, 100, FIRST + 1)


def against_a_model(choose: random.Random, tried: list[Instance], used: list[int]) -> None:
    """Random writes, snapshots and restores; a dictionary and a hash say what must be there."""
    ram = {k: k.syscall(Fake.RAM, 0) for k in tried}
    model: dict[Instance, dict[int, int]] = {k: {} for k in tried}
    saved: dict[Instance, list[tuple[dict[int, int], int]]] = {k: [] for k in tried}
    for _ in range(600):
        k = choose.choice(tried)
        what = choose.random()
        if what < 0.8:
            page, value = choose.choice(used), choose.randrange(1 << 32)
            assert k.syscall(Fake.POKE, ram[k] + page * 4096 + 8, value) == 0
            model[k][page] = value
        elif what < 0.88 and len(saved[k]) < 12:
            saved[k].append((dict(model[k]), k.memory_hash()))
            assert k.snapshot() == len(saved[k])
        elif saved[k]:
            depth = choose.randint(1, len(saved[k]))
            k.restore(depth)
            del saved[k][depth:]
            before, hashed = saved[k][-1]
            model[k] = dict(before)
            assert k.memory_hash() == hashed
    for k in tried:
        for page in used:
            assert k.syscall(Fake.PEEK, ram[k] + page * 4096 + 8) == model[k].get(page, 0)


@few
@pytest.mark.parametrize("seed", range(4))
def test_kernels_that_compete_for_mappings(start: HostFactory, seed: int) -> None:
    choose = random.Random(seed)
    host = start(kernels=FULL + 5)
    use_up(host, host.instances[3:])
    against_a_model(choose, host.instances[:3], choose.sample(range(FIRST, PAGES), 40))


@pytest.mark.parametrize("seed", range(4))
def test_kernels_that_join_hot_pages(start: HostFactory, seed: int) -> None:
    """Those behind the first 128 save what lies between hot pages, too."""
    choose = random.Random(seed)
    host = start(kernels=129)
    before = mappings(host)
    against_a_model(choose, host.instances[128:], choose.sample(range(FIRST, FIRST + 600), 60))
    assert mappings(host) < before + 60


def test_all_levels_may_save_all_pages(start: HostFactory) -> None:
    instance = start().instances[0]
    hashes = []
    for depth in range(1, 6):
        assert instance.snapshot() == depth
        hashes.append(instance.memory_hash())
        stripe(instance, depth)
        stripe(instance, depth + 100, FIRST + 1)
    for depth in range(5, 0, -1):
        instance.restore(depth)
        assert instance.memory_hash() == hashes[depth - 1]


def test_a_kernel_is_few_mappings(kernel: Kernel) -> None:
    """Guard pages below stacks are for the first 128 kernels only."""

    def count(image: Image, kernels: int) -> int:
        with Host(image, kernels=kernels, memory=16 << 20) as host:
            assert [instance.syscall(39) for instance in host.instances] == [1] * kernels
            return mappings(host)

    assert count(kernel.image, 160) - count(kernel.image, 130) <= 30 * 8
