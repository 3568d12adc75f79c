# SPDX-License-Identifier: GPL-2.0
"""IPv4 reassembly against scapy's and against a map of bytes, with time and memory limits."""

from __future__ import annotations

import re
import socket
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykernel.fuzz import packets as p
from anykernel.fuzz.strategies import Ends
from anykernel.fuzz.streams import content

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.netdev import Netdev
    from anykernel.kernel.sockets import Socket

pytestmark = pytest.mark.kernel(components=["net-ipv4"])

ENDS = Ends()
TIMEOUT = 30
"""Seconds that a datagram's first fragment to arrive waits for the others (ipfrag_time)."""
LATE = TIMEOUT / 8
"""How much later a timer may be: the timer wheel rounds the more, the farther away it is."""
PORT = 4001
COUNTERS = ("ReasmReqds", "ReasmOKs", "ReasmFails", "ReasmTimeout")


@dataclass(frozen=True)
class Piece:
    """Some bytes of one of the datagrams."""

    which: int
    start: int
    stop: int
    last: bool

    def frame(self, datagrams: list[bytes]) -> bytes:
        packet = p.IPv4(
            src=ENDS.ip4,
            dst=ENDS.kernel_ip4,
            protocol=p.UDP,
            ident=100 + self.which,
            flags=int(not self.last),
            fragment=self.start // 8,
            payload=datagrams[self.which][self.start : self.stop],
        )
        return ENDS.ether(p.ETH_IPV4, packet)


@dataclass
class Queue:
    """What came of one datagram: runs of bytes, sorted, which nothing ever overlaps."""

    born: float
    runs: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    has_last: bool = False

    @property
    def whole(self) -> bool:
        return self.has_last and sum(stop - start for start, stop in self.runs) == self.end


@dataclass
class Model:
    """RFC 791's reassembly as Linux restricts it.

    A fragment that overlaps what came before, or that contradicts the datagram's end, ends the
    whole datagram (RFC 5722 demands that of IPv6); a fragment within one run of what came is a
    duplicate and ignored.  Only fragments that come in order grow a run; a fragment that lies
    within two runs counts as overlapping.
    """

    queues: dict[int, Queue] = field(default_factory=dict)
    count: Counter[str] = field(default_factory=Counter)
    overlaps: int = 0

    def take(self, piece: Piece, now: float) -> str:
        """kept, complete, duplicate, or dropped (with all that came before)."""
        self.count["ReasmReqds"] += 1
        queue = self.queues.setdefault(piece.which, Queue(now))
        outcome = self._insert(queue, piece)
        if outcome == "dropped":
            self.count["ReasmFails"] += 1
        elif queue.whole and outcome == "kept":
            self.count["ReasmOKs"] += 1
            outcome = "complete"
        if outcome in ("dropped", "complete"):
            del self.queues[piece.which]
        return outcome

    def _insert(self, queue: Queue, piece: Piece) -> str:
        start, stop = piece.start, piece.stop
        if piece.last:
            if stop < queue.end or (queue.has_last and stop != queue.end):
                return "dropped"
            queue.has_last = True
        elif stop > queue.end and queue.has_last:
            return "dropped"
        queue.end = max(queue.end, stop)
        touched = [run for run in queue.runs if start < run[1] and run[0] < stop]
        if not touched:
            if queue.runs and queue.runs[-1][1] == start:
                queue.runs[-1] = queue.runs[-1][0], stop
            else:
                queue.runs = sorted([*queue.runs, (start, stop)])
            return "kept"
        if touched[0][0] <= start and stop <= touched[0][1]:
            return "duplicate"
        self.overlaps += 1
        return "dropped"

    def expire(self) -> int:
        """All that is left times out; how many ICMP messages that gives."""
        self.count["ReasmTimeout"] += len(self.queues)
        self.count["ReasmFails"] += len(self.queues)
        told = sum(queue.runs[0][0] == 0 for queue in self.queues.values())
        self.queues.clear()
        return told


