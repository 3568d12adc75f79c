# SPDX-License-Identifier: GPL-2.0
"""Queueing disciplines in virtual time, where "at t plus delay" means that nanosecond."""

from __future__ import annotations

import socket
import struct
from collections import defaultdict, deque
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.sockets import Socket

pytestmark = pytest.mark.kernel(components=["net-ipv4"])

NEWQDISC, NEWCLASS = 36, 40
ROOT = 0xFFFFFFFF
TICK = 64
"""Nanoseconds of the unit that tc's times are in (PSCHED_SHIFT), since 2.6.31."""
HEADERS = 42
"""Ethernet, IPv4, UDP: what a frame has more than its payload."""
ALWAYS = 0xFFFFFFFF
"""A probability of 100 %."""
SEC = 10**9


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


@dataclass(frozen=True)
class Left:
    """A packet that left: when, its number, the flow it is of, its frame's length."""

    time: int
    number: int
    flow: int
    size: int


class Link:
    """eth0, what is sent by it, and its queues."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.eth0 = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])
        self.eth0.add_neighbour("192.0.2.2", "02:00:00:00:00:99")
        self._rtnetlink = kernel.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._flows: dict[int, Socket] = {}
        self._capture = self.eth0.capture()

    def add(
        self,
        kind: str,
        options: bytes = b"",
        *,
        parent: int = ROOT,
        handle: int = 0x10000,
        what: int = NEWQDISC,
    ) -> None:
        """Adds a qdisc or a class; raises OSError."""
        body = struct.pack("=B3xiIII", 0, self.eth0.ifindex, handle, parent, 0)
        body += attribute(1, kind.encode() + b"\0")
        if options:
            body += attribute(2, options)
        # NLM_F_REQUEST | ACK | EXCL | CREATE
        self._rtnetlink.sendto(
            struct.pack("=IHHII", 16 + len(body), what, 0x605, 1, 0) + body, (0, 0)
        )
        (error,) = struct.unpack_from("=i", self._rtnetlink.recv(65536), 16)
        if error:
            raise OSError(-error, f"{kind} refused")

    def send(self, number: int, size: int, flow: int = 0, priority: int | None = None) -> None:
        """A frame of `size` bytes at least; flows are UDP ports."""
        sock = self._flows.get(flow)
        if sock is None:
            sock = self._flows[flow] = self.kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)
            sock.bind(("0.0.0.0", 5000 + flow))
        if priority is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, priority)
        payload = number.to_bytes(4, "big") + bytes(max(0, size - HEADERS - 4))
        sock.sendto(payload, ("192.0.2.2", 9))

    def left(self) -> list[Left]:
        """All that left so far, in its order."""
        return [
            Left(
                frame.time_ns,
                int.from_bytes(frame.data[42:46], "big"),
                int.from_bytes(frame.data[34:36], "big") - 5000,
                len(frame.data),
            )
            for frame in self._capture
            if frame.direction == "tx" and frame.data[36:38] == b"\0\x09"
        ]

    def statistics(self, handle: int = 0x10000) -> dict[str, int]:
        """bytes, packets, drops, backlog (bytes), qlen (packets)."""
        for qdisc in self.kernel.iproute.get_qdiscs(index=self.eth0.ifindex):
            if qdisc["handle"] == handle:
                both = qdisc.get_attr("TCA_STATS2")
                basic = both.get_attr("TCA_STATS_BASIC")
                queue = both.get_attr("TCA_STATS_QUEUE")
                return {
                    "bytes": basic["bytes"],
                    "packets": basic["packets"],
                    "drops": queue["drops"],
                    "backlog": queue["backlog"],
                    "qlen": queue["qlen"],
                }
        raise AssertionError(f"there is no qdisc {handle:#x}")

    def wait_ns(self, nanoseconds: int) -> None:
        self.kernel.instance.run(self.kernel.clock.now + nanoseconds)


def netem(
    delay: int = 0, *, jitter: int = 0, loss: int = 0, limit: int = 1000, gap: int = 0, dup: int = 0
) -> bytes:
    """struct tc_netem_qopt; times in ticks."""
    return struct.pack("=6I", delay, limit, loss, gap, dup, jitter)


def rate(per_second: int) -> bytes:
    """struct tc_ratespec: bytes per second, on a link layer whose lengths are those of frames."""
    return struct.pack("=BBHhHI", 0, 1, 0, 0, 0, per_second)


def tbf(per_second: int, burst: int, limit: int) -> bytes:
    parms = rate(per_second) + rate(0) + struct.pack("=III", limit, 0, 0)
    return attribute(1, parms) + attribute(6, struct.pack("=I", burst))


SIZES = st.one_of(st.integers(46, 1514), st.sampled_from([46, 1514]))
GAPS = st.one_of(st.just(0), st.integers(0, 3_000_000))
TRAFFIC = st.lists(st.tuples(GAPS, SIZES), min_size=1, max_size=25)
"""(nanoseconds since the last packet, length of the frame)."""


@settings(max_examples=40, deadline=None)
@given(traffic=TRAFFIC, ticks=st.integers(1, 200_000))
def test_netem_delays_to_the_nanosecond(
    kernel: Kernel, traffic: list[tuple[int, int]], ticks: int
) -> None:
    """And at the last packet's time the statistics know which ones still wait."""
    link, delay = Link(kernel), ticks * TICK
    link.add("netem", netem(ticks))
    due: list[tuple[int, int, int]] = []
    for number, (gap, size) in enumerate(traffic):
        link.wait_ns(gap)
        due.append((kernel.clock.now + delay, number, size))
        link.send(number, size)
    waiting = [size for time, _, size in due if time > kernel.clock.now]
    gone = [size for time, _, size in due if time <= kernel.clock.now]
    assert link.statistics() == {
        "bytes": sum(gone),
        "packets": len(gone),
        "drops": 0,
        "backlog": sum(waiting),
        "qlen": len(waiting),
    }
    link.wait_ns(delay)
    assert [(p.time, p.number, p.size) for p in link.left()] == due


