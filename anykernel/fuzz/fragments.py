# SPDX-License-Identifier: GPL-2.0
"""IPv4 and IPv6 datagrams in fragments: out of order, twice, overlapping, incomplete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

from anykernel.fuzz import options as o
from anykernel.fuzz import packets as p
from anykernel.fuzz.strategies import Ends, payloads

How = Literal["all", "twice", "missing", "overlapping"]
ENDS = Ends()


@dataclass(frozen=True)
class Fragmented:
    """A UDP datagram in pieces."""

    frames: tuple[bytes, ...]
    payload: bytes
    """Of the whole datagram."""
    how: How

    def may_give(self, received: list[bytes]) -> bool:
        """Whether a socket may have received this.  Overlaps, where Linux drops all (RFC 5722)
        unless a piece lies within what it has, must at least not garble."""
        if self.how == "missing":
            return received == []
        return received == [self.payload] or (self.how == "overlapping" and received == [])


def frames(
    ends: Ends, ip: Literal[4, 6], datagram: bytes, pieces: list[tuple[int, int]], ident: int
) -> tuple[bytes, ...]:
    """Frames with these pieces (from, to; but for the last end multiples of 8) of a datagram."""
    found = []
    for start, stop in pieces:
        more = stop < len(datagram)
        part = datagram[start:stop]
        if ip == 4:
            found.append(
                ends.ether(
                    p.ETH_IPV4,
                    p.IPv4(
                        src=ends.ip4,
                        dst=ends.kernel_ip4,
                        protocol=p.UDP,
                        ident=ident,
                        flags=int(more),
                        fragment=start // 8,
                        payload=part,
                    ),
                )
            )
        else:
            head = (p.FRAGMENT, o.fragment(start, more=more, ident=ident))
            packet = p.IPv6(
                src=ends.ip6, dst=ends.kernel_ip6, next=p.UDP, headers=(head,), payload=part
            )
            found.append(ends.ether(p.ETH_IPV6, packet))
    return tuple(found)


@st.composite
def fragmented(
    draw: st.DrawFn,
    ends: Ends = ENDS,
    *,
    ip: Literal[4, 6] = 4,
    sport: int = 4000,
    dport: int = 4001,
    most: int = 8000,
) -> Fragmented:
    """A UDP datagram of up to `most` bytes in at least two fragments."""
    payload = draw(payloads(most))
    payload += bytes(max(0, 40 - len(payload)))  # enough for two
    addresses = ends.ip4 + ends.kernel_ip4 if ip == 4 else ends.ip6 + ends.kernel_ip6
    datagram = p.Udp(sport=sport, dport=dport, payload=payload).build(addresses)
    pieces: list[tuple[int, int]] = []
    at = 0
    while at < len(datagram):
        # The first has 16 bytes at least, so that what overlaps it is never the whole datagram.
        step = 8 * draw(st.one_of(st.sampled_from([2, 64, 150]), st.integers(2, 150)))
        stop = at + step if at else min(step, (len(datagram) - 1) // 16 * 8)
        pieces.append((at, min(stop, len(datagram))))
        at = stop
    how: How = draw(st.sampled_from(["all", "twice", "missing", "overlapping"]))
    if how == "missing":
        del pieces[draw(st.integers(0, len(pieces) - 1))]
    elif how == "overlapping":
        start, stop = pieces[draw(st.integers(1, len(pieces) - 1))]
        pieces.append((start - 8, stop))
    elif how == "twice":
        pieces.insert(0, draw(st.sampled_from(pieces)))
    pieces = draw(st.permutations(pieces))
    ident = draw(st.integers(0, 0xFFFF))
    return Fragmented(frames(ends, ip, datagram, pieces, ident), payload, how)
