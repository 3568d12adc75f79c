# SPDX-License-Identifier: GPL-2.0
"""Hypothesis strategies for packets: valid, nearly valid (one thing wrong), wild.

Sizes are drawn on purpose: Hypothesis alone draws payloads of a few bytes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import strategies as st

from anykernel.fuzz import packets as p
from anykernel.fuzz.flaws import FLAWS
from anykernel.fuzz.packets import Case

SIZES = (0, 1, 2, 7, 8, 18, 46, 64, 255, 256, 512, 536, 576, 1024, 1280, 1400, 1472, 1480)
"""Where length fields, minimum frames, minimum MTUs and the usual MTU change things."""


@dataclass(frozen=True)
class Ends:
    """Who talks to whom: the tester sends to the kernel under test."""

    mac: bytes = p.mac("02:00:00:00:00:02")
    kernel_mac: bytes = p.mac("02:00:00:00:00:01")
    ip4: bytes = p.ip4("192.0.2.2")
    kernel_ip4: bytes = p.ip4("192.0.2.1")
    ip6: bytes = p.ip6("2001:db8::2")
    kernel_ip6: bytes = p.ip6("2001:db8::1")

    def ether(self, kind: int, payload: p.Packet | bytes, vlan: int | None = None) -> bytes:
        """A frame to the kernel."""
        return bytes(
            p.Ether(dst=self.kernel_mac, src=self.mac, type=kind, vlan=vlan, payload=payload)
        )


u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
ports = st.one_of(st.sampled_from([0, 1, 7, 53, 68, 80, 443, 500, 4500, 4789, 65535]), u16)


def sizes(most: int = 1480) -> st.SearchStrategy[int]:
    """Payload lengths in bytes, with the interesting ones likely."""
    known = [size for size in SIZES if size <= most]
    return st.one_of(st.sampled_from(known), st.integers(0, most))


@st.composite
def payloads(draw: st.DrawFn, most: int = 1480) -> bytes:
    """Bytes of a size drawn on purpose; their content costs one number, 0 being all zeros."""
    size = draw(sizes(most))
    seed = draw(st.integers(0, 255))
    return random.Random(seed).randbytes(size) if seed else bytes(size)


def _options(kinds: list[tuple[int, int | None]], most: int) -> st.SearchStrategy[bytes]:
    """Type-length-value options of the kinds (type, length of the content or None: any), with
    paddings, `most` bytes in all."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        out = b""
        for kind, length in draw(st.lists(st.sampled_from(kinds), max_size=6)):
            if kind in (0, 1):
                out += bytes((kind,))
                continue
            size = draw(st.integers(0, 10)) if length is None else length
            out += bytes((kind, size + 2)) + draw(st.binary(min_size=size, max_size=size))
        return out[:most] if len(out) <= most else b""

    return build()


# RFC 791, 2113: end, no-operation, record route, timestamp, security, router alert, unknown.
ipv4_options = _options([(1, None), (7, 9), (68, 10), (148, 2), (130, 9), (222, None)], 40)
# RFC 9293, 7323, 2018, 2385, 7413: MSS, window scale, SACK, timestamps, MD5, fast open, unknown.
tcp_options = _options(
    [(1, None), (2, 2), (3, 1), (4, 0), (5, 8), (8, 8), (19, 16), (34, 8), (254, None)], 40
)
# RFC 8200: Pad1 and PadN are made by the padding; router alert, jumbo, home address, unknown.
tlvs = _options([(5, 2), (194, 4), (201, 16), (30, None), (0xC2, None)], 60)


def _padded(content: bytes) -> bytes:
    """An option header's content, padded to 8n - 2 bytes with PadN (RFC 8200, 4.2)."""
    missing = -(len(content) + 2) % 8
    if missing == 1:
        return content + b"\0"
    return content + (bytes((1, missing - 2)) + bytes(missing - 2) if missing else b"")


@st.composite
def extension_headers(draw: st.DrawFn) -> tuple[tuple[int, bytes], ...]:
    """A chain of extension headers, in any order that a hostile sender may choose."""
    chain: list[tuple[int, bytes]] = []
    for kind in draw(
        st.lists(st.sampled_from([p.HOP_BY_HOP, p.ROUTING, p.FRAGMENT, p.DESTINATION]), max_size=4)
    ):
        if kind == p.FRAGMENT:
            where = draw(st.integers(0, 180)) << 3 | draw(st.integers(0, 1))
            chain.append((kind, where.to_bytes(2) + draw(u32).to_bytes(4)))
        elif kind == p.ROUTING:
            routing = bytes((draw(st.sampled_from([0, 2, 3, 4, 253])), draw(st.integers(0, 3))))
            chain.append((kind, routing + bytes(4) + draw(st.sampled_from([b"", bytes(16)]))))
        else:
            chain.append((kind, _padded(draw(tlvs))))
    return tuple(chain)


