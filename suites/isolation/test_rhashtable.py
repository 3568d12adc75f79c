# SPDX-License-Identifier: GPL-2.0
"""Resizable hash tables, lib/rhashtable.c: against a dict, and while they are resized."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.typed import Array, Pointer
    from anykernel.unit import Unit

KEYS = st.integers(0, 2**32 - 1) | st.integers(0, 40)


def init(unit: Unit, table: Pointer, params: Pointer) -> int:
    """rhashtable_init(), by its name of this release; the newest wants a key of lockdep's, too."""
    for name in ("rhashtable_init", "rhashtable_init_noprof"):
        if hasattr(unit, name):
            return int(unit[name](table, params))
    return int(unit["__rhashtable_init_noprof"](table, params, None))


class Table:
    """A table of objects, each a struct rhash_head and a number.

    Its fast paths are inline, so that objects come in by rhashtable_insert_slow(), which is
    lookup, too; taking one out of its chain is done here as rhashtable_remove_fast() does it.
    """

    def __init__(self, unit: Unit, seed: int = 1, **params: int) -> None:
        self.unit = unit
        self.objects: dict[int, Array] = {}
        self.dying: list[tuple[Pointer, Pointer]] = []
        self.due = False
        self.freed: list[int] = []
        for name in ("__mutex_init", "mutex_init_generic", "mutex_lock", "mutex_unlock"):
            if name in unit.mocks:
                unit.mock(name).returns()
        unit.mock("cancel_work_sync").returns(False)
        if "irq_work_queue" in unit.mocks:  # newer kernels put the work off twice
            unit.mock("irq_work_queue").does(self._queue)
            unit.mock("irq_work_sync").returns()
        unit.mock("get_random_u32").returns(seed)
        unit.mock("queue_work_on").does(self._queue)
        unit.mock("call_rcu").does(lambda head, function: self.dying.append((head, function)))
        self.ht = unit.new("struct rhashtable")
        # As small as possible at first, so that it has to grow.
        made = unit.new("struct rhashtable_params", key_len=4, key_offset=8, nelem_hint=1, **params)
        assert init(unit, self.ht, made) == 0

    def _queue(self, *_: object) -> bool:
        self.due = True
        return True

    def insert(self, key: int) -> Pointer:
        """NULL, the object that has the key already, or an error."""
        made = self.unit.array("unsigned long", [0, key])
        found: Pointer = self.unit.rhashtable_insert_slow(self.ht, key.to_bytes(4, "little"), made)
        if not found:
            self.objects[key] = made
        return found

    def chain(self, number: int) -> list[int]:
        """The addresses of the objects in a bucket."""
        found, at = [], int(self.ht.tbl.buckets[number]) & ~1  # bit 0 is its lock
        while at and not at & 1:  # an odd one is the end
            found.append(at)
            at = int(self.unit.at(at, "struct rhash_head").next)
        return found

    def remove(self, key: int) -> None:
        wanted = int(self.objects.pop(key))
        number = jhash2([key], self.ht.tbl.hash_rnd) % self.ht.tbl.size
        chain = self.chain(number)
        place = chain.index(wanted)
        following = int(self.unit.at(wanted, "struct rhash_head").next)
        if place:
            self.unit.at(chain[place - 1], "struct rhash_head").next = following
        else:
            self.ht.tbl.buckets[number] = 0 if following & 1 else following
        self.ht.nelems.counter -= 1

    def work(self) -> None:
        """What was put off: resizing, and what waits for a grace period."""
        self.due = True
        while self.due:  # it asks for itself when there is a further table already
            self.due = False
            self.unit.rht_deferred_worker(self.ht.run_work)
        self.grace_period()

    def grace_period(self) -> None:
        while self.dying:
            head, function = self.dying.pop()
            function(head)

    def check(self) -> None:
        """Each object once, where its hash says."""
        table = self.ht.tbl
        chains = [self.chain(number) for number in range(table.size)]
        there = [address for chain in chains for address in chain]
        assert sorted(there) == sorted(map(int, self.objects.values()))
        assert self.ht.nelems.counter == len(self.objects)
        assert table.size.bit_count() == 1
        for number, chain in enumerate(chains):
            for address in chain:
                key = self.unit.at(address + 8, "unsigned int").value
                assert jhash2([key], table.hash_rnd) % table.size == number

    def walk(self) -> list[int]:
        """The keys, as a walker sees them."""
        walker, seen = self.unit.new("struct rhashtable_iter"), []
        self.unit.rhashtable_walk_enter(self.ht, walker)
        self.unit.rhashtable_walk_start_check(walker)
        while found := self.unit.rhashtable_walk_next(walker):
            if found.errno == errno.EAGAIN:  # now the next table, which it grows to
                continue
            seen.append(self.unit.at(int(found) + 8, "unsigned int").value)
        self.unit.rhashtable_walk_stop(walker)
        self.unit.rhashtable_walk_exit(walker)
        return seen

    def free(self) -> None:
        def free_object(made: Pointer, _: Pointer) -> None:
            self.freed.append(int(made))

        self.unit.rhashtable_free_and_destroy(self.ht, free_object, None)
        self.grace_period()
        assert sorted(self.freed) == sorted(map(int, self.objects.values())), "each once"
        self.unit.assert_no_leaks()


