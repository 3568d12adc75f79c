# SPDX-License-Identifier: GPL-2.0
"""Packet captures on disk: writes pcap with nanoseconds, reads any pcap, trusts none."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from anykernel.errors import UsageError

ETHERNET = 1
"""Link type of Ethernet frames."""
NANO, MICRO = 0xA1B23C4D, 0xA1B2C3D4
PCAPNG = 0x0A0D0D0A
LONGEST = 1 << 18
"""More bytes than any record of a sound file has; readers of the world have the same limit."""
FILE_HEADER, RECORD_HEADER = 24, 16


class Timed(Protocol):
    """What can be written: a captured frame, or a record that was read."""

    @property
    def time_ns(self) -> int: ...
    @property
    def data(self) -> bytes: ...


class Record(NamedTuple):
    """A packet from a file; length: of the packet on the wire, of which data may be the start."""

    time_ns: int
    data: bytes
    length: int


def write_pcap(
    path: str | os.PathLike[str], frames: Iterable[Timed], *, linktype: int = ETHERNET
) -> int:
    """Writes frames (.time_ns, .data) to a new file and returns their number.

    Raises OSError when the file can't be written.
    """
    count = 0
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", NANO, 2, 4, 0, 0, LONGEST, linktype))
        for frame in frames:
            seconds, nanoseconds = divmod(frame.time_ns, 10**9)
            size = len(frame.data)
            file.write(struct.pack("<IIII", seconds, nanoseconds, size, size))
            file.write(frame.data)
            count += 1
    return count


def read_pcap(path: str | os.PathLike[str]) -> list[Record]:
    """The packets of a pcap file: little or big-endian, micro- or nanoseconds.

    Raises UsageError, which names the place, for a file that is not a sound pcap; OSError when it
    can't be read.
    """
    with open(path, "rb") as file:
        return list(_records(Path(path), file))


def _records(path: Path, file: IO[bytes]) -> Iterator[Record]:
    order, scale = _format(path, file.read(FILE_HEADER))
    at = FILE_HEADER
    while header := file.read(RECORD_HEADER):
        if len(header) < RECORD_HEADER:
            raise _broken(path, at, f"{len(header)} bytes, where a record header has 16")
        seconds, fraction, size, length = struct.unpack(f"{order}IIII", header)
        if size > LONGEST:
            raise _broken(path, at, f"a record says that it is {size} bytes long")
        if fraction * scale >= 10**9:
            raise _broken(path, at, f"a time has {fraction} as its fraction of a second")
        data = file.read(size)
        if len(data) < size:
            raise _broken(path, at, f"the file ends {size - len(data)} bytes before its record")
        yield Record(seconds * 10**9 + fraction * scale, data, length)
        at += RECORD_HEADER + size


def _format(path: Path, header: bytes) -> tuple[str, int]:
    """Byte order for struct, and nanoseconds per unit of the fraction."""
    if len(header) < FILE_HEADER:
        raise _broken(path, 0, f"{len(header)} bytes are less than the header of a pcap file")
    for order in ("<", ">"):
        magic, major, _ = struct.unpack_from(f"{order}IHH", header)
        if magic in (NANO, MICRO):
            if major != 2:
                raise _broken(path, 4, f"version {major}, only 2 is known")
            return order, 1 if magic == NANO else 1000
        if magic == PCAPNG:
            raise UsageError(
                f"{path} is a pcapng file, not pcap; convert it: editcap -F nsecpcap IN OUT"
            )
    raise _broken(path, 0, f"it begins with {header[:4].hex(' ')}, which no pcap file does")


def _broken(path: Path, at: int, what: str) -> UsageError:
    return UsageError(f"{path} is not a sound pcap file, at byte {at}: {what}")