class Target:
    """A kernel with a UDP socket behind eth0."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.eth0: Netdev = kernel.add_netdev(
            "eth0", mac=ENDS.kernel_mac, addresses=["192.0.2.1/24"]
        )
        self.eth0.add_neighbour("192.0.2.2", ENDS.mac)
        kernel.sysctl["net.ipv4.icmp_ratelimit"] = 0
        self.sock: Socket = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("0.0.0.0", PORT))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def received(self) -> list[bytes]:
        """All that the socket has."""
        found = []
        while True:
            try:
                found.append(self.sock.recv(65536, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found

    def counters(self) -> dict[str, int]:
        ip = self.kernel.snmp["Ip"]
        return {name: ip[name] for name in COUNTERS}

    def queues(self) -> tuple[int, int]:
        """How many datagrams wait, and the memory that they take."""
        text = self.kernel.read_text("/proc/net/sockstat")
        found = re.search(r"FRAG: inuse (\d+) memory (\d+)", text)
        assert found is not None
        return int(found[1]), int(found[2])


def udp(payload: bytes) -> bytes:
    return p.Udp(sport=4000, dport=PORT, payload=payload).build(ENDS.ip4 + ENDS.kernel_ip4)


def cut(size: int, places: set[int], which: int) -> list[Piece]:
    """A datagram of `size` bytes, cut at these multiples of 8."""
    marks = [0, *sorted(8 * place for place in places if 0 < 8 * place < size), size]
    return [Piece(which, start, stop, stop == size) for start, stop in pairwise(marks)]


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[bytes], list[Piece]]:
    """One or two datagrams, and their pieces in any order: some twice, some not, some overlapping
    others, some that lie about the datagram's end."""
    datagrams: list[bytes] = []
    pieces: list[Piece] = []
    for which in range(draw(st.integers(1, 2))):
        size = draw(st.integers(40, 400))
        datagrams.append(udp(content(size, which)))
        steps = (size + 15) // 8
        places = draw(st.sets(st.integers(1, steps - 1), min_size=1, max_size=5))
        own = cut(size + 8, places, which)
        for _ in range(draw(st.integers(0, 2))):
            start = draw(st.integers(0, steps - 2))
            stop = 8 * draw(st.integers(start + 1, steps - 1))
            liar = start > 0 and draw(st.integers(0, 4)) == 0
            own.append(Piece(which, 8 * start, stop, liar))
        if draw(st.booleans()):
            own.append(draw(st.sampled_from(own)))
        if draw(st.booleans()):
            own.remove(draw(st.sampled_from(own)))
        pieces += own
    return datagrams, draw(st.permutations(pieces))


