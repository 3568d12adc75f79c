# SPDX-License-Identifier: GPL-2.0
"""Python and the host hand requests to and fro: nothing is lost, nobody is blocked."""

from __future__ import annotations

import re
import threading
import time

import pytest

from anykernel.errors import HostDied, UsageError
from anykernel.host import Host, Instance
from anykernel.host.border import MAX_NETDEVS, MAX_TASKS
from anykernel.host.compiled import OVERLAY, client
from anykernel.host.frames import LONGEST
from suites.selftest.host.conftest import HostFactory
from suites.selftest.host.fake import Fake


def test_the_header_and_python_agree() -> None:
    ffi, _, numbers = client()
    liblinux = (OVERLAY / "include" / "liblinux.h").read_text()
    assert ffi.sizeof("struct hk_command") == 96
    assert numbers.HK_LONGEST == LONGEST
    assert re.search(rf"#define LIB_MAX_TASKS\s+{MAX_TASKS}\b", liblinux)
    assert re.search(rf"#define LIB_MAX_NETDEVS\s+{MAX_NETDEVS}\b", liblinux)
    assert numbers.HK_QUIT > numbers.HK_SYSCALL == 1
    commands_end = numbers.HK_COMMANDS_AT + 96 * numbers.HK_MAX_COMMANDS
    assert commands_end <= numbers.HK_IN_AT
    assert numbers.HK_IN_AT + numbers.HK_IN_SIZE <= numbers.HK_OUT_AT
    assert numbers.HK_OUT_AT + numbers.HK_OUT_SIZE <= numbers.HK_KERNELS_AT
    report = numbers.HK_REPORT_SIZE - numbers.HK_STACK_COPY
    assert ffi.sizeof("struct hk_kernel") <= report
    assert numbers.HK_USER_AT + numbers.HK_USER_SIZE <= numbers.HK_KERNEL_SIZE


def test_no_request_is_lost_or_done_twice(instance: Instance) -> None:
    assert [instance.syscall(Fake.GLOBAL, 1) for _ in range(20_000)] == list(range(2, 20_002))


def test_a_sleeping_host_wakes(instance: Instance) -> None:
    for pause in (0, 0.001, 0.01, 0.1) * 3:
        time.sleep(pause)
        assert instance.syscall(Fake.GLOBAL, 0) == 1


def test_other_threads_run_meanwhile(start: HostFactory) -> None:
    instance = start(clock="real").instances[0]
    turns = 0
    over = threading.Event()

    def turn() -> None:
        nonlocal turns
        while not over.wait(0.005):
            turns += 1

    thread = threading.Thread(target=turn)
    thread.start()
    started = time.monotonic()
    try:
        assert instance.syscall(Fake.SLEEP, 300_000_000) == 0
        assert time.monotonic() - started >= 0.3
    finally:
        over.set()
        thread.join()
    assert turns >= 5


def test_hosts_do_not_mix(start: HostFactory) -> None:
    hosts = [start(kernels=2) for _ in range(3)]
    instances = [instance for host in hosts for instance in host.instances]
    for turn in range(1, 4):
        for position, instance in enumerate(instances):
            assert instance.syscall(Fake.GLOBAL, position) == 1 + turn * position


def test_kernels_of_one_host_have_their_own_user_memory(start: HostFactory) -> None:
    one, other = start(kernels=2).instances
    with one.user.write(bytes(8)) as buffer:
        assert one.syscall(Fake.READ, buffer.address) == 0
        assert other.syscall(Fake.READ, buffer.address) == -14


def test_a_closed_host_says_so(host: Host) -> None:
    instance = host.instances[0]
    host.close()
    host.close()
    assert not host.alive
    with pytest.raises(HostDied):
        instance.syscall(Fake.GLOBAL, 0)


@pytest.mark.parametrize(
    "options",
    [{"memory": 1 << 20}, {"memory": (16 << 20) + 1}, {"clock": "external"}, {"kernels": 0}],
    ids=str,
)
def test_wrong_options(start: HostFactory, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        start(**options)
