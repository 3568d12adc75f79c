# SPDX-License-Identifier: GPL-2.0
"""Numbers to text and back, lib/vsprintf.c and lib/kstrtox.c: against Python's own."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.unit import Unit

HELPERS = ["lib/hexdump.c", "lib/find_bit.c", "lib/string_helpers.c"]
PARSERS = {
    "kstrtou8": ("unsigned char", 0, 2**8),
    "kstrtos8": ("signed char", -(2**7), 2**7),
    "kstrtou16": ("unsigned short", 0, 2**16),
    "kstrtos16": ("short", -(2**15), 2**15),
    "kstrtouint": ("unsigned int", 0, 2**32),
    "kstrtoint": ("int", -(2**31), 2**31),
    "kstrtoull": ("unsigned long long", 0, 2**64),
    "kstrtoll": ("long long", -(2**63), 2**63),
}
"""Name to the type of the result, and its range."""
BITS = (7, 8, 15, 16, 31, 32, 63, 64, 65)
EDGES = [n for bits in BITS for n in (2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1)]

NUMBERS = st.sampled_from(EDGES) | st.integers(-(2**66), 2**66) | st.integers(-300, 300)


@pytest.fixture
def u(unit: Callable[..., Unit]) -> Unit:
    return unit("lib/vsprintf.c", "lib/kstrtox.c", with_=HELPERS)


def spelled(number: int, base: int, plus: bool, upper: bool) -> str:
    """A number as strtol(3) reads it with base 0, or with its own."""
    digits = {8: f"0{abs(number):o}", 10: f"{abs(number)}", 16: f"0x{abs(number):x}"}[base]
    sign = "-" if number < 0 else "+" if plus else ""
    return sign + (digits.upper() if upper else digits)


def meaning(text: str, base: int, low: int, high: int) -> int | str:
    """The rules of kstrto*() in include/linux/kstrtox.h, with Python's int() for the digits: the
    number, or the error's name."""
    found = re.fullmatch(r"([+-]?)(.*?)\n?", text, re.DOTALL)
    assert found
    sign, rest = found.groups()
    if sign == "-" and low == 0:
        return "EINVAL"
    if base == 0:
        base = 16 if re.match("0[xX][0-9a-fA-F]", rest) else 8 if rest[:1] == "0" else 10
    if base == 16:
        rest = re.sub("^0[xX]", "", rest)
    possible = "0123456789abcdef"[:base]
    digits = re.match(f"[{possible}]*", rest, re.IGNORECASE)
    assert digits
    if not digits[0]:
        return "EINVAL"
    if int(digits[0], base) >= 2**64:
        return "ERANGE"  # before it looks at what follows
    if digits[0] != rest:
        return "EINVAL"
    number = int(sign + digits[0], base)
    return number if low <= number < high else "ERANGE"


def parse(u: Unit, name: str, text: str, base: int) -> int | str:
    kind, _, _ = PARSERS[name]
    out = u.new(kind)
    untouched = 85
    out.value = untouched
    error = getattr(u, name)(text, base, out)
    if not error:
        return int(out.value)
    assert out.value == untouched, "an error must leave the result alone"
    return errno.errorcode[-error]


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, deadline=None)
@given(number=NUMBERS, base=st.sampled_from([8, 10, 16]), data=st.data())
def test_numbers_are_read_as_they_are_written(
    u: Unit, name: str, number: int, base: int, data: st.DataObject
) -> None:
    text = spelled(number, base, data.draw(st.booleans()), data.draw(st.booleans()))
    text += data.draw(st.sampled_from(["", "\n"]))
    asked = data.draw(st.sampled_from([0, base]))
    assert parse(u, name, text, asked) == meaning(text, asked, *PARSERS[name][1:])


