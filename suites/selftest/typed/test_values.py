# SPDX-License-Identifier: GPL-2.0
"""C values from Python: fields, bit fields, arrays, pointers, calls, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.unit import Unit

Load = Callable[..., Unit]
CUBIC = "net/ipv4/tcp_cubic.c"
TIME = "kernel/time/time.c"


@given(version=st.integers(0, 15), ihl=st.integers(0, 15), length=st.integers(0, 65535))
def test_fields_and_bit_fields(unit: Load, version: int, ihl: int, length: int) -> None:
    header = unit(CUBIC).new("struct iphdr", version=version, ihl=ihl, tot_len=length)
    raw = header.bytes()
    assert raw[0] == version << 4 | ihl
    assert struct.unpack("<H", raw[2:4]) == (length,)
    assert (header.version, header.ihl, header.tot_len) == (version, ihl, length)


def test_a_bit_field_leaves_its_neighbours_alone(unit: Load) -> None:
    header = unit(CUBIC).new("struct iphdr", version=4, ihl=5)
    header.ihl = 15
    assert header.version == 4
    with pytest.raises(UsageError, match="16 doesn't fit into 4 bits"):
        header.version = 16


def test_members_of_anonymous_structs_and_unions(unit: Load) -> None:
    cubic = unit(CUBIC)
    skb = cubic.new("struct sk_buff", len=3)
    skb.tstamp = 77  # in a union, which is in no struct of a name
    assert skb.tstamp == 77
    assert skb.len == 3
    with pytest.raises(AttributeError, match="struct sk_buff has no member 'lem'"):
        _ = skb.lem


def test_arrays(unit: Load) -> None:
    cubic = unit(CUBIC)
    skb = cubic.new("struct sk_buff")
    assert len(skb.cb) == 48
    skb.cb[47] = 3
    assert skb.cb[-1] == 3
    assert skb.cb[44:] == [0, 0, 0, 3]
    with pytest.raises(IndexError):
        skb.cb[48] = 1
    words = cubic.array("u32", [1, 2, 3])
    assert words == [1, 2, 3]
    assert words.bytes() == struct.pack("<3I", 1, 2, 3)


def test_strings_and_pointers(unit: Load) -> None:
    cubic = unit(CUBIC)
    assert cubic.cubictcp.name.string() == "cubic"
    text = cubic.string("grüße")
    assert text.string() == "grüße"
    device = cubic.new("struct sock")
    holder = cubic.new("struct sk_buff", sk=device)
    assert holder.sk == device
    assert holder.sk.__class__ is device.__class__
    assert not holder.dev
    with pytest.raises(UsageError, match="NULL is no struct net_device"):
        _ = holder.dev.mtu


def test_container_of(unit: Load) -> None:
    cubic = unit(CUBIC)
    sock = cubic.new("struct tcp_sock", snd_cwnd=7)
    inner = sock.inet_conn
    assert inner.container("struct tcp_sock", "inet_conn").snd_cwnd == 7


def test_a_value_that_does_not_fit(unit: Load) -> None:
    cubic = unit(CUBIC)
    with pytest.raises(UsageError, match=r"4294967296 doesn't fit into u32 \(4 bytes\)"):
        cubic.new("struct bictcp", cnt=1 << 32)
    with pytest.raises(UsageError, match=r"u32 cubic_root\(u64 a\): a: .*doesn't fit"):
        cubic.cubic_root(1 << 65)
    with pytest.raises(UsageError, match="called with 2 arguments"):
        cubic.cubic_root(1, 2)


def test_unknown_types_and_names(unit: Load) -> None:
    cubic = unit(CUBIC)
    with pytest.raises(UsageError, match="there is no type 'struct bictpc'"):
        cubic.new("struct bictpc")
    with pytest.raises(AttributeError, match="did you mean cubic_root"):
        _ = cubic.cubic_rot
    with pytest.raises(UsageError, match="no enumerator 'TCP_ESTABLISHD'"):
        cubic.constant("TCP_ESTABLISHD")
    assert cubic.constant("TCP_ESTABLISHED") == 1


seconds = st.integers(0, 1 << 30)
nanoseconds = st.integers(0, 999_999_999)


@given(seconds, nanoseconds, seconds, nanoseconds)
def test_structs_by_value(unit: Load, s: int, ns: int, more: int, more_ns: int) -> None:
    """Two arguments of 16 bytes each in four registers, and a result in two."""
    time = unit(TIME)
    first = time.new("struct timespec64", tv_sec=s, tv_nsec=ns)
    second = time.new("struct timespec64", tv_sec=more, tv_nsec=more_ns)
    total = time.timespec64_add_safe(first, second)
    carry, rest = divmod(ns + more_ns, 1_000_000_000)
    assert (total.tv_sec, total.tv_nsec) == (s + more + carry, rest)


@given(st.integers(-(1 << 62), 1 << 62))
def test_a_struct_that_is_returned(unit: Load, ns: int) -> None:
    made = unit(TIME).ns_to_timespec64(ns)
    assert made.tv_sec * 1_000_000_000 + made.tv_nsec == ns
    assert 0 <= made.tv_nsec < 1_000_000_000


def test_more_arguments_than_registers(unit: Load) -> None:
    text = unit("lib/vsprintf.c", with_=["lib/hexdump.c"])
    room = text.buffer(100)
    got = text.snprintf(room, 100, "%d %d %d %d %d %d %s", 1, 2, 3, 4, 5, -6, "seven")
    assert room.cast("char").string() == "1 2 3 4 5 -6 seven"
    assert got == len("1 2 3 4 5 -6 seven")
    with pytest.raises(UsageError, match="12 words of arguments at most"):
        text.snprintf(room, 100, "", *range(10))


def test_error_pointers(unit: Load) -> None:
    cubic = unit(CUBIC)
    error: Any = cubic.at((1 << 64) - 12, "struct sock")
    assert error.errno == 12
    assert "ENOMEM" in repr(error)
    with pytest.raises(UsageError, match="no struct sock but an error"):
        _ = error.sk_type
    assert cubic.new("struct sock").errno == 0


def test_functions_of_a_booted_kernel(kernel: Kernel) -> None:
    assert kernel.inside.int_sqrt(1_000_000) == 1000
    assert kernel.inside.linux_banner.string().startswith(f"Linux version {kernel.release}")
    assert kernel.inside.constant("TCP_LISTEN") == 10
    with pytest.raises(UsageError, match="only units can call Python"):
        kernel.inside["sort"](None, 0, 4, lambda a, b: 0, None)
    with pytest.raises(UsageError, match="Bad address"):
        kernel.inside.at(0x1000, "int").value
