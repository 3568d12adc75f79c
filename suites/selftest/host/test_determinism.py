# SPDX-License-Identifier: GPL-2.0
"""The same seed and the same calls give the same memory, bit by bit."""

from __future__ import annotations

from anykernel.host import Host, Instance
from suites.selftest.host.conftest import HostFactory
from suites.selftest.host.fake import Fake


def drive(host: Host) -> list[int]:
    """Some of everything; what came out of it and the memory's hashes on the way."""
    trace = []
    for instance in host.instances:
        trace.append(instance.memory_hash())
        trace += [instance.syscall(Fake.RANDOM) for _ in range(5)]
        instance.netdev_add("eth0", bytes(6), 1500)
        trace += [len(answer) for answer in instance.exchange(0, [b"\1abc", b"\2def"])]
        instance.syscall(Fake.SLEEP, 12345)
        trace += [instance.now, instance.memory_hash()]
    return trace


def test_two_hosts_with_one_seed(start: HostFactory) -> None:
    assert drive(start(seed=7)) == drive(start(seed=7))


def test_another_seed_is_another_run(start: HostFactory) -> None:
    assert drive(start(seed=7)) != drive(start(seed=8))


def test_many_kernels_in_one_host(start: HostFactory) -> None:
    assert drive(start(seed=7, kernels=3)) == drive(start(seed=7, kernels=3))


def test_a_restored_kernel_repeats_itself(instance: Instance) -> None:
    def act() -> list[int]:
        values = [instance.syscall(Fake.RANDOM) for _ in range(3)]
        instance.syscall(Fake.SLEEP, 777)
        return [*values, instance.now, instance.memory_hash()]

    snapshot = instance.snapshot()
    first = act()
    for _ in range(3):
        instance.restore(snapshot)
        assert act() == first
