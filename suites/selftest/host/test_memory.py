# SPDX-License-Identifier: GPL-2.0
"""The allocator of user memory: no overlap, alignment, reuse, honest ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.host import Buffer, UserMemory

BASE = 0x1_0049_0000


def memory(size: int = 1 << 20) -> UserMemory:
    return UserMemory(memoryview(bytearray(size)), BASE)


def test_a_buffer_is_the_window() -> None:
    user = memory()
    buffer = user.alloc(100)
    buffer.view[:5] = b"hello"
    offset = buffer.address - BASE
    assert bytes(user.window[offset : offset + 5]) == b"hello"
    assert len(buffer) == len(buffer.view) == 100


def test_write_copies() -> None:
    source = bytearray(b"before")
    buffer = memory().write(source)
    source[:] = b"after!"
    assert bytes(buffer.view) == b"before"


def test_freed_memory_is_reused() -> None:
    user = memory()
    first = user.alloc(1000)
    address = first.address
    first.free()
    assert user.alloc(1000).address == address


def test_freeing_twice_does_no_harm() -> None:
    user = memory()
    first = user.alloc(64)
    first.free()
    first.free()
    assert user.alloc(64).address != user.alloc(64).address


def test_a_with_block_frees() -> None:
    user = memory()
    with user.alloc(64) as buffer:
        address = buffer.address
    assert user.alloc(64).address == address


def test_a_restore_gives_the_same_addresses_again() -> None:
    user = memory()
    kept, freed = user.alloc(64), user.alloc(5000)
    freed.free()
    user.save()
    runs = []
    for _ in range(3):
        made = [user.alloc(size) for size in (64, 5000, 64, 700_000)]
        runs.append([buffer.address for buffer in made])
        made[0].free()
        user.restore(1)
        assert kept.alive and not any(buffer.alive for buffer in made)
        for buffer in made:
            buffer.free()
    assert runs[0] == runs[1] == runs[2]
    address = kept.address
    kept.free()
    assert user.alloc(64).address == address


def test_what_is_freed_behind_a_snapshot_is_not_given_away_after_a_restore() -> None:
    user = memory()
    before = user.alloc(64)
    user.save()
    before.free()
    assert user.alloc(64).address == before.address
    user.restore(1)
    assert user.alloc(64).address != before.address


def test_dropping_a_snapshot_changes_nothing() -> None:
    user = memory()
    user.save()
    first = user.alloc(64)
    user.save()
    second = user.alloc(64)
    user.drop(2)
    assert [one.alive for one in (first, second)] == [True, True]
    address = second.address
    second.free()
    assert user.alloc(64).address == address
    user.restore(1)
    assert [one.alive for one in (first, second)] == [False, False]
    assert user.alloc(64).address == first.address


def test_a_full_window_says_so_and_recovers() -> None:
    user = memory(1 << 16)
    with pytest.raises(MemoryError, match="free buffers"):
        user.alloc((1 << 16) + 1)
    whole = user.alloc(1 << 16)
    with pytest.raises(MemoryError):
        user.alloc(1)
    whole.free()
    assert len(user.alloc(1 << 16)) == 1 << 16


def test_freeing_an_odd_block_keeps_what_lies_behind() -> None:
    user = memory(100_000)
    odd = user.alloc(80_000)
    behind = user.alloc(64)
    odd.free()
    with pytest.raises(MemoryError):
        user.alloc(90_000)
    behind.view[:] = bytes(64)


@pytest.mark.parametrize(("size", "align"), [(-1, 16), (8, 0), (8, 3), (8, 8192)], ids=str)
def test_wrong_requests(size: int, align: int) -> None:
    with pytest.raises(UsageError, match="can't allocate"):
        memory().alloc(size, align)


REQUESTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("alloc"),
            st.one_of(st.integers(0, 200), st.integers(4000, 9000), st.integers(1, 80_000)),
            st.sampled_from([1, 16, 64, 4096]),
        ),
        st.tuples(st.just("free"), st.integers(0, 50), st.just(0)),
    ),
    max_size=60,
)


@given(REQUESTS)
def test_live_buffers_never_overlap(requests: list[tuple[str, int, int]]) -> None:
    user = memory(100_000)
    live: list[Buffer] = []
    for what, number, align in requests:
        if what == "free":
            if live:
                live.pop(number % len(live)).free()
            continue
        try:
            buffer = user.alloc(number, align)
        except MemoryError:
            continue
        assert buffer.address % align == 0
        assert BASE <= buffer.address <= buffer.address + number <= BASE + 100_000
        live.append(buffer)
        spans = sorted((b.address, b.address + max(len(b), 1)) for b in live)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
