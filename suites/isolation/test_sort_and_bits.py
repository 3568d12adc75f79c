# SPDX-License-Identifier: GPL-2.0
"""The small tools of lib/: sorting, bitmaps, arithmetic and hex, against Python's own."""

from __future__ import annotations

import bisect
import errno
import math
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.typed import Array, Pointer
    from anykernel.unit import Unit

FILES = [
    "lib/sort.c",
    "lib/list_sort.c",
    "lib/bsearch.c",
    "lib/find_bit.c",
    "lib/bitmap.c",
    "lib/hexdump.c",
    "lib/math/gcd.c",
    "lib/math/lcm.c",
    "lib/math/int_sqrt.c",
    "lib/math/reciprocal_div.c",
]
BESIDE = ["lib/vsprintf.c", "lib/kstrtox.c", "lib/string_helpers.c"]
WORD = st.integers(0, 2**64 - 1) | st.integers(0, 1000)
INTS = st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3), max_size=40)


@pytest.fixture
def u(first_unit: Callable[..., Unit]) -> Unit:
    # Texts of bitmaps have a file of their own since 6.6.
    made = first_unit([*FILES, "lib/bitmap-str.c"], FILES, with_=BESIDE)
    if "__sw_hweight64" in made.mocks:
        made.mock("__sw_hweight64").does(lambda word: int(word).bit_count())
    return made


# Sorting


def compared(one: int, two: int) -> int:
    return (one > two) - (one < two)


def by_value(kind: str) -> Callable[[Pointer, Pointer], int]:
    return lambda one, two: compared(one.cast(kind).value, two.cast(kind).value)


@settings(max_examples=40, deadline=None)
@given(values=INTS, kind=st.sampled_from(["int", "long"]))
def test_sort(u: Unit, values: list[int], kind: str) -> None:
    array = u.array(kind, values)
    u.sort(array, len(values), u.space.shape(kind).size, by_value(kind), None)
    assert array == sorted(values)


@settings(max_examples=30, deadline=None)
@given(records=st.lists(st.binary(min_size=5, max_size=5), max_size=25))
def test_sort_moves_whole_records(u: Unit, records: list[bytes]) -> None:
    """Of an odd size, by their first byte."""
    memory = u.buffer(b"".join(records))
    u.sort(memory, len(records), 5, by_value("unsigned char"), None)
    raw = memory.bytes(5 * len(records))
    made = [raw[at : at + 5] for at in range(0, len(raw), 5)]
    assert [one[0] for one in made] == sorted(one[0] for one in records)
    assert sorted(made) == sorted(records)


@settings(max_examples=30, deadline=None)
@given(keys=st.lists(st.integers(0, 9), max_size=30))
def test_list_sort_is_stable(u: Unit, keys: list[int]) -> None:
    head = u.new("struct list_head")
    nodes = [u.array("unsigned long", [0, 0, key]) for key in keys]  # a list_head and a key
    ring = [int(head), *map(int, nodes)]
    for place, address in enumerate(ring):
        node = u.at(address, "struct list_head")
        node.next, node.prev = ring[(place + 1) % len(ring)], ring[place - 1]
    key_of = {int(node): key for node, key in zip(nodes, keys, strict=True)}

    u.list_sort(None, head, lambda _, a, b: compared(key_of[int(a)], key_of[int(b)]))
    expected = [int(head), *sorted(map(int, nodes), key=key_of.__getitem__)]
    at: Pointer = head
    for here, after in zip(expected, [*expected[1:], expected[0]], strict=True):
        assert int(at) == here
        assert int(at.next.prev) == here, "the links back, too"
        assert int(at.next) == after
        at = at.next


