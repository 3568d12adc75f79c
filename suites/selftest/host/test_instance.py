# SPDX-License-Identifier: GPL-2.0
"""One kernel's calls, time, frames and console through its host, on the fake kernel."""

from __future__ import annotations

import errno
from random import Random

import pytest

from anykernel.errors import Deadlock, UsageError
from anykernel.host import Instance
from anykernel.host.compiled import client
from suites.selftest.host.fake import Fake

RING = 4 << 20
"""HK_CAPTURE_SIZE."""

SECOND = 10**9
MAC = bytes.fromhex("020000000001")
START = 1_000_000_000  # the host's clock when a kernel boots


def test_a_call_gives_its_raw_result(instance: Instance) -> None:
    assert instance.syscall(Fake.GLOBAL, 5) == 6
    assert instance.syscall(Fake.GLOBAL, -6) == 0
    assert instance.syscall(9999) == -errno.ENOSYS


def test_user_memory_and_what_is_none(instance: Instance) -> None:
    with instance.user.write((0x1122334455667788).to_bytes(8, "little")) as buffer:
        assert instance.syscall(Fake.READ, buffer.address) == 0x1122334455667788
    last = instance.user.base + len(instance.user.window)
    for address in (0, 8, instance.user.base - 8, last - 4, last, 1 << 63, (1 << 64) - 4):
        assert instance.syscall(Fake.READ, address) == -errno.EFAULT


def test_blocking_lets_virtual_time_run(instance: Instance) -> None:
    before = instance.now
    assert instance.syscall(Fake.SLEEP, 3600 * SECOND) == 0
    assert instance.now - before == 3600 * SECOND


def test_a_timeout_passes_in_virtual_time_and_cancels(instance: Instance) -> None:
    before = instance.now
    with pytest.raises(TimeoutError):
        instance.syscall(Fake.SLEEP, 10 * SECOND, timeout=2.5)
    assert instance.now - before == 2.5 * SECOND
    assert instance.syscall(Fake.GLOBAL, 0) == 1
    with pytest.raises(TimeoutError):
        instance.syscall(Fake.BLOCK, timeout=0)


def test_a_timeout_that_is_long_enough_changes_nothing(instance: Instance) -> None:
    assert instance.syscall(Fake.SLEEP, 2 * SECOND, timeout=2.5) == 0


def test_what_nothing_can_wake_is_a_deadlock(instance: Instance) -> None:
    with pytest.raises(Deadlock):
        instance.syscall(Fake.BLOCK)
    assert instance.syscall(Fake.GLOBAL, 0) == 1


def test_a_day_of_waiting_is_a_deadlock(instance: Instance) -> None:
    with pytest.raises(Deadlock):
        instance.syscall(Fake.SLEEP, 25 * 3600 * SECOND)


def test_a_call_that_can_not_be_cancelled(instance: Instance) -> None:
    snapshot = instance.snapshot()
    with pytest.raises(Deadlock, match="restore"):
        instance.syscall(Fake.STICKY, timeout=1)
    instance.restore(snapshot)
    assert instance.syscall(Fake.GLOBAL, 0) == 1


def test_posted_calls(instance: Instance) -> None:
    instance.post(Fake.SLEEP, SECOND, task=0)
    assert instance.poll(0) is None
    with pytest.raises(UsageError):
        instance.post(Fake.SLEEP, SECOND, task=0)
    instance.run(instance.now + SECOND)
    assert instance.poll(0) == 0


def test_cancel(instance: Instance) -> None:
    instance.post(Fake.BLOCK, task=0)
    instance.cancel(0)
    instance.run()
    assert instance.poll(0) == -errno.EINTR


def test_wait_leaves_the_call_alone(instance: Instance) -> None:
    instance.post(Fake.SLEEP, 5 * SECOND, task=0)
    with pytest.raises(TimeoutError):
        instance.wait(0, 1.0)
    assert instance.poll(0) is None
    assert instance.wait(0) == 0
    assert instance.poll(0) == 0
    assert instance.now >= 5 * SECOND


def test_waiting_for_ever_is_a_deadlock(instance: Instance) -> None:
    instance.post(Fake.BLOCK, task=0)
    with pytest.raises(Deadlock):
        instance.wait(0)
    assert instance.poll(0) is None


@pytest.mark.parametrize("task", [1, 255, 256, 1 << 31])
def test_tasks_that_do_not_exist(instance: Instance, task: int) -> None:
    with pytest.raises(UsageError):
        instance.syscall(Fake.GLOBAL, 0, task=task)
    with pytest.raises(UsageError):
        instance.post(Fake.GLOBAL, 0, task=task)


def test_time_advances_exactly(instance: Instance) -> None:
    instance.run(1_123_456_789)
    assert instance.now == 1_123_456_789
    instance.run()
    assert instance.now == 1_123_456_789


def test_settle_stops_at_the_last_timer(instance: Instance) -> None:
    start = instance.now
    instance.post(Fake.SLEEP, 3 * SECOND, task=0)
    assert instance.settle(SECOND) == start
    assert instance.settle(60 * SECOND) == start + 3 * SECOND


def test_frames_come_back(instance: Instance) -> None:
    dev, ifindex = instance.netdev_add("eth0", MAC, 1500)
    assert (dev, ifindex) == (0, 7)
    frames = [b"\1one", b"\0none", b"\3" + bytes(range(100)), b"\1" + bytes(65_534)]
    answers = instance.exchange(dev, frames)
    assert answers == [[frames[0]], [], [frames[2]] * 3, [frames[3]]]


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 9000])
def test_batches_of_any_size(instance: Instance, count: int) -> None:
    instance.netdev_add("eth0", MAC, 1500)
    frames = [b"\1" + i.to_bytes(2, "little") for i in range(count)]
    assert instance.exchange(0, frames) == [[frame] for frame in frames]


