# SPDX-License-Identifier: GPL-2.0
"""Red-black trees, lib/rbtree.c: against sorted lists, and the rules that keep them balanced."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.typed import Pointer
    from anykernel.unit import Unit

RED, BLACK = 0, 1
"""Bit 0 of __rb_parent_color; the rest is the parent."""


class Tree:
    """A tree of numbers; what users write themselves, the search for the place, is here."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.root = unit.new("struct rb_root")
        self.keys: dict[int, int] = {}
        """The address of a node to its key; only what is in the tree."""
        self.nodes: dict[int, Pointer] = {}

    def insert(self, key: int) -> None:
        parent: Pointer | None = None
        at, side = self.root.rb_node, ""
        while at:
            parent, side = at, "rb_left" if key < self.keys[int(at)] else "rb_right"
            at = getattr(at, side)
        node = self.unit.new("struct rb_node", __rb_parent_color=int(parent or 0))
        if parent is None:
            self.root.rb_node = node
        else:
            setattr(parent, side, node)
        self.keys[int(node)], self.nodes[key] = key, node
        self.unit.rb_insert_color(node, self.root)

    def erase(self, key: int) -> None:
        node = self.nodes.pop(key)
        self.unit.rb_erase(node, self.root)
        del self.keys[int(node)]
        self.unit.free(node)  # nobody may look at it any more

    def replace(self, key: int, function: str) -> None:
        """By another node with the same key."""
        old, new = self.nodes[key], self.unit.new("struct rb_node")
        getattr(self.unit, function)(old, new, self.root)
        del self.keys[int(old)]
        self.keys[int(new)], self.nodes[key] = key, new
        self.unit.free(old)

    def walk(self, first: str, following: str) -> Iterator[int]:
        node = self.outermost(first)
        while node:
            yield self.keys[int(node)]
            node = getattr(self.unit, following)(node)

    def outermost(self, first: str) -> Pointer:
        """rb_first() and its like; newer trees have two of them as inlines of a header."""
        if hasattr(self.unit, first):
            found: Pointer = getattr(self.unit, first)(self.root)
            return found
        side = {"rb_first": "rb_left", "rb_last": "rb_right"}[first]
        node: Pointer = self.root.rb_node
        while node and getattr(node, side):
            node = getattr(node, side)
        return node

    def black_height(self, node: Pointer, parent: int, above: int) -> int:
        """Black nodes on each way down from here; asserts all the rules."""
        if not node:
            return 1
        raw = getattr(node, "__rb_parent_color")
        color = raw & 1
        assert raw & ~3 == parent
        assert color == BLACK or above == BLACK, "a red node's child is red"
        left = self.black_height(node.rb_left, int(node), color)
        right = self.black_height(node.rb_right, int(node), color)
        assert left == right, "as many black nodes on each way"
        return left + int(color)

    def check(self) -> None:
        height = self.black_height(self.root.rb_node, 0, BLACK)  # so the root isn't red
        assert height <= math.log2(len(self.keys) + 1) + 1


@pytest.fixture
def u(unit: Callable[..., Unit]) -> Unit:
    return unit("lib/rbtree.c")


KEYS = st.integers(0, 60)
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "erase", "replace"]), KEYS), max_size=60
)


def run(tree: Tree, operations: list[tuple[str, int]]) -> list[int]:
    """What the tree should have; a key that isn't there stands for a neighbour."""
    model: list[int] = []
    for number, (operation, key) in enumerate(operations):
        at = bisect.bisect_left(model, key)
        there = key in model
        if operation == "insert" and not there:
            model.insert(at, key)
            tree.insert(key)
        elif operation != "insert" and model:
            key = model[min(at, len(model) - 1)]
            if operation == "erase":
                model.remove(key)
                tree.erase(key)
            else:
                tree.replace(key, ("rb_replace_node", "rb_replace_node_rcu")[number % 2])
        tree.check()
    return model


@settings(max_examples=100, deadline=None)
@given(operations=OPERATIONS)
def test_a_tree_is_a_sorted_list(u: Unit, operations: list[tuple[str, int]]) -> None:
    tree = Tree(u)
    model = run(tree, operations)
    assert list(tree.walk("rb_first", "rb_next")) == model
    assert list(tree.walk("rb_last", "rb_prev")) == model[::-1]


@settings(max_examples=40, deadline=None)
@given(keys=st.lists(st.integers(), unique=True, max_size=80), order=st.randoms())
def test_any_order_in_any_order_out(u: Unit, keys: list[int], order: Random) -> None:
    tree = Tree(u)
    for key in keys:
        tree.insert(key)
    tree.check()
    order.shuffle(keys)
    for number, key in enumerate(keys):
        tree.erase(key)
        tree.check()
        if number % 16 == 0:
            assert list(tree.walk("rb_first", "rb_next")) == sorted(keys[number + 1 :])
    assert not tree.root.rb_node


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_postorder_has_children_before_parents(u: Unit, operations: list[tuple[str, int]]) -> None:
    tree = Tree(u)
    model = run(tree, operations)
    order = list(tree.walk("rb_first_postorder", "rb_next_postorder"))
    assert sorted(order) == model
    place = {key: number for number, key in enumerate(order)}
    for key, node in tree.nodes.items():
        for child in (node.rb_left, node.rb_right):
            assert not child or place[tree.keys[int(child)]] < place[key]


@pytest.mark.parametrize("keys", [range(200), range(200, 0, -1)], ids=["ascending", "descending"])
def test_sorted_input_makes_no_list_of_it(u: Unit, keys: range) -> None:
    tree = Tree(u)
    for key in keys:
        tree.insert(key)
    tree.check()

    def depth(node: Pointer) -> int:
        return 1 + max(depth(node.rb_left), depth(node.rb_right)) if node else 0

    assert depth(tree.root.rb_node) <= 2 * math.log2(len(keys) + 1)
