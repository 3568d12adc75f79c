# SPDX-License-Identifier: GPL-2.0
"""SCTP's chunks and parameters, known, unknown and malformed, against RFC 9260.

Packets are built by hand; their CRC32c is scapy's.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykernel.fuzz import packets as p
from anykernel.fuzz.strategies import Ends

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

pytestmark = pytest.mark.kernel(components=["net-sctp"])

ENDS = Ends()
SCTP = 132
PORT, CLOSED, OURS = 99, 98, 4000
DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT = range(7)
SHUTDOWN, SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK = range(7, 12)
SHUTDOWN_COMPLETE = 14
COOKIE, UNRECOGNIZED = 7, 8
FORWARD_TSN = 0xC000
INVALID_MANDATORY, UNKNOWN_CHUNK, VIOLATION = 7, 6, 13
TAG, TSN = 0x1234567, 1000

Chunk = tuple[int, int, bytes]
"""Type, flags, value."""


def tlv(kind: int, value: bytes) -> bytes:
    """A parameter or an error cause."""
    return struct.pack(">HH", kind, 4 + len(value)) + value + bytes(-len(value) % 4)


def chunk(kind: int, value: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">BBH", kind, flags, 4 + len(value)) + value + bytes(-len(value) % 4)


def init(
    params: bytes = b"", *, tag: int = TAG, rwnd: int = 65536, out: int = 10, streams: int = 10
) -> bytes:
    return chunk(INIT, struct.pack(">IIHHI", tag, rwnd, out, streams, TSN) + params)


def tlvs(data: bytes) -> list[tuple[int, bytes]]:
    """Parameters or causes, parsed."""
    found = []
    while len(data) >= 4:
        kind, length = struct.unpack_from(">HH", data)
        found.append((kind, data[4:length]))
        data = data[length + -length % 4 :]
    return found


@dataclass(frozen=True)
class Answer:
    """A packet of the kernel."""

    tag: int
    chunks: tuple[Chunk, ...]

    @property
    def kinds(self) -> list[int]:
        return [kind for kind, _, _ in self.chunks]

    def parameters(self) -> list[tuple[int, bytes]]:
        """Of an INIT ACK."""
        return tlvs(self.chunks[0][2][16:])


def packet(tag: int, *chunks: bytes, port: int = PORT) -> bytes:
    from scapy.layers.sctp import SCTP as Header

    return bytes(Header(sport=OURS, dport=port, tag=tag) / b"".join(chunks))


def parse(frame: bytes) -> Answer:
    from scapy.layers.sctp import crc32c

    data = frame[34:]
    assert data[8:12] == struct.pack(">I", crc32c(data[:8] + bytes(4) + data[12:])), "its CRC"
    (tag,) = struct.unpack_from(">I", data, 4)
    data, chunks = data[12:], []
    while data:
        kind, flags, length = struct.unpack_from(">BBH", data)
        chunks.append((kind, flags, data[4:length]))
        data = data[length + -length % 4 :]
    return Answer(tag, tuple(chunks))


class Peer:
    """The other end of the kernel's link, where a server listens."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.eth0 = kernel.add_netdev("eth0", mac=ENDS.kernel_mac, addresses=["192.0.2.1/24"])
        self.eth0.add_neighbour("192.0.2.2", ENDS.mac)
        self.server = kernel.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP)
        self.server.bind(("192.0.2.1", PORT))
        self.server.listen(5)
        self.tag = 0
        """The kernel's, of the association."""

    def send(self, data: bytes) -> list[Answer]:
        """What the kernel answers at once."""
        ip = p.IPv4(src=ENDS.ip4, dst=ENDS.kernel_ip4, protocol=SCTP, payload=data)
        frames = self.eth0.exchange(ENDS.ether(p.ETH_IPV4, ip))
        return [parse(frame) for frame in frames if frame[12:14] == b"\x08\0" and frame[23] == SCTP]

    def establish(self) -> None:
        (ack,) = self.send(packet(0, init()))
        (self.tag,) = struct.unpack_from(">I", ack.chunks[0][2])
        cookie = dict(ack.parameters())[COOKIE]
        (done,) = self.send(packet(self.tag, chunk(COOKIE_ECHO, cookie)))
        assert done.kinds == [COOKIE_ACK]

    def beats(self) -> bool:
        """Whether the association lives: it answers a HEARTBEAT with what was in it."""
        info = tlv(1, b"still there?")
        answers = self.send(packet(self.tag, chunk(HEARTBEAT, info)))
        return [answer.chunks for answer in answers] == [((HEARTBEAT_ACK, 0, info),)]

    def associations(self) -> int:
        return len(self.kernel.read_text("/proc/net/sctp/assocs").splitlines()) - 1

    def counters(self) -> dict[str, int]:
        lines = self.kernel.read_text("/proc/net/sctp/snmp").splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines)}

    def raised(self, before: dict[str, int]) -> dict[str, int]:
        after = self.counters()
        return {name: after[name] - before[name] for name in after if after[name] != before[name]}


