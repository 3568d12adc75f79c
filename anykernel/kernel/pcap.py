# SPDX-License-Identifier: GPL-2.0
"""Packet capture files (pcap, nanoseconds): written for people's tools, read with suspicion."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from anykernel.errors import UsageError

MAGIC_NS, MAGIC_US = 0xA1B23C4D, 0xA1B2C3D4
SNAPLEN = 262144
ETHERNET, RAW = 1, 101
"""Link types: RAW is IP packets (LINKTYPE_RAW)."""


class TimedFrame(Protocol):
    """What is written."""

    @property
    def time_ns(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class Packet(NamedTuple):
    """A packet of a file: ns since the file's epoch, bytes, length on the wire."""

    time_ns: int
    data: bytes
    length: int


class Writer:
    """Writes frames of a link type, Ethernet's if not said, to a binary stream, which stays the
    caller's."""

    def __init__(self, stream: BinaryIO, link: int = ETHERNET) -> None:
        self._stream = stream
        stream.write(struct.pack("<IHHiIII", MAGIC_NS, 2, 4, 0, 0, SNAPLEN, link))

    def write(self, time_ns: int, data: bytes) -> None:
        """Appends one frame, cut at 262,144 bytes."""
        cut = data[:SNAPLEN]
        seconds, ns = divmod(time_ns, 10**9)
        self._stream.write(struct.pack("<IIII", seconds, ns, len(cut), len(data)) + cut)


def write_pcap(path: str | Path, frames: Iterable[TimedFrame], link: int = ETHERNET) -> None:
    """Writes a whole file."""
    with open(path, "wb") as stream:
        writer = Writer(stream, link)
        for frame in frames:
            writer.write(frame.time_ns, frame.data)


def read_pcap(path: str | Path) -> list[Packet]:
    """The packets of a file of Ethernet frames, of any byte order and either resolution.

    Raises UsageError, which says where and what, for everything else: lengths are checked before
    memory is allocated for them.
    """
    try:
        with open(path, "rb") as stream:
            return list(_packets(Path(path), stream))
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from error


def _packets(path: Path, stream: BinaryIO) -> Iterator[Packet]:
    head = stream.read(24)
    if len(head) < 24:
        raise UsageError(f"{path} is not a pcap file: it has only {len(head)} of 24 header bytes")
    for order in "<>":
        magic, major, _, _, _, _, link = struct.unpack(order + "IHHiIII", head)
        if magic in (MAGIC_NS, MAGIC_US):
            break
    else:
        if head[:4] == b"\x0a\x0d\x0d\x0a":
            raise UsageError(f"{path} is a pcapng file: convert it with `editcap -F pcap`")
        raise UsageError(f"{path} is not a pcap file: it begins with {head[:4].hex()}")
    if major != 2:
        raise UsageError(f"{path} is of pcap version {major}, not 2")
    if link & 0x0FFFFFFF != ETHERNET:
        raise UsageError(f"{path} has packets of link type {link}, not Ethernet (1)")
    unit = 1 if magic == MAGIC_NS else 1000
    record = struct.Struct(order + "IIII")
    while head := stream.read(16):
        where = stream.tell() - len(head)
        if len(head) < 16:
            raise UsageError(f"{path} is cut off in the packet header at byte {where}")
        seconds, fraction, kept, length = record.unpack(head)
        if kept > SNAPLEN or kept > length:
            raise UsageError(
                f"{path} is damaged: the packet at byte {where} says it has {kept} bytes "
                f"(of {length})"
            )
        data = stream.read(kept)
        if len(data) < kept:
            raise UsageError(f"{path} is cut off in the packet at byte {where}")
        yield Packet(seconds * 10**9 + fraction * unit, data, length)