@settings(max_examples=20, deadline=None)
@given(traffic=TRAFFIC, ticks=st.integers(1000, 100_000), share=st.floats(0.001, 1))
def test_netem_jitter_stays_in_its_bounds(
    kernel: Kernel, traffic: list[tuple[int, int]], ticks: int, share: float
) -> None:
    link, jitter = Link(kernel), max(1, int(ticks * share))
    link.add("netem", netem(ticks, jitter=jitter))
    sent = []
    for number, (gap, size) in enumerate(traffic):
        link.wait_ns(gap)
        sent.append(kernel.clock.now)
        link.send(number, size)
    link.wait_ns((ticks + jitter) * TICK)
    left = link.left()
    assert sorted(packet.number for packet in left) == list(range(len(traffic)))
    for packet in left:
        deviation = packet.time - sent[packet.number] - ticks * TICK
        assert abs(deviation) <= jitter * TICK


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 40),
    limit=st.integers(1, 40),
    loss=st.booleans(),
    ticks=st.integers(1, 10_000),
)
def test_netem_loses_all_or_what_its_limit_says(
    kernel: Kernel, count: int, limit: int, loss: bool, ticks: int
) -> None:
    link = Link(kernel)
    link.add("netem", netem(ticks, loss=ALWAYS if loss else 0, limit=limit))
    for number in range(count):
        link.send(number, 100)
    link.wait_ns(ticks * TICK)
    kept = 0 if loss else min(count, limit)
    assert [packet.number for packet in link.left()] == list(range(kept))
    found = link.statistics()
    assert (found["drops"], found["qlen"], found["backlog"]) == (count - kept, 0, 0)


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 30), gap=st.integers(1, 7), ticks=st.integers(1, 10_000), dup=st.booleans()
)
def test_netem_reorders_each_nth_and_duplicates(
    kernel: Kernel, count: int, gap: int, ticks: int, dup: bool
) -> None:
    """With `gap N`, each Nth overtakes those before it; with `duplicate 100%`, each leaves twice
    at its time."""
    link = Link(kernel)
    link.add("netem", netem(ticks, gap=0 if dup else gap, dup=ALWAYS if dup else 0))
    began = kernel.clock.now
    for number in range(count):
        link.send(number, 100)
    link.wait_ns(ticks * TICK)
    found = sorted((packet.time - began, packet.number) for packet in link.left())
    late = ticks * TICK
    if dup:
        expected = [(late, number) for number in range(count) for _ in (0, 1)]
    else:
        expected = [(0 if (n + 1) % gap == 0 else late, n) for n in range(count)]
    assert found == sorted(expected)