@settings(max_examples=40, deadline=None)
@given(values=INTS, wanted=st.integers(-3, 3))
def test_bsearch(u: Unit, values: list[int], wanted: int) -> None:
    values = sorted(values)
    array, key = u.array("int", values), u.array("int", [wanted])
    found = u.bsearch(key, array, len(values), 4, by_value("int"))
    at = bisect.bisect_left(values, wanted)
    if values[at : at + 1] == [wanted]:
        assert values[(int(found) - int(array)) // 4] == wanted
    else:
        assert found == None  # noqa: E711 - a pointer that is NULL


# Bits


@st.composite
def bits(draw: st.DrawFn, least: int = 1) -> tuple[int, int]:
    """(the bits as a number, how many there are)"""
    size = draw(st.integers(least, 200))
    number = draw(st.integers(0, 2**size - 1))
    if draw(st.booleans()):  # few of them
        number &= draw(st.integers(0, 2**size - 1)) & draw(st.integers(0, 2**size - 1))
    return number, size


def bitmap(u: Unit, number: int, size: int, beyond: int = 0) -> Array:
    """`beyond` is what lies in the last word behind the bitmap, where nobody may look."""
    number |= beyond << size
    words = -(-size // 64)
    return u.array("unsigned long", [number >> 64 * i & (1 << 64) - 1 for i in range(words)])


def read(array: Array, size: int) -> int:
    return int.from_bytes(array.bytes(), "little") & ((1 << size) - 1)


def ones(number: int) -> list[int]:
    return [at for at in range(number.bit_length()) if number >> at & 1]


@settings(max_examples=150, deadline=None)
@given(one=bits(), start=st.integers(0, 210), nth=st.integers(0, 20), beyond=WORD)
def test_find_bit(u: Unit, one: tuple[int, int], start: int, nth: int, beyond: int) -> None:
    number, size = one
    memory = bitmap(u, number, size, beyond)
    there = ones(number)
    absent = ones(~number & (1 << size) - 1)
    assert u._find_first_bit(memory, size) == min(there, default=size)
    assert u._find_first_zero_bit(memory, size) == min(absent, default=size)
    assert u._find_last_bit(memory, size) == max(there, default=size)
    after = [at for at in there if at >= start]
    assert u._find_next_bit(memory, size, start) == min(after, default=size)
    after = [at for at in absent if at >= start]
    assert u._find_next_zero_bit(memory, size, start) == min(after, default=size)
    found = u["__find_nth_bit"](memory, size, nth)
    # Without one the answer is the size, or more (7.x: "at least size").
    assert found == there[nth] if nth < len(there) else found >= size


@settings(max_examples=120, deadline=None)
@given(one=bits(), other=st.integers(0, 2**200 - 1), beyond=WORD, by=st.integers(0, 199))
def test_bitmap_arithmetic(u: Unit, one: tuple[int, int], other: int, beyond: int, by: int) -> None:
    a, size = one
    all_ones = (1 << size) - 1
    b, by = other & all_ones, by % size
    first, second = bitmap(u, a, size, beyond), bitmap(u, b, size, ~beyond & (1 << 64) - 1)
    to = bitmap(u, 0, size)
    expected = {
        "__bitmap_and": a & b,
        "__bitmap_or": a | b,
        "__bitmap_xor": a ^ b,
        "__bitmap_andnot": a & ~b,
    }
    for name, result in expected.items():
        told = u[name](to, first, second, size)
        assert read(to, size) == result
        assert told in (None, result != 0)
    assert u["__bitmap_equal"](first, second, size) == (a == b)
    assert u["__bitmap_subset"](first, second, size) == (a & ~b == 0)
    assert u["__bitmap_intersects"](first, second, size) == (a & b != 0)
    assert u["__bitmap_weight"](first, size) == a.bit_count()
    u["__bitmap_complement"](to, first, size)
    assert read(to, size) == ~a & all_ones
    u["__bitmap_shift_left"](to, first, by, size)
    assert read(to, size) == a << by & all_ones
    u["__bitmap_shift_right"](to, first, by, size)
    assert read(to, size) == a >> by


@settings(max_examples=80, deadline=None)
@given(one=bits(), data=st.data())
def test_bitmap_ranges(u: Unit, one: tuple[int, int], data: st.DataObject) -> None:
    number, size = one
    start = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(0, size - start))
    area = (1 << length) - 1 << start
    memory = bitmap(u, number, size)
    u["__bitmap_set"](memory, start, length)
    assert read(memory, size) == number | area
    u["__bitmap_clear"](memory, start, length)
    assert read(memory, size) == number & ~area
    wanted = max(1, length)
    found = u.bitmap_find_next_zero_area_off(memory, size, 0, wanted, 0, 0)
    text = f"{read(memory, size):0{size}b}"[::-1]
    assert found == text.find("0" * wanted) if "0" * wanted in text else found >= size


def as_list(number: int) -> str:
    """0-3,7: what /proc and /sys have for sets of CPUs."""
    runs = [
        [at for _, at in run] for _, run in groupby(enumerate(ones(number)), lambda p: p[1] - p[0])
    ]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def as_hex(number: int, size: int) -> str:
    """In groups of 32 bits, each with its leading zeros."""
    widths = [*([(size % 32 + 3) // 4] if size % 32 else []), *[8] * (size // 32)]
    digits = f"{number:0{sum(widths)}x}"
    groups = []
    for width in widths:
        groups.append(digits[:width])
        digits = digits[width:]
    return ",".join(groups)


@settings(max_examples=100, deadline=None)
@given(one=bits())
def test_bitmaps_as_text_and_back(u: Unit, one: tuple[int, int]) -> None:
    number, size = one
    memory, out, back = bitmap(u, number, size), u.buffer(2048), bitmap(u, 0, size)
    u.snprintf(out, 2048, "%*pbl", size, memory)
    text = out.cast("char").string()
    assert text == as_list(number)
    assert u.bitmap_parselist(text, back, size) == 0
    assert read(back, size) == number

    u.snprintf(out, 2048, "%*pb", size, memory)
    text = out.cast("char").string()
    assert text == as_hex(number, size)
    assert u.bitmap_parse(text, len(text), back, size) == 0
    assert read(back, size) == number


@settings(max_examples=100, deadline=None)
@given(
    regions=st.lists(
        st.tuples(st.integers(0, 90), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9)),
        max_size=6,
    ),
    size=st.integers(1, 130),
)
def test_bitmap_parselist_of_groups(
    u: Unit, regions: list[tuple[int, int, int, int]], size: int
) -> None:
    """`first-last:used/group`: of each group of bits the first ones."""
    texts, expected = [], 0
    for first, length, used, group in regions:
        used = min(used, group)
        texts.append(f"{first}-{first + length}:{used}/{group}")
        expected |= sum(1 << first + at for at in range(length + 1) if at % group < used)
    memory = bitmap(u, 0, size)
    result = u.bitmap_parselist(", ".join(texts), memory, size)
    if any(first + length >= size for first, length, _, _ in regions):
        assert result == -errno.ERANGE
    else:
        assert (result, read(memory, size)) == (0, expected)


@pytest.mark.parametrize("text", ["5-3", "1-", "-1", "a", "1-3:2", "1-3:3/2", "1-3:1/0", "1x"])
def test_bitmap_parselist_refuses(u: Unit, text: str) -> None:
    assert u.bitmap_parselist(text, bitmap(u, 0, 64), 64) == -errno.EINVAL


# Arithmetic


@settings(max_examples=150, deadline=None)
@given(a=WORD, b=WORD, common=st.integers(1, 2**20))
def test_gcd_and_lcm(u: Unit, a: int, b: int, common: int) -> None:
    for one, two in ((a, b), (a % 2**40 * common, b % 2**40 * common)):
        assert u.gcd(one, two) == math.gcd(one, two)
        exact = math.lcm(one, two)
        assert u.lcm(one, two) == exact % 2**64
        if exact < 2**64:
            assert u.lcm_not_zero(one, two) == (exact or two or one)


@settings(max_examples=150, deadline=None)
@given(number=WORD, root=st.integers(1, 2**32 - 1))
def test_int_sqrt(u: Unit, number: int, root: int) -> None:
    for one in (number, root**2, root**2 - 1):
        assert u.int_sqrt(one) == math.isqrt(one)


@settings(max_examples=200, deadline=None)
@given(dividend=st.integers(0, 2**32 - 1), divisor=st.integers(1, 2**32 - 1), low=st.booleans())
def test_reciprocals(u: Unit, dividend: int, divisor: int, low: bool) -> None:
    divisor = divisor % 5000 + 1 if low else divisor
    by = u.reciprocal_value(divisor)
    for number in (dividend, dividend // divisor * divisor, 2**32 - 1):
        high = number * by.m >> 32  # reciprocal_divide(), which is inline
        assert high + (number - high >> by.sh1) >> by.sh2 == number // divisor


# Hex


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80))
def test_hex(u: Unit, data: bytes) -> None:
    out = u.buffer(2 * len(data) + 1)
    end = u.bin2hex(out, data, len(data))
    assert int(end) - int(out) == 2 * len(data)
    assert out.cast("char").string() == data.hex()
    for text in (data.hex(), data.hex().upper()):
        back = u.buffer(len(data))
        assert u.hex2bin(back, text, len(data)) == 0
        assert back.bytes(len(data)) == data


@settings(max_examples=100, deadline=None)
@given(text=st.text("019afAFgG/:@`", min_size=2, max_size=8))
def test_hex_of_something_else(u: Unit, text: str) -> None:
    text = text[: len(text) & ~1]
    out = u.buffer(len(text) // 2)
    try:
        expected = bytes.fromhex(text)
    except ValueError:
        assert u.hex2bin(out, text, len(text) // 2) < 0
    else:
        assert u.hex2bin(out, text, len(text) // 2) == 0
        assert out.bytes(len(expected)) == expected


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=40),
    row=st.sampled_from([16, 32]),
    group=st.sampled_from([1, 2, 4, 8]),
    room=st.integers(1, 150),
    text=st.booleans(),
)
def test_hex_dump(u: Unit, data: bytes, row: int, group: int, room: int, text: bool) -> None:
    line = data[:row]
    size = group if len(line) % group == 0 else 1
    words = [line[at : at + size][::-1].hex() for at in range(0, len(line), size)]
    expected = " ".join(words)
    if text:
        column = row * 2 + row // size + 1
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        expected = expected.ljust(column) + letters
    out = u.buffer(room)
    assert u.hex_dump_to_buffer(data, len(data), row, group, out, room, text) == len(expected)
    if room > len(expected):
        assert out.cast("char").string() == expected
