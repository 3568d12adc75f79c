# SPDX-License-Identifier: GPL-2.0
"""Checksums: the Internet's against RFC 1071, CRCs against zlib, binascii and bit by bit."""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.unit import Unit

CRC32 = ["lib/crc32.c"], ["lib/crc/crc32-main.c"], ["lib/crc/crc32.c"]
CRC16 = ["lib/crc16.c"], ["lib/crc/crc16.c"]
CCITT = ["lib/crc-ccitt.c"], ["lib/crc/crc-ccitt.c"]
"""Where a kernel may have them: they moved to lib/crc/ with 6.15."""

DATA = st.binary(max_size=300)
WORDS = st.integers(0, 2**32 - 1)


# The Internet checksum


def rfc1071(data: bytes, start: int = 0) -> int:
    """The ones' complement sum of 16-bit words, the last one padded; in network byte order."""
    total: int = start + sum(
        struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def folded(wsum: int) -> int:
    """A __wsum, whose bytes lie in memory as those of packets do, as a number."""
    while wsum >> 16:
        wsum = (wsum & 0xFFFF) + (wsum >> 16)
    return swapped(wsum)


def swapped(half: int) -> int:
    return int.from_bytes(half.to_bytes(2, "little"), "big")


def same(one: int, two: int) -> bool:
    """Ones' complement has two zeros."""
    return one % 0xFFFF == two % 0xFFFF


@pytest.fixture
def net(unit: Callable[..., Unit]) -> Unit:
    return unit("lib/checksum.c")


@settings(max_examples=200, deadline=None)
@given(data=DATA, offset=st.integers(0, 7))
def test_internet_checksum_at_any_alignment(net: Unit, data: bytes, offset: int) -> None:
    # What lies around it must not count.
    start = int(net.buffer(b"\xff" * offset + data + b"\xff" * 8)) + offset
    assert same(folded(net.csum_partial(start, len(data), 0)), rfc1071(data))
    if hasattr(net, "ip_compute_csum"):
        assert same(swapped(net.ip_compute_csum(start, len(data))), ~rfc1071(data) & 0xFFFF)


@settings(max_examples=100, deadline=None)
@given(words=st.integers(5, 15), data=st.data())
def test_header_checksum(net: Unit, words: int, data: st.DataObject) -> None:
    if not hasattr(net, "ip_fast_csum"):
        pytest.skip("this architecture has its own, inline")
    header = data.draw(st.binary(min_size=4 * words, max_size=4 * words))
    zeroed = header[:10] + b"\0\0" + header[12:]
    checksum = net.ip_fast_csum(zeroed, words)
    # RFC 791: with the checksum in its field, the sum is all ones.
    complete = zeroed[:10] + checksum.to_bytes(2, "little") + zeroed[12:]
    assert rfc1071(complete) == 0xFFFF
    assert net.ip_fast_csum(complete, words) == 0


@settings(max_examples=120, deadline=None)
@given(parts=st.lists(DATA, min_size=1, max_size=6), last=DATA)
def test_internet_checksum_of_parts(net: Unit, parts: list[bytes], last: bytes) -> None:
    even = [part[: len(part) & ~1] for part in parts]
    total = 0
    for part in [*even, last]:
        total = net.csum_partial(part, len(part), total)
    assert same(folded(total), rfc1071(b"".join([*even, last])))


@settings(max_examples=120, deadline=None)
@given(data=st.binary(min_size=2, max_size=200), at=st.integers(0, 99), new=st.binary(min_size=2))
def test_incremental_update(net: Unit, data: bytes, at: int, new: bytes) -> None:
    """RFC 1624, equation 3: HC' = ~(~HC + ~m + m'), with the kernel's sums in it."""
    at = 2 * (at % (len(data) // 2))
    changed = data[:at] + new[:2] + data[at + 2 :]
    (old,) = struct.unpack("<H", data[at : at + 2])
    before = net.csum_partial(data, len(data), 0)
    without = net.csum_partial((~old & 0xFFFF).to_bytes(2, "little"), 2, before)
    after = net.csum_partial(new[:2], 2, without)
    assert same(folded(after), rfc1071(changed))


@settings(max_examples=100, deadline=None)
@given(
    source=st.ip_addresses(v=4),
    to=st.ip_addresses(v=4),
    size=st.integers(0, 65535),
    protocol=st.integers(0, 255),
    start=WORDS,
)
def test_pseudo_header(
    net: Unit, source: IPv4Address, to: IPv4Address, size: int, protocol: int, start: int
) -> None:
    if not hasattr(net, "csum_tcpudp_nofold"):
        pytest.skip("this architecture has its own, inline")
    words = [int.from_bytes(address.packed, "little") for address in (source, to)]
    total = net.csum_tcpudp_nofold(*words, size, protocol, start)
    header = source.packed + to.packed + struct.pack("!BBH", 0, protocol, size)  # RFC 9293, 3.1
    assert same(folded(total), rfc1071(header, folded(start)))


# CRCs


def reflected(data: bytes, polynomial: int, crc: int) -> int:
    """Bit by bit, the least significant bit first."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return crc


def straight(data: bytes, polynomial: int, crc: int, width: int) -> int:
    """Bit by bit, the most significant bit first."""
    for byte in data:
        crc ^= byte << (width - 8)
        for _ in range(8):
            crc = (crc << 1 ^ (polynomial if crc >> (width - 1) else 0)) & ((1 << width) - 1)
    return crc


ETHERNET, CASTAGNOLI = 0x04C11DB7, 0x1EDC6F41


def mirrored(polynomial: int) -> int:
    return int(f"{polynomial:032b}"[::-1], 2)


@pytest.fixture
def crc(first_unit: Callable[..., Unit]) -> Unit:
    return first_unit(*CRC32)


def function(unit: Unit, *names: str) -> Callable[..., int]:
    """The first of these that there is: names changed, too."""
    from anykernel.errors import UsageError

    for name in names:
        try:
            found: Callable[..., int] = unit[name]
        except UsageError:
            continue
        if callable(found):
            return found
    pytest.skip(f"this kernel has no {names[0]}()")


CRCS = {
    "ethernet": (("crc32_le", "crc32_le_base"), mirrored(ETHERNET)),
    "castagnoli": (("__crc32c_le", "crc32c", "crc32c_base"), mirrored(CASTAGNOLI)),
}


@settings(max_examples=100, deadline=None)
@given(data=DATA, start=WORDS, offset=st.integers(0, 7))
@pytest.mark.parametrize("name", CRCS)
def test_crc32(crc: Unit, name: str, data: bytes, start: int, offset: int) -> None:
    names, polynomial = CRCS[name]
    compute = function(crc, *names)
    memory = int(crc.buffer(b"\xff" * offset + data)) + offset
    assert compute(start, memory, len(data)) == reflected(data, polynomial, start)
    if name == "ethernet":
        flipped = compute(start ^ 0xFFFFFFFF, memory, len(data)) ^ 0xFFFFFFFF
        assert flipped == zlib.crc32(data, start) == binascii.crc32(data, start)


@settings(max_examples=100, deadline=None)
@given(data=DATA, start=WORDS)
def test_crc32_the_most_significant_bit_first(crc: Unit, data: bytes, start: int) -> None:
    compute = function(crc, "crc32_be", "crc32_be_base")
    assert compute(start, data, len(data)) == straight(data, ETHERNET, start, 32)


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(DATA, max_size=5), start=WORDS)
def test_crc32_of_parts(crc: Unit, parts: list[bytes], start: int) -> None:
    compute = function(crc, "crc32_le", "crc32_le_base")
    running = start
    for part in parts:
        running = compute(running, part, len(part))
    whole = b"".join(parts)
    assert running == compute(start, whole, len(whole))


@settings(max_examples=100, deadline=None)
@given(start=WORDS, size=st.integers(0, 400))
@pytest.mark.parametrize("name", CRCS)
def test_crc32_shift_appends_zeros(crc: Unit, name: str, start: int, size: int) -> None:
    names = {"ethernet": ("crc32_le_shift",), "castagnoli": ("__crc32c_le_shift", "crc32c_shift")}
    shift = function(crc, *names[name])
    assert shift(start, size) == reflected(bytes(size), CRCS[name][1], start)


@settings(max_examples=100, deadline=None)
@given(one=DATA, two=DATA)
@pytest.mark.parametrize("name", CRCS)
def test_crc32_of_a_whole_from_those_of_its_halves(
    crc: Unit, name: str, one: bytes, two: bytes
) -> None:
    """crc32_le_combine() and __crc32c_le_combine() are inline: a shift and an exclusive or."""
    names, polynomial = CRCS[name]
    compute = function(crc, *names)
    shift = function(
        crc, *{"ethernet": ("crc32_le_shift",), "castagnoli": ("__crc32c_le_shift",)}[name]
    )
    combined = shift(compute(0, one, len(one)), len(two)) ^ compute(0, two, len(two))
    assert combined == reflected(one + two, polynomial, 0)


@settings(max_examples=100, deadline=None)
@given(data=DATA, start=st.integers(0, 2**16 - 1))
@pytest.mark.parametrize(
    ("files", "name", "polynomial"),
    [
        pytest.param(CRC16, "crc16", 0xA001, id="crc16"),
        pytest.param(CCITT, "crc_ccitt", 0x8408, id="crc-ccitt"),
    ],
)
def test_crc16(
    first_unit: Callable[..., Unit],
    files: Sequence[list[str]],
    name: str,
    polynomial: int,
    data: bytes,
    start: int,
) -> None:
    compute = function(first_unit(*files), name)
    assert compute(start, data, len(data)) == reflected(data, polynomial, start)