@st.composite
def _icmp(draw: st.DrawFn, check: int | None = None) -> p.Icmp:
    kind = draw(st.sampled_from([8, 8, 0, 3, 4, 5, 11, 12, 13, 17, 30]))
    code = draw(st.sampled_from([0, 0, 1, 3, 4, 15])) if kind != 8 else 0
    rest = draw(st.binary(min_size=4, max_size=4))
    return p.Icmp(type=kind, code=code, rest=rest, payload=draw(payloads(1400)), check=check)


@st.composite
def _icmpv6(draw: st.DrawFn, check: int | None = None) -> p.Icmpv6:
    kind = draw(
        st.sampled_from([128, 128, 129, 1, 2, 3, 4, 130, 131, 132, 143, 133, 134, 135, 136])
    )
    body = draw(payloads(1200))
    if kind in (135, 136):  # neighbour solicitation, advertisement: target, options
        option = bytes((draw(st.sampled_from([1, 2])), draw(st.integers(0, 2)))) + bytes(6)
        body = draw(st.binary(min_size=16, max_size=16)) + option
    elif kind == 134:  # router advertisement: timers, prefix information
        info = bytes((3, 4, 64, 0xC0)) + draw(u32).to_bytes(4) * 2 + bytes(4)
        body = bytes(8) + info + p.ip6("2001:db8:1::")
    rest = draw(st.binary(min_size=4, max_size=4))
    return p.Icmpv6(type=kind, rest=rest, payload=body, check=check)


@st.composite
def _udp(
    draw: st.DrawFn, check: int | None = None, length: int | None = None, most: int = 1472
) -> p.Udp:
    return p.Udp(
        sport=draw(ports),
        dport=draw(ports),
        length=length,
        check=check,
        payload=draw(payloads(most)),
    )


@st.composite
def _tcp(
    draw: st.DrawFn, check: int | None = None, doff: int | None = None, most: int = 1400
) -> p.Tcp:
    return p.Tcp(
        sport=draw(ports),
        dport=draw(ports),
        seq=draw(u32),
        ack=draw(u32),
        flags=draw(st.one_of(st.sampled_from([2, 16, 18, 4, 17, 24, 0, 255]), u8)),
        window=draw(u16),
        urgent=draw(st.sampled_from([0, 0, 1, 65535])),
        options=draw(tcp_options),
        payload=draw(payloads(most)),
        doff=doff,
        check=check,
    )


ENDS = Ends()


@st.composite
def arp(draw: st.DrawFn, ends: Ends = ENDS) -> Case:
    """Requests and answers, about us and about others."""
    address = st.sampled_from([ends.ip4, ends.kernel_ip4, bytes(4), b"\xff" * 4])
    packet = p.Arp(
        op=draw(st.sampled_from([1, 1, 2, 3, 8, 9, 0xFFFF])),
        sha=ends.mac,
        spa=draw(address),
        tpa=draw(address),
        tha=draw(st.sampled_from([bytes(6), ends.kernel_mac])),
    )
    return Case(ends.ether(p.ETH_ARP, packet), "valid", layers=("arp",))


@st.composite
def ipv4(draw: st.DrawFn, ends: Ends = ENDS, *, options: bool = True) -> Case:
    """Valid IPv4 with ICMP, UDP or TCP; with options, also IP options and fragments."""
    name = draw(st.sampled_from(["icmp", "udp", "tcp"]))
    inner, protocol = _inner4(draw, name)
    fragmented = options and draw(st.integers(0, 3)) == 0
    packet = p.IPv4(
        src=ends.ip4,
        dst=ends.kernel_ip4,
        protocol=protocol,
        ttl=draw(st.sampled_from([64, 255, 1, 0])) if options else 64,
        tos=draw(u8),
        ident=draw(u16),
        flags=draw(st.integers(0, 3)) if fragmented else 0,
        fragment=draw(st.integers(0, 200)) if fragmented else 0,
        options=draw(ipv4_options) if options else b"",
        payload=inner,
    )
    return Case(ends.ether(p.ETH_IPV4, packet), "valid", layers=("ipv4", name))


def _inner4(draw: st.DrawFn, name: str) -> tuple[p.Packet, int]:
    if name == "icmp":
        return draw(_icmp()), p.ICMP
    if name == "udp":
        return draw(_udp(most=1400)), p.UDP
    return draw(_tcp(most=1300)), p.TCP


@st.composite
def ipv6(draw: st.DrawFn, ends: Ends = ENDS, *, headers: bool = True) -> Case:
    """Valid IPv6 with ICMPv6, UDP or TCP; with headers, also extension headers."""
    name = draw(st.sampled_from(["icmpv6", "udp", "tcp"]))
    inner: p.Packet
    if name == "icmpv6":
        inner, following = draw(_icmpv6()), p.ICMPV6
    elif name == "udp":
        inner, following = draw(_udp(most=1200)), p.UDP
    else:
        inner, following = draw(_tcp(most=1200)), p.TCP
    packet = p.IPv6(
        src=ends.ip6,
        dst=ends.kernel_ip6,
        next=following,
        hop_limit=draw(st.sampled_from([255, 64, 1, 0])),
        traffic_class=draw(u8),
        headers=draw(extension_headers()) if headers else (),
        payload=inner,
    )
    return Case(ends.ether(p.ETH_IPV6, packet), "valid", layers=("ipv6", name))