def test_batches_of_many_large_frames(instance: Instance) -> None:
    instance.netdev_add("eth0", MAC, 1500)
    frames = [b"\2" + bytes([i]) * 65_000 for i in range(100)]
    assert instance.exchange(0, frames) == [[frame] * 2 for frame in frames]


@pytest.mark.parametrize("size", [0, 65_558, 10_000_000])
def test_frames_that_can_not_be_sent(instance: Instance, size: int) -> None:
    with pytest.raises(UsageError, match=f"{size} bytes"):
        instance.inject(0, [bytes(size)])


def test_no_frames(instance: Instance) -> None:
    assert instance.exchange(0, []) == []
    instance.inject(0, [])


def test_answers_without_room_are_an_error(instance: Instance) -> None:
    """The fake sends a frame as often as its first byte says; 8 MiB have room."""
    big = b"\xff" + bytes(59_999)
    with pytest.raises(UsageError, match="sent more in answer than there is room for"):
        instance.exchange(0, [b"\x01" * 60, big, b"\x01" * 60])
    assert instance.exchange(0, [b"\x01" * 60]) == [[b"\x01" * 60]]


def test_many_frames_and_answers_of_all_lengths(instance: Instance) -> None:
    """More than the host's room for what a kernel has sent (256 KiB), between two frames or in
    the middle of the answers to one."""
    frames = [bytes([1 + n % 3]) + bytes(n * 7 % 3000) for n in range(1000)]
    assert instance.exchange(0, frames) == [[frame] * frame[0] for frame in frames]
    big = b"\x28" + bytes(40_001)
    assert instance.exchange(0, [frames[5], big, frames[5]]) == [
        [frames[5]] * 3,
        [big] * 40,
        [frames[5]] * 3,
    ]


def test_captured_frames(instance: Instance) -> None:
    instance.run(START + 5000)
    instance.inject(0, [b"\1a", b"\0b"])
    instance.inject(3, [b"\1c"])
    frames = instance.captured(clear=False)
    assert [(f.dev, f.direction, f.data) for f in frames] == [
        (0, "rx", b"\1a"),
        (0, "tx", b"\1a"),
        (0, "rx", b"\0b"),
        (3, "rx", b"\1c"),
        (3, "tx", b"\1c"),
    ]
    assert {f.time_ns for f in frames} == {START + 5000}
    assert sorted({f.number for f in frames}) == [f.number for f in frames]
    assert [f.data for f in instance.captured(3)] == [b"\1c"] * 2
    assert instance.captured() == []


def test_the_capture_ring_keeps_the_last_frames(instance: Instance) -> None:
    for i in range(200):
        instance.inject(0, [b"\0" + bytes([i]) * 60_000])
    frames = instance.captured()
    assert frames[-1].data[1] == 199
    marks = [f.data[1] for f in frames]
    assert marks == list(range(marks[0], 200))
    assert all(f.data == b"\0" + bytes([f.data[1]]) * 60_000 for f in frames)
    assert len(frames) * 60_016 > RING - 2 * 60_016


@pytest.mark.parametrize("seed", range(5))
def test_the_capture_ring_is_full_of_whole_frames(instance: Instance, seed: int) -> None:
    """However frames of any length fall on its end."""
    random = Random(seed)
    sizes = [random.choice((1, 60, 1514, 9000, 65535)) for _ in range(400)]
    frames = [b"\0" + number.to_bytes(2) * ((size + 1) // 2) for number, size in enumerate(sizes)]
    sent = [frame[:size] for frame, size in zip(frames, sizes, strict=True)]
    for frame in sent:
        instance.inject(0, [frame])
        if random.random() < 0.02:
            instance.captured()
    kept = [frame.data for frame in instance.captured(clear=False)]
    assert kept == sent[len(sent) - len(kept) :]
    assert [frame.data for frame in instance.captured()] == kept
    assert instance.captured() == []


def test_numbers_of_netdevs_are_reused_and_restored(instance: Instance) -> None:
    snapshot = instance.snapshot()
    assert [instance.netdev_add(f"eth{i}", MAC, 1500)[0] for i in range(3)] == [0, 1, 2]
    instance.netdev_del(1)
    assert instance.netdev_add("eth3", MAC, 1500)[0] == 1
    instance.restore(snapshot)
    assert instance.netdev_add("eth0", MAC, 1500)[0] == 0


def test_the_console(instance: Instance) -> None:
    end, text = instance.console()
    assert text == b"fake kernel\n" and end == len(text)
    instance.syscall(Fake.PRINT, 16)
    assert instance.console(end) == (end + 16, b"printed\nprinted\n")


def test_a_long_console_keeps_its_end(instance: Instance) -> None:
    instance.syscall(Fake.PRINT, 8 << 20)
    end, text = instance.console()
    assert end == 12 + (8 << 20)
    assert len(text) >= 1 << 16
    assert text.endswith(b"printed\nprinted\n")


def test_how_much_of_the_console_is_lost(instance: Instance) -> None:
    size = client()[2].HK_CONSOLE_SIZE
    since, _ = instance.console()
    instance.syscall(Fake.PRINT, size)
    assert instance.console_lost(since) == 0
    instance.syscall(Fake.PRINT, 10)
    head, text = instance.console(since)
    assert (head - since, len(text), instance.console_lost(since)) == (size + 10, size, 10)
    assert instance.console_lost(head) == instance.console_lost(since + 10) == 0