@settings(max_examples=100, deadline=None)
@given(case=arrivals())
def test_reassembly_is_that_of_a_byte_map(
    kernel: Kernel, case: tuple[list[bytes], list[Piece]]
) -> None:
    """Whatever comes: the datagrams, the counters, and who is told when the time is over."""
    datagrams, pieces = case
    target, model = Target(kernel), Model()
    overlaps = kernel.snmp["IpExt"].get("ReasmOverlaps")
    for piece in pieces:
        whole = datagrams[piece.which]
        end = model.queues.get(piece.which)
        target.eth0.inject(piece.frame(datagrams))
        outcome = model.take(piece, kernel.clock.seconds)
        # One that ends too early is complete, too, but UDP knows how long it should have been.
        full = end.end if end is not None else piece.stop
        right = outcome == "complete" and max(full, piece.stop) == len(whole)
        assert target.received() == ([whole[8:]] if right else []), (piece, outcome)
        assert target.queues()[0] == len(model.queues)
        kernel.clock.advance(0.01)
    with target.eth0.capture() as capture:
        told = model.expire()
        kernel.clock.advance(TIMEOUT + LATE)
    assert target.counters() == {name: model.count[name] for name in COUNTERS}
    if overlaps is not None:
        assert kernel.snmp["IpExt"]["ReasmOverlaps"] - overlaps == model.overlaps
    # ICMP time exceeded, fragment reassembly time exceeded
    assert [frame[34:36] for frame in capture.sent] == [b"\x0b\x01"] * told
    assert target.queues() == (0, 0), "all memory comes back"


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(40, 9000),
    step=st.integers(1, 100),
    order=st.randoms(use_true_random=False),
    twice=st.booleans(),
)
def test_what_scapy_cuts_arrives_once(
    kernel: Kernel, size: int, step: int, order: Any, twice: bool
) -> None:
    """UDP and ping, in any order; the pieces of scapy are also put together by scapy."""
    from scapy.layers.inet import ICMP, IP, defragment, fragment
    from scapy.layers.l2 import Ether

    target, data = Target(kernel), content(size, step)
    step = max(8 * step, (size // 60) // 8 * 8 + 8)  # fewer than 64: ipfrag_max_dist
    base = IP(src="192.0.2.2", dst="192.0.2.1")
    head = Ether(src=ENDS.mac.hex(":"), dst=ENDS.kernel_mac.hex(":"))
    echo = base.copy() / ICMP(id=1, seq=2) / data
    for ident, packet in ((1, base.copy() / p_udp(data)), (2, echo)):
        packet.id = ident
        pieces = fragment(packet, step)
        assert bytes(defragment(pieces)[0].payload) == bytes(packet.payload)
        frames = [bytes(head / piece) for piece in pieces]
        order.shuffle(frames)
        if twice:  # each duplicate comes before its datagram is complete
            frames = frames[:-1] + frames
        answers = [answer for one in target.eth0.exchange(frames) for answer in one]
        if ident == 1:
            assert target.received() == [data] and answers == []
        else:
            replies = [Ether(answer)[IP] for answer in answers]
            (reply,) = defragment(replies)
            assert bytes(reply.payload)[8:] == data
    assert target.queues() == (0, 0)


def p_udp(data: bytes) -> Any:
    from scapy.layers.inet import UDP

    return UDP(sport=4000, dport=PORT) / data


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 20000), mtu=st.integers(68, 1500))
def test_what_the_kernel_cuts_scapy_puts_together(kernel: Kernel, size: int, mtu: int) -> None:
    """No fragment is longer than the MTU, only the last may be less than full, and the counters
    know."""
    from scapy.layers.inet import IP, UDP, defragment
    from scapy.layers.l2 import Ether

    target, data = Target(kernel), content(size, mtu)
    target.eth0.mtu = mtu
    target.sock.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT
    with target.eth0.capture() as capture:
        target.sock.sendto(data, ("192.0.2.2", 9))
    packets = [Ether(frame)[IP] for frame in capture.sent]
    (whole,) = defragment(packets)
    assert bytes(whole[UDP].payload) == data
    room = (mtu - 20) // 8 * 8
    most = mtu - 20  # the last one's length needn't be a multiple of 8
    expected = 1 + max(0, -(-(size + 8 - most) // room))
    assert len(packets) == expected
    assert all(packet.len <= mtu for packet in packets)
    assert all(packet.len == 20 + room for packet in packets[:-1])
    ip = kernel.snmp["Ip"]
    several = expected > 1
    assert (ip["FragOKs"], ip["FragCreates"]) == (int(several), expected if several else 0)


@settings(max_examples=15, deadline=None)
@given(
    threshold=st.integers(2000, 60000),
    sizes=st.lists(st.integers(1, 180), min_size=30, max_size=80),
)
def test_memory_is_limited(kernel: Kernel, threshold: int, sizes: list[int]) -> None:
    """A fragment is refused if and only if those that wait take more than ipfrag_high_thresh;
    after their time all memory is back, and new ones are welcome."""
    target = Target(kernel)
    kernel.sysctl["net.ipv4.ipfrag_low_thresh"] = threshold // 2
    kernel.sysctl["net.ipv4.ipfrag_high_thresh"] = threshold
    accepted = 0
    for number, size in enumerate(sizes):
        full = target.queues()[1] > threshold
        target.eth0.inject(Piece(number, 0, 8 * size, False).frame([bytes(8 * size)] * 100))
        accepted += not full
        assert target.queues()[0] == accepted, (number, size)
    count = target.counters()
    assert count["ReasmFails"] == len(sizes) - accepted
    kernel.clock.advance(TIMEOUT + LATE)
    assert target.queues() == (0, 0)
    assert target.counters()["ReasmTimeout"] == accepted
    datagram = udp(b"welcome again" * 10)
    for piece in cut(len(datagram), {3}, 0):
        target.eth0.inject(piece.frame([datagram]))
    assert target.received() == [datagram[8:]]


@settings(max_examples=20, deadline=None)
@given(later=st.lists(st.floats(0.0, 29.9), max_size=4), first=st.booleans())
def test_time_is_counted_from_the_first_to_arrive(
    kernel: Kernel, later: list[float], first: bool
) -> None:
    """Later fragments don't prolong it; only who sent the first 8 bytes is told of the end."""
    target = Target(kernel)
    datagrams = [bytes(1000)]
    began = kernel.clock.now
    target.eth0.inject(Piece(0, 0 if first else 8, 16, False).frame(datagrams))
    with target.eth0.capture() as capture:
        for number, when in enumerate(sorted(later), start=2):
            kernel.clock.advance(max(0.0, when - (kernel.clock.now - began) / 1e9))
            target.eth0.inject(Piece(0, 16 * number, 16 * number + 16, False).frame(datagrams))
        kernel.clock.advance(TIMEOUT - 0.05 - (kernel.clock.now - began) / 1e9)
        assert target.queues()[0] == 1 and not capture.sent
        kernel.clock.advance(LATE + 0.1)
    assert target.queues() == (0, 0)
    assert len(capture.sent) == int(first)