@st.composite
def nearly_valid(draw: st.DrawFn, ends: Ends = ENDS) -> Case:
    """A packet with exactly one thing wrong; `flaw` says what (flaws.FLAWS)."""
    name = draw(st.sampled_from(sorted(FLAWS)))
    frame = FLAWS[name].make(ends, draw(payloads(1200)), draw(st.integers(1, 0xFFFE)))
    return Case(frame, "nearly valid", name, (name.partition(".")[0],))


@st.composite
def wild(draw: st.DrawFn, ends: Ends = ENDS) -> Case:
    """A valid packet with some bytes overwritten anywhere behind the addresses, cut or extended;
    or noise of any kind of frame."""
    if draw(st.integers(0, 4)) == 0:
        kind = draw(st.sampled_from([p.ETH_IPV4, p.ETH_IPV6, p.ETH_ARP, p.ETH_VLAN, 0x8863, 0]))
        return Case(ends.ether(kind, draw(payloads(1500))), "wild")
    frame = bytearray(draw(st.one_of(ipv4(ends), ipv6(ends), arp(ends))).frame)
    for _ in range(draw(st.integers(1, 6))):
        frame[draw(st.integers(12, len(frame) - 1))] = draw(u8)
    if draw(st.booleans()):
        del frame[draw(st.integers(14, len(frame))) :]
    return Case(bytes(frame), "wild")


def cases(ends: Ends = ENDS) -> st.SearchStrategy[Case]:
    """Anything of the above."""
    return st.one_of(ipv4(ends), ipv6(ends), arp(ends), nearly_valid(ends), wild(ends))


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment relative to a live connection, whose numbers are known at run time only."""

    seq: int
    """Added to what the kernel expects next."""
    ack: int
    """Added to what the kernel has sent."""
    flags: int
    window: int
    urgent: int
    options: bytes
    data: bytes

    def build(self, *, sport: int, dport: int, expects: int, sent: int) -> p.Tcp:
        """The segment with the connection's live numbers."""
        return p.Tcp(
            sport=sport,
            dport=dport,
            seq=(expects + self.seq) & 0xFFFFFFFF,
            ack=(sent + self.ack) & 0xFFFFFFFF,
            flags=self.flags,
            window=self.window,
            urgent=self.urgent,
            options=self.options,
            payload=self.data,
        )


_near = st.sampled_from([0, 0, 0, 1, -1, 100, -100, 1460, -1460, 65535, 1 << 20, -(1 << 31)])


@st.composite
def tcp_segments(draw: st.DrawFn, most: int = 12) -> list[Segment]:
    """A sequence towards a live connection: in order, overlapping, old, future, with SYN, RST and
    FIN where they don't belong."""
    flags = st.sampled_from([16, 16, 16, 24, 17, 20, 4, 2, 18, 48, 0])
    return [
        Segment(
            draw(_near),
            draw(_near),
            draw(flags),
            draw(st.sampled_from([65535, 65535, 0, 1, 1000])),
            draw(st.sampled_from([0, 0, 1, 65535])),
            draw(tcp_options),
            draw(payloads(1400)),
        )
        for _ in range(draw(st.integers(1, most)))
    ]


@st.composite
def fragments(draw: st.DrawFn, ends: Ends = ENDS) -> list[bytes]:
    """Frames: an IPv4 UDP datagram in fragments that may overlap, repeat, swap or be missing."""
    udp = p.Udp(sport=4000, dport=4001, payload=draw(payloads(8000)))
    datagram = udp.build(ends.ip4 + ends.kernel_ip4)
    ident = draw(u16)
    frames = []
    at = 0
    while at < len(datagram):
        size = 8 * draw(st.integers(1, 180))
        start = max(0, at - 8 * draw(st.sampled_from([0, 0, 0, 1, 5])))
        part = datagram[start : at + size]
        more = at + size < len(datagram)
        packet = p.IPv4(
            src=ends.ip4,
            dst=ends.kernel_ip4,
            protocol=p.UDP,
            ident=ident,
            flags=int(more),
            fragment=start // 8,
            payload=part,
        )
        frames.append(ends.ether(p.ETH_IPV4, packet))
        at += size
    order = draw(st.sampled_from(["as is", "reversed", "first missing", "doubled"]))
    if order == "reversed":
        frames.reverse()
    elif order == "first missing":
        del frames[0]
    elif order == "doubled":
        frames += frames[:2]
    return frames
