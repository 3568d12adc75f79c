# SPDX-License-Identifier: GPL-2.0
"""Capture files: what we write others read, and no file makes the reader do anything but refuse."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.kernel.pcap import read_pcap, write_pcap


class Frame(NamedTuple):
    time_ns: int
    data: bytes


FRAMES = [Frame(1, b"a" * 60), Frame(1_500_000_000, b"b" * 1514), Frame(2**31 * 10**9, b"c")]


def header(order: str = "<", magic: int = 0xA1B23C4D, major: int = 2, link: int = 1) -> bytes:
    return struct.pack(f"{order}IHHiIII", magic, major, 4, 0, 0, 65535, link)


def record(order: str, seconds: int, fraction: int, data: bytes) -> bytes:
    return struct.pack(f"{order}IIII", seconds, fraction, len(data), len(data)) + data


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "capture.pcap"


def test_what_was_written_is_read(file: Path) -> None:
    write_pcap(file, FRAMES)
    found = read_pcap(file)
    assert [(packet.time_ns, packet.data) for packet in found] == FRAMES
    assert [packet.length for packet in found] == [60, 1514, 1]


def test_scapy_reads_what_was_written(file: Path) -> None:
    from scapy.utils import RawPcapReader

    write_pcap(file, FRAMES[:2])
    with RawPcapReader(str(file)) as reader:
        assert reader.nano
        assert reader.linktype == 1
        assert [(info.sec, info.usec, data) for data, info in reader] == [
            (0, 1, FRAMES[0].data),
            (1, 500_000_000, FRAMES[1].data),
        ]


def test_a_capture_of_nothing(file: Path) -> None:
    write_pcap(file, [])
    assert read_pcap(file) == []


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B23C4D, 1), (0xA1B2C3D4, 1000)])
def test_both_byte_orders_and_resolutions(file: Path, order: str, magic: int, unit: int) -> None:
    file.write_bytes(header(order, magic) + record(order, 3, 7, b"frame"))
    (packet,) = read_pcap(file)
    assert (packet.time_ns, packet.data) == (3 * 10**9 + 7 * unit, b"frame")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "only 0 of 24"),
        (header()[:23], "only 23 of 24"),
        (b"\x7fELF" + bytes(60), "begins with 7f454c46"),
        (b"\x0a\x0d\x0d\x0a" + bytes(60), "pcapng"),
        (header(major=3), "version 3"),
        (header(link=113), "link type 113"),
        (header() + b"\0" * 15, "cut off"),
        (header() + struct.pack("<IIII", 0, 0, 100, 100) + b"x" * 99, "cut off"),
        (header() + struct.pack("<IIII", 0, 0, 2**32 - 1, 2**32 - 1), "damaged"),
        (header() + struct.pack("<IIII", 0, 0, 60, 59) + b"x" * 60, "damaged"),
        (header() + record("<", 0, 0, b"fine") + struct.pack("<IIII", 0, 0, 1 << 20, 1 << 20),
         "byte 44"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_by_name_and_place(
    file: Path, content: bytes, complaint: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(UsageError, match=complaint) as raised:
        read_pcap(file)
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_pcap(file)


def test_a_lying_length_takes_no_memory(file: Path) -> None:
    import tracemalloc

    file.write_bytes(header() + struct.pack("<IIII", 0, 0, 0xFFFF_FFF0, 0xFFFF_FFF0) + b"x" * 100)
    tracemalloc.start()
    with pytest.raises(UsageError):
        read_pcap(file)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@given(content=st.binary(max_size=200), head=st.sampled_from([b"", header(), header(">")]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, head: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.pcap"
    file.write_bytes(head + content)
    with contextlib.suppress(UsageError):
        read_pcap(file)
