# SPDX-License-Identifier: GPL-2.0
"""The XArray, lib/xarray.c: against a dict, with its nodes counted."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.typed import Pointer
    from anykernel.unit import Mock, Unit

GFP = 0xCC0  # GFP_KERNEL; the mock of the allocator doesn't look at it
PRESENT = 8
"""xa_find()'s filter XA_PRESENT; below it are the marks."""
LAST = 2**64 - 1
NO_MEMORY = 2**64 - (errno.ENOMEM << 2) + 2
"""XA_ERROR(-ENOMEM): a negative number, shifted by two, and a tag."""

CLOSE = st.integers(0, 200)
INDEXES = CLOSE | st.sampled_from([63, 64, 4095, 4096, 2**18, 2**36, 2**63, LAST - 64, LAST])
VALUES = st.integers(0, 2**62 - 1)


class XArray:
    """An xarray of integers: tagged pointers, as xa_mk_value() makes them."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.xa = unit.new("struct xarray")
        self.index = unit.new("unsigned long")
        self.nodes: set[int] = set()
        self.dying: list[tuple[Pointer, Pointer]] = []
        self.memory = LAST
        """How many nodes can be had."""
        self.mock("kmem_cache_alloc_lru", "kmem_cache_alloc_lru_noprof").does(self._alloc)
        self.mock("kmem_cache_free").does(self._free)
        self.mock("call_rcu").does(lambda head, function: self.dying.append((head, function)))

    def mock(self, *names: str) -> Mock:
        """The first that this kernel has."""
        return self.unit.mock(next(name for name in names if name in self.unit.mocks))

    def _alloc(self, *_: Any) -> Pointer | None:
        if not self.memory:
            return None
        self.memory -= 1
        node = self.unit.new("struct xa_node")
        self.unit.radix_tree_node_ctor(node)  # as slabs are made
        self.nodes.add(int(node))
        return node

    def _free(self, _cache: Pointer, node: Pointer) -> None:
        self.nodes.remove(int(node))  # not twice, and nothing else
        assert not any(node.cast("struct xa_node").slots), "nodes go back as they came"
        self.unit.free(node)

    def grace_period(self) -> None:
        while self.dying:
            head, function = self.dying.pop()
            function(head)

    def store(self, index: int, value: int | None) -> int | None:
        """What was there; raises MemoryError."""
        entry = None if value is None else value << 1 | 1
        return self.value(self.unit.xa_store(self.xa, index, entry, GFP))

    def load(self, index: int) -> int | None:
        return self.value(self.unit.xa_load(self.xa, index))

    def erase(self, index: int) -> int | None:
        return self.value(self.unit.xa_erase(self.xa, index))

    def find(self, function: str, start: int, last: int, mark: int) -> tuple[int, int] | None:
        self.index.value = start
        found = self.value(getattr(self.unit, function)(self.xa, self.index, last, mark))
        return None if found is None else (self.index.value, found)

    @staticmethod
    def value(entry: Pointer) -> int | None:
        raw = int(entry)
        if raw == NO_MEMORY:
            raise MemoryError
        assert raw & 1 or not raw, "an entry that nobody stored"
        return raw >> 1 if raw else None


@pytest.fixture
def u(unit: Callable[..., Unit]) -> Unit:
    return unit("lib/xarray.c", "lib/radix-tree.c", with_=["lib/find_bit.c", "lib/bitmap.c"])


ITEMS = st.dictionaries(INDEXES, VALUES, max_size=25)


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["store", "store", "load", "erase"]), INDEXES, VALUES),
        max_size=50,
    )
)
def test_an_xarray_is_a_dict(u: Unit, steps: list[tuple[str, int, int]]) -> None:
    xarray = XArray(u)
    model: dict[int, int] = {}
    for operation, index, value in steps:
        before = model.get(index)
        if operation == "store":
            assert xarray.store(index, value) == before
            model[index] = value
        elif operation == "erase":
            assert xarray.erase(index) == before
            model.pop(index, None)
        else:
            assert xarray.load(index) == before
        xarray.grace_period()
    for index in {*model, *(index for _, index, _ in steps)}:
        assert xarray.load(index) == model.get(index)
    for index in model:
        xarray.erase(index)
    xarray.grace_period()
    assert not xarray.nodes, "an empty one keeps no memory"
    assert not xarray.xa.xa_head


@settings(max_examples=80, deadline=None)
@given(items=ITEMS, start=INDEXES, last=INDEXES)
def test_find(u: Unit, items: dict[int, int], start: int, last: int) -> None:
    xarray = XArray(u)
    for index, value in items.items():
        xarray.store(index, value)
    fitting = sorted((index, value) for index, value in items.items() if start <= index <= last)
    assert xarray.find("xa_find", start, last, PRESENT) == (fitting[0] if fitting else None)
    after = [one for one in fitting if one[0] > start]
    assert xarray.find("xa_find_after", start, last, PRESENT) == (after[0] if after else None)
    # As xa_for_each() goes through it.
    seen, at = [], xarray.find("xa_find", 0, LAST, PRESENT)
    while at:
        seen.append(at)
        at = xarray.find("xa_find_after", at[0], LAST, PRESENT)
    assert seen == sorted(items.items())


@settings(max_examples=80, deadline=None)
@given(
    items=ITEMS,
    marks=st.lists(st.tuples(INDEXES, st.integers(0, 2), st.booleans()), max_size=30),
    erased=st.lists(INDEXES, max_size=5),
)
def test_marks(
    u: Unit, items: dict[int, int], marks: list[tuple[int, int, bool]], erased: list[int]
) -> None:
    xarray = XArray(u)
    for index, value in items.items():
        xarray.store(index, value)
    model: set[tuple[int, int]] = set()
    for index, mark, on in marks:
        (xarray.unit.xa_set_mark if on else xarray.unit.xa_clear_mark)(xarray.xa, index, mark)
        if on and index in items:  # what isn't there has no marks
            model.add((index, mark))
        else:
            model.discard((index, mark))
    for index in erased:
        xarray.erase(index)
        model -= {(index, mark) for mark in range(3)}
    for index in items:
        for mark in range(3):
            assert xarray.unit.xa_get_mark(xarray.xa, index, mark) == ((index, mark) in model)
    for mark in range(3):
        marked = sorted(index for index, one in model if one == mark)
        found = xarray.find("xa_find", 0, LAST, mark)
        assert found == ((marked[0], items[marked[0]]) if marked else None)


@settings(max_examples=60, deadline=None)
@given(items=ITEMS, index=INDEXES, value=VALUES, nodes=st.integers(0, 11))
def test_without_memory_nothing_changes(
    u: Unit, items: dict[int, int], index: int, value: int, nodes: int
) -> None:
    xarray = XArray(u)
    for one, other in items.items():
        xarray.store(one, other)
    xarray.memory = nodes
    try:
        xarray.store(index, value)
    except MemoryError:
        expected = items
    else:
        expected = {**items, index: value}
    for one in {*items, index}:
        assert xarray.load(one) == expected.get(one)


@settings(max_examples=60, deadline=None)
@given(items=ITEMS)
def test_destroy_frees_all(u: Unit, items: dict[int, int]) -> None:
    xarray = XArray(u)
    for index, value in items.items():
        xarray.store(index, value)
    xarray.unit.xa_destroy(xarray.xa)
    xarray.grace_period()
    assert not xarray.nodes
    assert xarray.find("xa_find", 0, LAST, PRESENT) is None