@pytest.mark.parametrize("name", ["kstrtoint", "kstrtoull"])
@settings(max_examples=150, deadline=None)
@given(text=st.text("01789aAfFxX+- \n", max_size=8), base=st.sampled_from([0, 2, 8, 10, 16]))
@example(text="0x", base=0)
@example(text="0x", base=16)
@example(text="1\n\n", base=10)
@example(text="-+1", base=10)
@example(text="18446744073709551616x", base=10)
@example(text="-0", base=0)
def test_nothing_else_is_a_number(u: Unit, name: str, text: str, base: int) -> None:
    assert parse(u, name, text, base) == meaning(text, base, *PARSERS[name][1:])


@settings(max_examples=60, deadline=None)
@given(text=st.text("yYnN10oOfFx\n", max_size=4))
@example(text="on")
@example(text="OFF")
def test_kstrtobool_looks_at_the_first_letters(u: Unit, text: str) -> None:
    out = u.new("bool")
    error = u.kstrtobool(text, out)
    first, two = text[:1].lower(), text[:2].lower()
    if first in ("y", "1") or two == "on":
        assert (error, out.value) == (0, True)
    elif first in ("n", "0") or two == "of":
        assert (error, out.value) == (0, False)
    elif first != "f":  # since 6.5 it is "false" (kstrtox: consider "t" and "f")
        assert (error, out.value) == (-errno.EINVAL, False)


# snprintf()


def printed(u: Unit, form: str, *args: Any, room: int = 512) -> str:
    """What snprintf() makes of it; its result is the length, its end a NUL."""
    out = u.buffer(room)
    length = u.snprintf(out, room, form, *args)
    text: str = out.cast("char").string()
    assert length == len(text.encode())
    return text


FLAGS = st.sampled_from(["", "-", "0", "+", " "])
WIDTHS = st.sampled_from(["", "1", "5", "12", "25"])


@settings(max_examples=250, deadline=None)
@given(flag=FLAGS, width=WIDTHS, kind=st.sampled_from(["d", "u", "x", "X", "o"]), data=st.data())
def test_integers_as_python_prints_them(
    u: Unit, flag: str, width: str, kind: str, data: st.DataObject
) -> None:
    size = data.draw(st.sampled_from([("hh", 8), ("h", 16), ("", 32), ("l", 64), ("ll", 64)]))
    modifier, bits = size
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind == "d" else (0, 2**bits)
    number = data.draw(st.integers(low, high - 1) | st.sampled_from([low, high - 1, 0]))
    if kind != "d" and flag in ("+", " "):
        flag = ""  # they are for signed ones; C says no more about others
    special = data.draw(st.sampled_from(["", "#"])) if kind in ("x", "X") else ""
    form = f"%{flag}{special}{width}"
    expected = f"{form}{kind}" % number
    assert printed(u, f"{form}{modifier}{kind}", number) == expected


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 2**64 - 1) | st.integers(0, 9))
def test_octal_prefix(u: Unit, number: int) -> None:
    assert printed(u, "%#llo", number) == (f"0{number:o}" if number else "0")


@settings(max_examples=100, deadline=None)
@given(
    number=st.integers(-(2**31), 2**31 - 1), width=st.integers(-20, 20), digits=st.integers(0, 15)
)
def test_width_and_precision_as_arguments(u: Unit, number: int, width: int, digits: int) -> None:
    form = "%*.*d"
    assert printed(u, form, width, digits, number) == form % (width, digits, number)


TEXTS = st.text(st.characters(min_codepoint=1, max_codepoint=126), max_size=40)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, letter=st.integers(33, 126), flag=st.sampled_from(["", "-"]), data=st.data())
def test_strings_as_python_prints_them(
    u: Unit, text: str, letter: int, flag: str, data: st.DataObject
) -> None:
    width = data.draw(WIDTHS)
    precision = data.draw(st.sampled_from(["", ".0", ".3", ".30"]))
    form = f"<%{flag}{width}{precision}s|%{flag}{width}c%%>"
    assert printed(u, form, text, letter) == form % (text, chr(letter))


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, number=st.integers(-(2**31), 2**31 - 1), room=st.integers(0, 60))
def test_too_small_a_buffer_gets_the_begin(u: Unit, text: str, number: int, room: int) -> None:
    whole = f"{text}={number}"
    out = u.buffer(b"\xee" * 128)
    # What it would have needed; scnprintf(): what it wrote.
    assert u.snprintf(out, room, "%s=%d", text, number) == len(whole)
    cut = whole[: room - 1].encode() + b"\0" if room else b""
    assert out.bytes(128) == cut.ljust(128, b"\xee")
    assert u.scnprintf(out, room, "%s=%d", text, number) == max(0, min(len(whole), room - 1))


