# SPDX-License-Identifier: GPL-2.0
"""TCP towards a live connection where the outcome is known: what a receiver must end up with, and
acknowledgements that a sender must cope with.

`strategies.tcp_segments` is the hostile kind, of which only survival can be asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from anykernel.fuzz import options as o
from anykernel.fuzz import packets as p
from anykernel.fuzz.strategies import Segment


def content(size: int, seed: int) -> bytes:
    """A stream in which a byte out of place shows: no period, unless the seed is 0."""
    return random.Random(seed).randbytes(size) if seed else bytes(size)


@dataclass(frozen=True)
class Delivery:
    """A stream and the pieces of it that are sent, in the order of sending."""

    stream: bytes
    pieces: tuple[tuple[int, int], ...]
    """From and to; they may overlap, repeat, be out of order or leave gaps."""
    fin: bool
    """Whether a FIN follows the stream's end, after all pieces."""

    @property
    def received(self) -> bytes:
        """What the application must get: all that lies before the first gap."""
        end = 0
        for start, stop in sorted(self.pieces):
            if start > end:
                break
            end = max(end, stop)
        return self.stream[:end]

    @property
    def finished(self) -> bool:
        """Whether the application must see the stream's end."""
        return self.fin and self.received == self.stream

    def segments(self) -> Iterator[Segment]:
        """Relative to the connection's numbers before the first piece."""
        for start, stop in self.pieces:
            yield Segment(start, 0, p.ACK | p.PSH, 65535, 0, b"", self.stream[start:stop])
        if self.fin:
            yield Segment(len(self.stream), 0, p.ACK | p.FIN, 65535, 0, b"", b"")


@st.composite
def deliveries(draw: st.DrawFn, most: int = 8000, mss: int = 1460) -> Delivery:
    """Deliveries of up to `most` bytes, which must fit in the receive window."""
    size = draw(st.one_of(st.sampled_from([0, 1, 2, mss, mss + 1, most]), st.integers(0, most)))
    stream = content(size, draw(st.integers(0, 255)))
    pieces: list[tuple[int, int]] = []
    at = 0
    while at < size:
        stop = min(size, at + draw(st.one_of(st.just(mss), st.integers(1, mss))))
        back = draw(st.sampled_from([0, 0, 0, 1, 100, mss]))  # overlaps what went before
        pieces.append((max(0, at - back, stop - mss), stop))
        at = stop
    if pieces:
        again = st.lists(st.sampled_from(pieces), max_size=3)
        lost = draw(st.sampled_from([None, None, *range(min(len(pieces), 3))]))
        kept = [piece for i, piece in enumerate(pieces) if i != lost]
        pieces = draw(st.permutations(kept)) + draw(again if lost is None else st.just([]))
    return Delivery(stream, tuple(pieces), draw(st.booleans()))


@dataclass(frozen=True, slots=True)
class Answer:
    """An acknowledgement relative to the first byte that the kernel sends."""

    ack: int
    window: int
    sack: tuple[tuple[int, int], ...] = ()

    def build(self, *, sport: int, dport: int, seq: int, first: int) -> p.Tcp:
        """With the connection's live numbers: our next, and that of the kernel's first byte."""
        blocks = [((first + a) & 0xFFFFFFFF, (first + b) & 0xFFFFFFFF) for a, b in self.sack]
        return p.Tcp(
            sport=sport,
            dport=dport,
            seq=seq,
            ack=(first + self.ack) & 0xFFFFFFFF,
            flags=p.ACK,
            window=self.window,
            options=o.NOP + o.NOP + o.sack(*blocks) if blocks else b"",
        )


@st.composite
def answers(draw: st.DrawFn, sent: int, most: int = 12) -> list[Answer]:
    """Acknowledgements of `sent` bytes: honest, old, of what was never sent; windows of any size;
    selective ones that are right, duplicate (D-SACK), reversed, taken back or made up."""
    edge = st.one_of(
        st.integers(0, sent), st.sampled_from([-1, 0, sent, sent + 1, sent + 100_000, -(1 << 31)])
    )
    block = st.tuples(edge, edge)
    return [
        Answer(
            draw(edge),
            draw(st.sampled_from([65535, 65535, 1460, 1, 0])),
            tuple(draw(st.lists(block, max_size=4))),
        )
        for _ in range(draw(st.integers(1, most)))
    ]
