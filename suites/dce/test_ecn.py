# SPDX-License-Identifier: GPL-2.0
"""DCE's ECN case: a router marks where it would drop (RFC 3168, RFC 8290), by the kernel's
qdiscs.

With ECN the bottleneck's queue stays as short as without, but nothing is lost or sent again.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from anykernel.net import Network
    from anykernel.net.link import Link, Port
    from anykernel.net.node import Node
    from anykernel.net.traffic import Bulk

RATE = 10e6
LINE = RATE * 1448 / 1538
FRAME = 1538 * 8 / RATE
RTT = 0.044
SECONDS = 5.0
NEWQDISC, GETQDISC, ROOT = 36, 38, 0xFFFFFFFF
NOT_ECT, ECT0, CE = 0, 2, 3
"""Of the IP header's ECN field (RFC 3168, 5)."""


class Bottleneck(NamedTuple):
    a: Node
    b: Node
    router: Node
    port: Port
    """The router's, where the queue is."""
    link: Link


@pytest.fixture
def bottleneck(network: Network) -> Bottleneck:
    """queue=None: the frames wait in the kernel's qdisc."""
    a, router, b = network.node("a"), network.node("router"), network.node("b")
    network.link(a, router, rate="1Gbit", delay="2ms")
    link = network.link(router, b, rate=RATE, delay="20ms")
    network.address()
    network.route()
    network.run(20)  # IPv6 is silent: what can't be marked is dropped
    return Bottleneck(a, b, router, link.port(router), link)


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def fq_codel(ecn: bool) -> bytes:
    """TCA_FQ_CODEL_ECN; else as it is: target 5 ms, interval 100 ms."""
    return attribute(4, struct.pack("=I", ecn))


def codel(ecn: bool) -> bytes:
    """TCA_CODEL_ECN"""
    return attribute(4, struct.pack("=I", ecn))