BITS = st.integers(0, 3)
"""The upper two of a type: stop or skip (2), report (1)."""
UNKNOWN = st.lists(
    st.tuples(BITS, st.integers(0x100, 0x3FF0), st.binary(max_size=20)), min_size=1, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(unknown=UNKNOWN)
def test_unknown_parameters_by_their_upper_bits(
    kernel: Kernel, unknown: list[tuple[int, int, bytes]]
) -> None:
    """3.2.1: skip or stop, report or not; the association comes to life whatever they are."""
    peer = Peer(kernel)
    params = [tlv(bits << 14 | low, value) for bits, low, value in unknown]
    expected = []
    for (bits, _, value), param in zip(unknown, params, strict=True):
        if bits & 1:
            expected.append(param[: 4 + len(value)])
        if not bits & 2:
            break
    (ack,) = peer.send(packet(0, init(b"".join(params))))
    assert ack.kinds == [INIT_ACK] and ack.tag == TAG
    found = ack.parameters()
    assert [value for kind, value in found if kind == UNRECOGNIZED] == expected
    assert peer.associations() == 0, "nothing is kept before the cookie comes back"
    (tag,) = struct.unpack_from(">I", ack.chunks[0][2])
    (done,) = peer.send(packet(tag, chunk(COOKIE_ECHO, dict(found)[COOKIE])))
    assert done.kinds == [COOKIE_ACK] and tag != 0
    assert peer.associations() == 1
    assert peer.counters()["SctpPassiveEstabs"] == 1


@pytest.mark.xfail(
    strict=False,
    reason="sctp_process_init() walks all parameters again, past where sctp_verify_init() stopped",
)
@pytest.mark.parametrize("kind", [0x0123, 0x4123], ids=["stop", "stop and report"])
def test_nothing_is_processed_after_a_stop(kernel: Kernel, kind: int) -> None:
    """3.2.1: "do not process any further parameters within this chunk": here a known one, which
    the answer shows to have been taken."""
    peer = Peer(kernel)
    (plain,) = peer.send(packet(0, init(tlv(FORWARD_TSN, b""))))
    assert FORWARD_TSN in dict(plain.parameters()), "it is one that the kernel answers"
    (ack,) = peer.send(packet(0, init(tlv(kind, b"") + tlv(FORWARD_TSN, b""))))
    assert FORWARD_TSN not in dict(ack.parameters())


@settings(max_examples=40, deadline=None)
@given(
    before=st.lists(st.binary(max_size=12), max_size=3),
    length=st.one_of(st.integers(0, 3), st.integers(13, 0xFFFF)),
)
def test_a_parameter_of_impossible_length(kernel: Kernel, before: list[bytes], length: int) -> None:
    """An ABORT that says protocol violation, with the tag that the INIT asks for; no state."""
    peer = Peer(kernel)
    params = b"".join(tlv(0x8123, value) for value in before)
    (answer,) = peer.send(packet(0, init(params + struct.pack(">HH8x", 0x8124, length))))
    assert answer.kinds == [ABORT] and answer.tag == TAG
    assert [kind for kind, _ in tlvs(answer.chunks[0][2])] == [VIOLATION]
    assert peer.associations() == 0


@settings(max_examples=30, deadline=None)
@given(
    rwnd=st.sampled_from([0, 1, 1499, 1500, 65536]),
    out=st.sampled_from([0, 1, 65535]),
    streams=st.sampled_from([0, 1, 65535]),
    tag=st.sampled_from([0, 1, 0xFFFFFFFF]),
)
def test_mandatory_values(kernel: Kernel, rwnd: int, out: int, streams: int, tag: int) -> None:
    """3.3.2: no streams, too small a window or no tag; what is fine gets an INIT ACK."""
    peer = Peer(kernel)
    answers = peer.send(packet(0, init(tag=tag, rwnd=rwnd, out=out, streams=streams)))
    if tag == 0:  # RFC 4960: ABORT, RFC 9260: silence
        assert all(answer.kinds == [ABORT] for answer in answers)
    elif rwnd < 1500 or not out or not streams:
        (answer,) = answers
        assert answer.kinds == [ABORT] and answer.tag == tag
        assert [kind for kind, _ in tlvs(answer.chunks[0][2])] == [INVALID_MANDATORY]
    else:
        (answer,) = answers
        assert answer.kinds == [INIT_ACK] and answer.tag == tag
        taken, offered = struct.unpack_from(">HH", answer.chunks[0][2], 8)
        assert 0 < taken <= streams and offered > 0


@settings(max_examples=40, deadline=None)
@given(where=st.integers(0, 8 * 32 - 1), alive=st.booleans())
def test_any_wrong_bit_is_noticed(kernel: Kernel, where: int, alive: bool) -> None:
    """CRC32c finds each single wrong bit; the packet is dropped in silence, and counted."""
    peer = Peer(kernel)
    peer.establish()
    sent = bytearray(packet(peer.tag, chunk(HEARTBEAT, tlv(1, bytes(12)))) if alive else b"")
    sent = sent or bytearray(packet(0, init()))
    sent[where // 8] ^= 1 << where % 8
    before = peer.counters()
    assert peer.send(bytes(sent)) == []
    dropped = {"SctpInSCTPPacks": 1, "SctpChecksumErrors": 1, "SctpInPktDiscards": 1}
    assert peer.raised(before) == dropped
    assert peer.beats()


DATA_CHUNK = chunk(DATA, struct.pack(">IHHI", TSN, 0, 0, 0) + b"data", flags=3)
CONTROL = st.sampled_from(
    [
        DATA_CHUNK,
        chunk(SACK, struct.pack(">IIHH", 0, 65536, 0, 0)),
        chunk(HEARTBEAT, tlv(1, b"x")),
        chunk(ABORT),
        chunk(SHUTDOWN, bytes(4)),
        chunk(SHUTDOWN_ACK),
        chunk(ERROR, tlv(1, bytes(4))),
        chunk(SHUTDOWN_COMPLETE),
    ]
)


@settings(max_examples=60, deadline=None)
@given(tag=st.integers(0, 0xFFFFFFFF), chunks=st.lists(CONTROL, min_size=1, max_size=3))
def test_a_wrong_verification_tag(kernel: Kernel, tag: int, chunks: list[bytes]) -> None:
    """8.5: dropped in silence whatever it holds, and the association lives on."""
    peer = Peer(kernel)
    peer.establish()
    # SHUTDOWN ACK, SHUTDOWN COMPLETE and ABORT have rules of their own for one more tag: ours.
    if tag in (peer.tag, TAG):
        tag ^= 1 << 31
    assert all(answer.kinds == [SHUTDOWN_COMPLETE] for answer in peer.send(packet(tag, *chunks)))
    assert peer.beats()


@settings(max_examples=20, deadline=None)
@given(reflected=st.booleans(), cause=st.integers(0, 20), data=st.binary(max_size=30))
def test_abort_needs_a_right_tag(kernel: Kernel, reflected: bool, cause: int, data: bytes) -> None:
    """8.5.1: the receiver's own tag, or with the T bit the sender's."""
    peer = Peer(kernel)
    peer.establish()
    for tag, flags in ((TAG, 0), (peer.tag, 1)):
        assert peer.send(packet(tag, chunk(ABORT, tlv(cause, data), flags))) == []
        assert peer.beats(), "the other one's tag"
    tag, flags = (TAG, 1) if reflected else (peer.tag, 0)
    assert peer.send(packet(tag, chunk(ABORT, tlv(cause, data), flags))) == []
    assert not peer.beats()
    assert peer.counters()["SctpAborteds"] == 1


OUT_OF_THE_BLUE = st.sampled_from([DATA, SACK, HEARTBEAT, ABORT, SHUTDOWN_ACK, SHUTDOWN_COMPLETE])


@settings(max_examples=40, deadline=None)
@given(kind=OUT_OF_THE_BLUE, tag=st.integers(1, 0xFFFFFFFF), value=st.integers(0, 40))
def test_out_of_the_blue(kernel: Kernel, kind: int, tag: int, value: int) -> None:
    """8.4: ABORT and SHUTDOWN COMPLETE get no answer, SHUTDOWN ACK gets SHUTDOWN COMPLETE, all
    else ABORT; answers reflect the tag and say so with the T bit."""
    peer = Peer(kernel)
    body = DATA_CHUNK[4:] + bytes(value) if kind in (DATA, SACK, HEARTBEAT) else b""
    answers = peer.send(packet(tag, chunk(kind, body), port=CLOSED))
    if kind in (ABORT, SHUTDOWN_COMPLETE):
        assert answers == []
    else:
        back = SHUTDOWN_COMPLETE if kind == SHUTDOWN_ACK else ABORT
        assert [(a.tag, a.kinds, a.chunks[0][1]) for a in answers] == [(tag, [back], 1)]
    assert peer.counters()["SctpOutOfBlues"] == 1
    (answer,) = peer.send(packet(0, init(), port=CLOSED))
    assert (answer.tag, answer.kinds) == (TAG, [ABORT]), "no server there: refused"


@settings(max_examples=60, deadline=None)
@given(
    unknown=st.lists(
        st.tuples(BITS, st.integers(0x20, 0x3E), st.binary(max_size=20)), min_size=1, max_size=5
    )
)
def test_unknown_chunks_by_their_upper_bits(
    kernel: Kernel, unknown: list[tuple[int, int, bytes]]
) -> None:
    """3.2: what follows a chunk that stops is not looked at; reported ones come back whole."""
    peer = Peer(kernel)
    peer.establish()
    chunks = [chunk(bits << 6 | low, value) for bits, low, value in unknown]
    expected, stopped = [], False
    for (bits, _, value), sent in zip(unknown, chunks, strict=True):
        if bits & 1:
            expected.append(sent[: 4 + len(value)])
        if not bits & 2:
            stopped = True
            break
    info = tlv(1, b"behind them")
    answers = peer.send(packet(peer.tag, *chunks, chunk(HEARTBEAT, info)))
    reported, beats = [], []
    for kind, _, value in (found for answer in answers for found in answer.chunks):
        if kind == ERROR:
            reported += [data for cause, data in tlvs(value) if cause == UNKNOWN_CHUNK]
        else:
            beats.append((kind, value))
    assert [data.rstrip(b"\0") for data in reported] == [e.rstrip(b"\0") for e in expected]
    assert beats == ([] if stopped else [(HEARTBEAT_ACK, info)])
    assert peer.beats()


NOISE = st.one_of(
    st.binary(min_size=1, max_size=200),
    st.builds(
        lambda kind, flags, length, value: struct.pack(">BBH", kind, flags, length) + value,
        st.one_of(st.integers(0, 15), st.sampled_from([0x40, 0x80, 0xC0, 0xC1, 0x82, 0x0F])),
        st.integers(0, 255),
        st.integers(0, 120),
        st.binary(max_size=100),
    ),
)


@settings(max_examples=100, deadline=None)
@given(noise=st.lists(st.lists(NOISE, min_size=1, max_size=3), min_size=1, max_size=8))
def test_noise_with_a_right_crc(kernel: Kernel, noise: list[list[bytes]]) -> None:
    """For an association and for a server; afterwards both a new client and a ping of the
    network layer are answered."""
    peer = Peer(kernel)
    peer.establish()
    for chunks in noise:
        for tag in (peer.tag, 0, TAG):
            peer.send(packet(tag, *chunks))
    kernel.clock.advance(1)
    ip = p.IPv4(src=ENDS.ip4, dst=ENDS.kernel_ip4, protocol=p.ICMP, payload=p.Icmp(payload=b"ping"))
    assert peer.eth0.exchange(ENDS.ether(p.ETH_IPV4, ip))[-1].endswith(b"ping")
    from scapy.layers.sctp import SCTP as Header

    other = bytes(Header(sport=OURS + 1, dport=PORT, tag=0) / init(tag=77))
    assert [(answer.tag, answer.kinds) for answer in peer.send(other)] == [(77, [INIT_ACK])]