def jhash2(words: list[int], seed: int) -> int:
    """Bob Jenkins' lookup3, hashword(): http://burtleburtle.net/bob/c/lookup3.c."""
    mask = 2**32 - 1

    def rotated(word: int, by: int) -> int:
        return (word << by | word >> (32 - by)) & mask

    words = list(words)
    a = b = c = (0xDEADBEEF + 4 * len(words) + seed) & mask
    while len(words) > 3:
        a, b, c = (a + words[0]) & mask, (b + words[1]) & mask, (c + words[2]) & mask
        for by in (4, 6, 8, 16, 19, 4):
            a = (a - c & mask) ^ rotated(c, by)
            c = (c + b) & mask
            a, b, c = b, c, a
        words = words[3:]
    if words:
        words += [0] * (3 - len(words))
        a, b, c = (a + words[0]) & mask, (b + words[1]) & mask, (c + words[2]) & mask
        for by in (14, 11, 25, 16, 4, 14, 24):
            c = (c ^ b) - rotated(b, by) & mask
            a, b, c = b, c, a
        c = b  # the last one changed
    return c


@pytest.fixture
def u(unit: Callable[..., Unit]) -> Unit:
    return unit("lib/rhashtable.c")


@settings(max_examples=80, deadline=None)
@given(words=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12), seed=KEYS)
def test_the_hash_is_jenkins(u: Unit, words: list[int], seed: int) -> None:
    data = b"".join(word.to_bytes(4, "little") for word in words)
    assert u.rhashtable_jhash2(data, len(words), seed) == jhash2(words, seed)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["insert"] * 4 + ["remove", "work"]), KEYS), max_size=60
    ),
    seed=KEYS,
    shrinks=st.booleans(),
)
def test_a_table_is_a_dict(u: Unit, steps: list[tuple[str, int]], seed: int, shrinks: bool) -> None:
    table = Table(u, seed, automatic_shrinking=shrinks)
    for operation, key in steps:
        if operation == "insert":
            there = table.objects.get(key)
            assert int(table.insert(key)) == int(there or 0), "the one that has the key already"
        elif operation == "remove" and table.objects:
            table.work()  # so that there is one table
            table.remove(min(table.objects, key=lambda one: abs(one - key)))
        elif operation == "work":
            table.work()
            table.check()
    table.work()
    table.check()
    assert sorted(table.walk()) == sorted(table.objects)
    for key, made in table.objects.items():
        assert int(u.rhashtable_insert_slow(table.ht, key.to_bytes(4, "little"), made)) == int(made)
    table.free()


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 70), seed=KEYS)
def test_it_grows_and_shrinks(u: Unit, count: int, seed: int) -> None:
    table = Table(u, seed, automatic_shrinking=True)
    sizes = [table.ht.tbl.size]
    for key in range(count):
        assert not table.insert(key)
        if table.due:
            table.work()
            sizes.append(table.ht.tbl.size)
    assert all(after == 2 * before for before, after in pairwise(sizes))
    assert count <= 0.75 * sizes[-1] + 1, "more than three quarters of it make it grow"
    table.check()
    for key in range(1, count):
        table.remove(key)
    for _ in range(6):
        table.work()
    table.check()
    assert table.ht.tbl.size == sizes[0]
    assert list(table.walk()) == [0]
    table.free()


@settings(max_examples=20, deadline=None)
@given(most=st.sampled_from([4, 8, 16]), seed=KEYS)
def test_a_full_table_says_so(u: Unit, most: int, seed: int) -> None:
    table = Table(u, seed, max_size=most)
    for key in range(2 * most):  # twice as many as buckets
        assert not table.insert(key)
        table.work()
    assert table.insert(99).errno == errno.E2BIG
    assert table.ht.tbl.size == most
    table.check()
    table.free()


@settings(max_examples=30, deadline=None)
@given(keys=st.lists(KEYS, unique=True, max_size=40), seed=KEYS)
def test_destroyed_while_it_grows(u: Unit, keys: list[int], seed: int) -> None:
    table = Table(u, seed)
    for key in keys:  # nobody does the work that was put off, so that there are several tables
        assert not table.insert(key)
        assert int(table.insert(key)) == int(table.objects[key]), "found in whichever it is"
    assert sorted(table.walk()) == sorted(keys)
    table.free()


def test_wrong_parameters(u: Unit) -> None:
    ht, nothing = u.new("struct rhashtable"), u.new("struct rhashtable_params")
    assert init(u, ht, nothing) == -errno.EINVAL, "neither a key nor a hash function"
