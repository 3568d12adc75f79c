# SPDX-License-Identifier: GPL-2.0
"""Frames in the memory that is shared with the host: given, answered, captured."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from anykernel.errors import UsageError

LONGEST = 65_535
"""Bytes of a frame."""
MOST = 4096
"""Frames of one batch."""
U32 = struct.Struct("<I")
HEAD = struct.Struct("<QIIII")
"""struct hk_frame."""
SKIP = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that passed a netdev; rx is towards the kernel."""

    number: int
    """Position in the kernel's whole stream: grows with time, not by one."""
    time_ns: int
    dev: int
    direction: Literal["rx", "tx"]
    data: bytes


class Record(NamedTuple):
    """A record of a capture ring: struct hk_frame, which says what the fields mean."""

    position: int
    time_ns: int
    length: int
    port: int
    what: int
    data: bytes


def records(ring: memoryview, at: int, head: int) -> Iterator[Record]:
    """Those from position `at` on to `head`; both count all bytes that were ever written."""
    size = len(ring)
    while at < head:
        offset = at % size
        if size - offset < HEAD.size:
            at += size - offset
            continue
        time_ns, kept, length, port, what = HEAD.unpack_from(ring, offset)
        if kept == SKIP:
            at += size - offset
            continue
        start = offset + HEAD.size
        yield Record(at, time_ns, length, port, what, bytes(ring[start : start + kept]))
        at += HEAD.size + (kept + 7 & ~7)


def batches(area: memoryview, frames: Sequence[bytes]) -> Iterator[int]:
    """Writes frames at the beginning of `area`; yields how many, each time that no more fit.

    Half of it is left, so that the answers' area, of the same size, has room.  Raises UsageError
    for a frame of impossible length.
    """
    room = len(area) // 4
    at = count = 0
    for frame in frames:
        length = len(frame)
        if not 0 < length <= LONGEST:
            raise UsageError(f"a frame of {length} bytes: from 1 to {LONGEST} can be sent")
        if at + length + 8 > room or count == MOST:
            yield count
            at = count = 0
        area[at : at + 4 + length] = U32.pack(length) + frame
        at += 4 + (length + 3 & ~3)
        count += 1
    if count:
        yield count


def answers(out: memoryview, count: int) -> Iterator[list[bytes]]:
    """For each of `count` frames, those that were sent in answer."""
    unpack = U32.unpack_from
    at = 0
    for _ in range(count):
        (n,) = unpack(out, at)
        at += 4
        sent = []
        for _ in range(n):
            (length,) = unpack(out, at)
            at += 4
            sent.append(bytes(out[at : at + length]))
            at += length + 3 & ~3
        yield sent