def red(ecn: bool) -> bytes:
    """struct tc_red_qopt (thresholds in bytes), its table of idle time, the chance at most (of
    2^32): 2 % between 15 and 45 full frames of average length, all beyond."""
    frame = 1514
    parameters = struct.pack("=IIIBBBB", 200 * frame, 15 * frame, 45 * frame, 5, 0, 10, int(ecn))
    chance = attribute(3, struct.pack("=I", (1 << 32) // 50))
    return attribute(1, parameters) + attribute(2, bytes(range(1, 32)) * 8 + bytes(8)) + chance


QDISCS = {"fq_codel": fq_codel, "codel": codel, "red": red}


def set_qdisc(port: Port, kind: str, options: bytes) -> None:
    """RTM_NEWQDISC by hand: pyroute2 knows no RED."""
    body = struct.pack("=B3xiIII", 0, port.netdev.ifindex, 0x10000, ROOT, 0)
    body += attribute(1, kind.encode() + b"\0") + attribute(2, options)
    message = struct.pack("=IHHII", 16 + len(body), NEWQDISC, 0x1 | 0x4 | 0x400 | 0x100, 1, 0)
    with port.node.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(message + body)
        (error,) = struct.unpack_from("=i", sock.recv(4096), 16)
    if error:
        pytest.skip(f"this kernel has no {kind}: {OSError(-error)}")


def statistics(port: Port) -> dict[str, int]:
    """Drops, the present backlog, and the marks, of the root qdisc."""
    (root,) = [
        one for one in port.node.iproute.get_qdiscs(index=port.netdev.ifindex)
        if one["parent"] == ROOT
    ]  # fmt: skip
    kind, stats = root.get_attr("TCA_KIND"), root.get_attr("TCA_STATS")
    raw = extra(port)
    at = {"fq_codel": 12, "codel": 24, "red": 12}[kind]
    (marks,) = struct.unpack_from("=I", raw, at)
    return {"drops": stats["drop"], "marks": marks, "packets": stats["packets"]}


def extra(port: Port) -> bytes:
    """TCA_XSTATS, the qdisc's own; the kernel answers only who asks for an echo."""
    body = struct.pack("=B3xiIII", 0, port.netdev.ifindex, 0, ROOT, 0)
    message = struct.pack("=IHHII", 16 + len(body), GETQDISC, 0x1 | 0x8, 1, 0)
    with port.node.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.send(message + body)
        answer = sock.recv(1 << 16)
    at = 36
    while at + 4 <= len(answer):
        size, kind = struct.unpack_from("=HH", answer, at)
        if kind == 4:
            return answer[at + 4 : at + size]
        at += size + -size % 4
    raise AssertionError("the qdisc has no statistics of its own")


class Run(NamedTuple):
    flow: Bulk
    marked: list[int]
    """The ECN field of each data packet behind the bottleneck."""
    echoes: int
    """ACKs with the flag ECE."""
    reductions: int
    """Data segments with the flag CWR."""


def transfer(network: Network, net: Bottleneck, ecn: int) -> Run:
    """Reno for some seconds; what was on the wire."""
    from scapy.layers.inet import IP, TCP

    for node in (net.a, net.b):
        node.sysctl["net.ipv4.tcp_ecn"] = ecn
    flow = network.bulk(net.a, net.b, seconds=SECONDS, congestion="reno", sample=0.02)
    with net.link.capture() as frames:
        network.run()
    fields, echoes, reductions = [], 0, 0
    for one in frames:
        packet = IP(one.data[14:]) if one.data[12:14] == b"\x08\0" else None
        if packet is None or TCP not in packet or "S" in packet[TCP].flags:
            continue
        if network.ends(one)[1] == "router":
            if len(one.data) > 66:
                fields.append(packet.tos & 3)
            reductions += "C" in packet[TCP].flags
        else:
            echoes += "E" in packet[TCP].flags
    return Run(flow, fields, echoes, reductions)


def rtts(flow: Bulk) -> list[float]:
    """Seconds, without slow start, sorted."""
    begin = flow.began_ns / 1e9 + 1.5
    return sorted(value / 1e6 for seconds, value in flow.curve("rtt") if seconds > begin)


@contextmanager
def changes(port: Port) -> Iterator[dict[str, int]]:
    found = statistics(port)
    yield found
    for name, value in statistics(port).items():
        found[name] = value - found[name]


@pytest.mark.parametrize("kind", QDISCS)
def test_with_ecn_packets_are_marked(network: Network, bottleneck: Bottleneck, kind: str) -> None:
    set_qdisc(bottleneck.port, kind, QDISCS[kind](True))
    with changes(bottleneck.port) as counted:
        run = transfer(network, bottleneck, 1)
    assert counted["marks"] > 0 and counted["drops"] == 0
    assert run.flow.retransmits == 0
    assert run.marked.count(CE) == counted["marks"], "each mark is on the wire"
    assert run.marked.count(NOT_ECT) == 0
    # Each ACK with ECE counts for all that it acknowledges.
    assert run.flow.info["delivered_ce"] >= run.marked.count(CE)
    assert run.echoes >= run.marked.count(CE) / 2, "the receiver echoes (ECE)"
    assert 0 < run.reductions <= run.marked.count(CE), "the sender reacts (CWR)"
    assert run.flow.goodput > 0.8 * LINE
    # The queue's bound: RED's 45 frames on average; CoDel's target of 5 ms, about.
    bound = RTT + (60 * FRAME if kind == "red" else 0.015)
    found = rtts(run.flow)
    assert RTT < found[len(found) // 2] < bound


@pytest.mark.parametrize("kind", QDISCS)
def test_without_ecn_packets_are_dropped(
    network: Network, bottleneck: Bottleneck, kind: str
) -> None:
    """The same qdisc, but the ends don't speak ECN (tcp_ecn=0)."""
    set_qdisc(bottleneck.port, kind, QDISCS[kind](True))
    with changes(bottleneck.port) as counted:
        run = transfer(network, bottleneck, 0)
    assert counted["marks"] == 0 and counted["drops"] > 0
    assert run.flow.retransmits > 0.9 * counted["drops"], "but for the very last"
    assert set(run.marked) == {NOT_ECT}
    assert run.flow.info["delivered_ce"] == 0 and run.echoes == run.reductions == 0


@pytest.mark.parametrize("kind", QDISCS)
def test_a_qdisc_that_may_not_mark_drops(
    network: Network, bottleneck: Bottleneck, kind: str
) -> None:
    """The ends speak ECN, the router doesn't."""
    set_qdisc(bottleneck.port, kind, QDISCS[kind](False))
    with changes(bottleneck.port) as counted:
        run = transfer(network, bottleneck, 1)
    assert counted["marks"] == 0 and counted["drops"] > 0
    assert run.flow.retransmits > 0.9 * counted["drops"], "but for the very last"
    assert run.marked.count(ECT0) > 0.95 * len(run.marked) and CE not in run.marked
    # RFC 3168, 6.1.5: what is sent again is not ECN-capable.
    assert 0 < run.marked.count(NOT_ECT) <= 1.1 * run.flow.retransmits


def test_a_long_queue_is_what_it_is_for(network: Network, bottleneck: Bottleneck) -> None:
    """The control: a FIFO of 200 frames lets the round trip grow to four times its length."""
    set_qdisc(bottleneck.port, "pfifo", struct.pack("=I", 200))
    run = transfer(network, bottleneck, 1)
    found = rtts(run.flow)
    assert found[len(found) // 2] > 2 * RTT
    assert CE not in run.marked


@pytest.mark.parametrize(
    ("client", "server", "spoken"), [(1, 2, True), (2, 1, False), (1, 0, False)]
)
def test_who_asks_for_ecn_and_who_agrees(
    network: Network, bottleneck: Bottleneck, client: int, server: int, spoken: bool
) -> None:
    """tcp_ecn: 1 asks and agrees, 2 only agrees, 0 neither (RFC 3168, 6.1.1)."""
    from scapy.layers.inet import IP, TCP

    bottleneck.a.sysctl["net.ipv4.tcp_ecn"] = client
    bottleneck.b.sysctl["net.ipv4.tcp_ecn"] = server
    flow: Any = network.bulk(bottleneck.a, bottleneck.b, bytes=50_000)
    with bottleneck.link.capture() as frames:
        network.run()
    assert flow.moved == 50_000
    shakes = [
        str(IP(one.data[14:])[TCP].flags)
        for one in frames
        if one.data[12:14] == b"\x08\0" and one.data[47] & 2
    ]
    assert shakes == ["SEC" if client == 1 else "S", "SAE" if spoken else "SA"]
    data = {one.data[15] & 3 for one in frames if len(one.data) > 100}
    assert data == {ECT0 if spoken else NOT_ECT}
