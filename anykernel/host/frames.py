# SPDX-License-Identifier: GPL-2.0
"""Frames in the memory that is shared with the host: given, answered, captured; none of it is
believed unless it can be."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from anykernel.errors import BorderError, UsageError

LONGEST = 65_557
"""Bytes of a frame (HK_LONGEST): of an MTU of 65,535 bytes, with the header and two VLAN tags."""
MOST = 4096
"""Frames of one batch."""
U32 = struct.Struct("<I")
HEAD = struct.Struct("<QIIII")
"""struct hk_frame."""
PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
"""By the lowest bits of a length."""
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


Lie = Callable[[str, object, str], BorderError]
"""Gives the error for (field, its value, what it should be), and ends the host."""


class Ring:
    """A ring of struct hk_frame that a host writes: what it holds lies between two positions,
    which count all bytes that were ever written.

    `owner` has them, as NAME_head and NAME_tail, and NAME_taken, which the client sets.  Records
    are of a port below `ports` and of one of `kinds`.  What can't be is an error.
    """

    def __init__(
        self,
        where: str,
        view: memoryview,
        owner: Any,
        name: str,
        ports: int,
        kinds: frozenset[int],
        lie: Lie,
    ) -> None:
        self._where = f"{where}.{name}"
        self._view = view
        self.size = len(view)
        self._owner = owner
        self._names = f"{name}_head", f"{name}_tail", f"{name}_taken"
        self._ports = ports
        self._kinds = kinds
        self._lie = lie
        self._seen = 0

    def ends(self) -> tuple[int, int]:
        """The positions of the oldest record that is whole, and behind the newest."""
        tail, head = int(getattr(self._owner, self._names[1])), self.head
        if not 0 <= head - tail <= self.size:
            should = f"within {self.size} bytes before {head}, where it ends"
            raise self._lie(f"{self._where}_tail", tail, should)
        return tail, head

    @property
    def head(self) -> int:
        """Bytes that were ever written; it never goes back."""
        head = int(getattr(self._owner, self._names[0]))
        if not self.goes_to(head):
            raise self._lie(f"{self._where}_head", head, f"at least {self._seen}, as it was before")
        return head

    def goes_to(self, head: int) -> bool:
        """Notes its head; False where it can't be that."""
        if not self._seen <= head < 1 << 62:
            return False
        self._seen = head
        return True

    def whole_from(self, position: int) -> None:
        """Raises BorderError when what lies behind `position`, for which the host was to wait, has
        been overwritten."""
        tail = self.ends()[0]
        if tail > position:
            should = f"at most {position}: frames were lost that somebody wanted"
            raise self._lie(f"{self._where}_tail", tail, should)

    def take(self, position: int) -> None:
        """Tells the host that all before `position` has been read."""
        setattr(self._owner, self._names[2], position)

    def records(self, at: int, to: int | None = None) -> Iterator[Record]:
        """Those from position `at` on, or from the oldest if that is later; before `to`."""
        tail, head = self.ends()
        view, size = self._view, self.size
        head = head if to is None else min(to, head)
        at = max(at, tail)
        while at < head:
            offset = at % size
            if size - offset < HEAD.size:
                at += size - offset
                continue
            time_ns, kept, length, port, kind = HEAD.unpack_from(view, offset)
            if kept == SKIP:
                at += size - offset
                continue
            start = offset + HEAD.size
            if start + kept > size or at + HEAD.size + kept > head:
                should = "bytes of a frame that the ring holds"
                raise self._lie(f"{self._where}: a frame's kept", kept, should)
            if time_ns >> 62 or length < kept or port >= self._ports or kind not in self._kinds:
                values = f"time {time_ns}, {kept} of {length} bytes, port {port}, what {kind}"
                raise self._lie(f"{self._where}: a frame", values, "what the host writes")
            yield Record(at, time_ns, length, port, kind, bytes(view[start : start + kept]))
            at += HEAD.size + (kept + 7 & ~7)


def batches(area: memoryview, frames: Sequence[bytes]) -> Iterator[int]:
    """Writes frames at the beginning of `area`; yields how many, each time that no more fit.

    Half of it is left, so that the answers' area, of the same size, has room.  Raises UsageError
    for a frame of impossible length.
    """
    if len(frames) == 1:  # as nearly always: it needs no list
        length = _length(frames[0])
        area[: 4 + length] = U32.pack(length) + frames[0]
        yield 1
        return
    room = len(area) // 4
    parts: list[bytes] = []
    at = count = 0
    for frame in frames:
        length = _length(frame)
        if at + length + 8 > room or count == MOST:
            area[:at] = b"".join(parts)
            yield count
            parts.clear()
            at = count = 0
        parts.append(U32.pack(length) + frame + PADDING[length & 3])
        at += 4 + (length + 3 & ~3)
        count += 1
    if count:
        area[:at] = b"".join(parts)
        yield count


def _length(frame: bytes) -> int:
    length = len(frame)
    if not 0 < length <= LONGEST:
        raise UsageError(f"a frame of {length} bytes: from 1 to {LONGEST} can be sent")
    return length


def answers(out: memoryview, count: int, size: int, lie: Lie) -> list[list[bytes]]:
    """For each of `count` frames, those that were sent in answer: `size` bytes of the area."""
    if not 0 <= size <= len(out) or size & 3:
        raise lie("frames out", f"{size} bytes", f"at most {len(out)} bytes, in whole words")
    data = bytes(out[:size])
    words = memoryview(data).cast("I")
    found = []
    at = 0  # words
    try:
        for _ in range(count):
            number = words[at]
            at += 1
            sent = []
            while number:
                length = words[at]
                begin = 4 * at + 4
                sent.append(data[begin : begin + length])
                at += length + 7 >> 2
                number -= 1
            found.append(sent)
    except IndexError:
        at = -1  # behind the end
    if 4 * at != size:
        raise lie("frames out", f"{size} bytes", "as many as the frames in it have")
    return found