def bounded(left: list[Left], per_second: int, burst: int) -> None:
    """In no window, from one packet to another, more leaves than its time and the burst allow."""
    for first, start in enumerate(left):
        total = 0
        for packet in left[first:]:
            total += packet.size
            # The kernel computes with a rounded reciprocal: some bytes per million.
            allowed = Fraction(per_second * (packet.time - start.time), SEC) + burst
            assert total <= allowed * Fraction(1_000_001, 1_000_000) + 1, (start, packet)


@settings(max_examples=40, deadline=None)
@given(
    traffic=TRAFFIC,
    per_second=st.integers(10_000, 2_000_000),
    burst=st.integers(1514, 6000),
    limit=st.integers(1514, 20_000),
)
def test_tbf_is_a_token_bucket(
    kernel: Kernel, traffic: list[tuple[int, int]], per_second: int, burst: int, limit: int
) -> None:
    """No window exceeds rate and burst, and nothing waits longer than a bucket of tokens says."""
    link = Link(kernel)
    link.add("tbf", tbf(per_second, burst, limit))
    waiting: deque[int] = deque()  # the sizes in the queue, by the model of what left
    tokens, at = Fraction(burst), Fraction(kernel.clock.now)
    expected: list[tuple[Fraction, int]] = []
    dropped = 0
    for number, (gap, size) in enumerate(traffic):
        link.wait_ns(gap)
        now = kernel.clock.now
        while waiting and expected[-len(waiting)][0] <= now:
            waiting.popleft()
        link.send(number, size)
        if sum(waiting) + size > limit:
            dropped += 1
            continue
        # Tokens at the time when its turn comes, and how long they take to be enough.
        begin = max(Fraction(now), at)
        tokens = min(Fraction(burst), tokens + (begin - at) * per_second / SEC)
        leaves = begin + max(Fraction(0), (size - tokens) * SEC / per_second)
        tokens = tokens + (leaves - begin) * per_second / SEC - size
        at = leaves
        expected.append((leaves, number))
        waiting.append(size)
    assert link.statistics()["drops"] == dropped
    link.wait_ns(SEC * 25 * 1514 // per_second + SEC)
    left = link.left()
    bounded(left, per_second, burst)
    assert [packet.number for packet in left] == [number for _, number in expected]
    for packet, (time, _) in zip(left, expected, strict=True):
        assert abs(packet.time - time) < 2000, "nanoseconds, of rounding"
    assert link.statistics()["bytes"] == sum(packet.size for packet in left)


@settings(max_examples=25, deadline=None)
@given(
    traffic=st.lists(st.tuples(GAPS, SIZES, st.integers(0, 1)), min_size=2, max_size=25),
    rates=st.tuples(st.integers(20_000, 1_000_000), st.integers(20_000, 1_000_000)),
    burst=st.integers(1514, 6000),
)
def test_htb_keeps_each_class_and_their_parent_in_bounds(
    kernel: Kernel, traffic: list[tuple[int, int, int]], rates: tuple[int, int], burst: int
) -> None:
    """A class borrows what the other one leaves, but both together never exceed the parent."""
    link = Link(kernel)
    link.add("htb", attribute(2, struct.pack("=5I", 3, 10, 0x10, 0, 0)))
    total = sum(rates)
    link.add("htb", htb(total, total, burst), handle=0x10001, parent=0x10000, what=NEWCLASS)
    # The second class may borrow, the first one not.
    for number, (per_second, ceiling) in enumerate(((rates[0], rates[0]), (rates[1], total))):
        options = htb(per_second, ceiling, burst)
        link.add("htb", options, handle=0x10010 + number, parent=0x10001, what=NEWCLASS)
    for number, (gap, size, which) in enumerate(traffic):
        link.wait_ns(gap)
        link.send(number, size, flow=which, priority=0x10010 + which)
    link.wait_ns(SEC * 25 * 1514 // min(rates) + SEC)
    left = link.left()
    # HTB lets a packet go as long as there is any token: the last one may exceed the burst.
    for which, most in enumerate((rates[0], total)):
        bounded([packet for packet in left if packet.flow == which], most, burst + 1514)
    # What a class may send by its own rate, it sends without asking the parent.
    bounded(left, total, 3 * (burst + 1514))
    for which in (0, 1):
        sent = [number for number, (_, _, flow) in enumerate(traffic) if flow == which]
        assert [packet.number for packet in left if packet.flow == which] == sent
    assert link.statistics()["drops"] == 0


def htb(per_second: int, ceiling: int, burst: int) -> bytes:
    """struct tc_htb_opt: bursts as the time that they take."""

    def ticks(pace: int) -> int:
        return burst * SEC // pace // TICK

    parms = rate(per_second) + rate(ceiling)
    parms += struct.pack("=5I", ticks(per_second), ticks(ceiling), 1514, 0, 0)
    return attribute(1, parms)


LEAVES = {"pfifo": struct.pack("=I", 1000), "fq": b"", "fq_codel": b"", "sfq": b""}


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(LEAVES)),
    traffic=st.lists(st.tuples(GAPS, SIZES, st.integers(0, 4)), min_size=2, max_size=60),
    per_second=st.integers(100_000, 5_000_000),
)
def test_a_flow_keeps_its_order(
    kernel: Kernel, kind: str, traffic: list[tuple[int, int, int]], per_second: int
) -> None:
    """Behind a slow link; what doesn't come out was dropped, and is counted."""
    link = Link(kernel)
    link.add("tbf", tbf(per_second, 2000, 1_000_000))
    link.add(kind, LEAVES[kind], parent=0x10001, handle=0x20000)
    flows: dict[int, list[int]] = defaultdict(list)
    for number, (gap, size, flow) in enumerate(traffic):
        link.wait_ns(gap)
        link.send(number, size, flow=flow)
        flows[flow].append(number)
    link.wait_ns(SEC * 60 * 1514 // per_second + SEC)
    left = link.left()
    bounded(left, per_second, 2000)
    for flow, sent in flows.items():
        came = [packet.number for packet in left if packet.flow == flow]
        assert came == [number for number in sent if number in set(came)], "in order, and once"
        assert kind == "fq_codel" or came == sent, "only CoDel drops what waits long"
    found = link.statistics(0x20000)
    assert found["drops"] == len(traffic) - len(left)
    assert (found["qlen"], found["backlog"]) == (0, 0)


@settings(max_examples=30, deadline=None)
@given(
    traffic=st.lists(st.tuples(GAPS, SIZES, st.integers(0, 2)), min_size=2, max_size=40),
    per_second=st.integers(100_000, 5_000_000),
)
def test_prio_is_strict(
    kernel: Kernel, traffic: list[tuple[int, int, int]], per_second: int
) -> None:
    """No packet leaves while one of a better band waits; within a band they keep their order."""
    link = Link(kernel)
    link.add("tbf", tbf(per_second, 1514, 1_000_000))
    # struct tc_prio_qopt: three bands, and the band of each of the 16 priorities
    link.add("prio", struct.pack("=i16B", 3, *range(3), *[2] * 13), parent=0x10001, handle=0x20000)
    came: dict[int, int] = {}
    for number, (gap, size, band) in enumerate(traffic):
        link.wait_ns(gap)
        came[number] = kernel.clock.now
        link.send(number, size, flow=band, priority=band)
    link.wait_ns(SEC * 40 * 1514 // per_second + SEC)
    left = link.left()
    assert len(left) == len(traffic)
    for position, packet in enumerate(left):
        for later in left[position + 1 :]:
            # The one that left first may have been alone when it was its turn.
            assert later.flow >= packet.flow or came[later.number] >= packet.time
            assert later.flow != packet.flow or later.number > packet.number


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(SIZES, min_size=20, max_size=40),
    pace=st.integers(10_000, 2_000_000),
)
def test_fq_paces_a_socket(kernel: Kernel, sizes: list[int], pace: int) -> None:
    """SO_MAX_PACING_RATE: after each packet a pause of its length, and never less."""
    link = Link(kernel)
    link.add("fq")
    link.send(0, 46)
    link._flows[0].setsockopt(socket.SOL_SOCKET, 47, pace)
    link.wait_ns(SEC)
    for number, size in enumerate(sizes, start=1):
        link.send(number, size)
    link.wait_ns(2 * SEC * sum(sizes) // pace + SEC)
    left = link.left()[1:]
    assert [packet.number for packet in left] == list(range(1, len(sizes) + 1))
    # A flow that was idle has credit for its first packets: fq's initial quantum.
    bounded(left, pace, 10 * 1514 + 1514)