@settings(max_examples=80, deadline=None)
@given(address=st.ip_addresses(v=4))
def test_ipv4_addresses(u: Unit, address: IPv4Address) -> None:
    padded = ".".join(f"{byte:03}" for byte in address.packed)
    backwards = str(IPv4Address(address.packed[::-1]))
    made = printed(u, "%pI4 %pi4 %pI4l", *[address.packed] * 3)
    assert made == f"{address} {padded} {backwards}"


def rfc5952(address: IPv6Address) -> str:
    """With the last four bytes as IPv4's where these are such: mapped ones and ISATAP's."""
    v4 = IPv4Address(address.packed[12:])
    if address.packed[:12] == bytes(10) + b"\xff\xff":
        return f"::ffff:{v4}"
    if address.packed[8:12] in (b"\0\0\x5e\xfe", b"\2\0\x5e\xfe"):
        text = IPv6Address(address.packed[:12] + b"\xff" * 4).compressed
        return text.removesuffix("ffff:ffff") + str(v4)
    return address.compressed


ADDRESSES6 = (
    st.ip_addresses(v=6)
    | st.lists(st.sampled_from([0, 0, 1, 0xFF00, 0xFFFF]), min_size=8, max_size=8).map(
        lambda groups: IPv6Address(b"".join(group.to_bytes(2, "big") for group in groups))
    )
    | st.binary(min_size=4, max_size=4).map(lambda v4: IPv6Address(b"\0" * 10 + b"\xff" * 2 + v4))
    | st.binary(min_size=4, max_size=4).map(
        lambda v4: IPv6Address(bytes.fromhex("20010db8000000000000 5efe") + v4)
    )
)


@settings(max_examples=150, deadline=None)
@given(address=ADDRESSES6)
@example(address=IPv6Address("::"))
@example(address=IPv6Address("1:0:2:0:0:3:0:0"))
@example(address=IPv6Address("1:2:3:0:5:6:7:8"))
def test_ipv6_addresses(u: Unit, address: IPv6Address) -> None:
    assert printed(u, "%pI6", address.packed) == address.exploded
    assert printed(u, "%pi6", address.packed) == address.packed.hex()
    assert printed(u, "%pI6c", address.packed) == rfc5952(address)


@settings(max_examples=80, deadline=None)
@given(data=st.binary(min_size=1, max_size=64), mac=st.binary(min_size=6, max_size=6))
def test_bytes_in_hex(u: Unit, data: bytes, mac: bytes) -> None:
    for separator, form in ((" ", "%*ph"), (":", "%*phC"), ("-", "%*phD"), ("", "%*phN")):
        expected = data.hex(separator) if separator else data.hex()
        assert printed(u, form, len(data), data) == expected
    assert printed(u, "%pM %pm %pMR", mac, mac, mac) == (
        f"{mac.hex(':')} {mac.hex()} {mac[::-1].hex(':')}"
    )


@settings(max_examples=100, deadline=None)
@given(
    signed=st.integers(-(2**63), 2**63 - 1),
    unsigned=st.integers(0, 2**32 - 1),
    word=st.text("abcdefgh", min_size=1, max_size=10),
)
def test_sscanf_reads_what_snprintf_wrote(u: Unit, signed: int, unsigned: int, word: str) -> None:
    text = printed(u, "%lld:%x %s", signed, unsigned, word)
    one, two = u.new("long long"), u.new("unsigned int")
    three = u.buffer(32)
    assert u.sscanf(text, "%lld:%x %31s", one, two, three) == 3
    assert (one.value, two.value) == (signed, unsigned)
    assert three.cast("char").string() == word
