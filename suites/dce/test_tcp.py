# SPDX-License-Identifier: GPL-2.0
"""DCE's "tcp-simple" (tcp-client/tcp-server): streams between nodes.

Every byte arrives, in order, whatever the cable does to frames; a transfer is as fast as Ethernet
allows, and a round trip takes what the cables' delays and rates add up to.
"""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.kernel.tcpinfo import tcp_info

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.node import Node

LINE = 1448 / 1538
"""Payload of a full segment with timestamps (1500 - 20 - 32), of its time on Ethernet (with
headers, preamble, FCS and gap)."""


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class Transfer:
    """Sends bytes over one connection; what arrived, and what the sender's TCP_INFO says."""

    def __init__(self, network: Network, a: Node, b: Node, address: str, data: bytes) -> None:
        self.network, self.address, self.data = network, address, data
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.got = hashlib.sha256()
        self.size = 0
        self.info: dict[str, int] = {}
        self.began = self.ended = 0.0
        network.start(self.server, on=b)
        network.start(self.client, on=a)

    def server(self, process: Process) -> None:
        listener = process.socket(self.family)
        listener.bind(("::" if self.family == socket.AF_INET6 else "0.0.0.0", 5000))
        listener.listen()
        connection, _ = listener.accept()
        while part := connection.recv(1 << 18):
            self.got.update(part)
            self.size += len(part)
            self.ended = self.network.seconds
        connection.close()
        listener.close()

    def client(self, process: Process) -> None:
        sock = process.socket(self.family)
        sock.connect((self.address, 5000))
        self.began = self.network.seconds
        sock.sendall(self.data)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b"", "the server closes when it has all"
        self.info = tcp_info(sock)
        sock.close()

    def check(self) -> None:
        """All that was sent has arrived, as it was sent."""
        assert self.size == len(self.data)
        assert self.got.digest() == hashlib.sha256(self.data).digest()


@pytest.mark.parametrize("address", ["10.0.0.6", "fd00:0:0:1::2"])
def test_all_bytes_arrive_in_order(
    network: Network, needs_ipv6: Callable[[Node], None], address: str
) -> None:
    a, r, b = network.chain(3, rate="100Mbit", delay="1ms")
    if ":" in address:
        needs_ipv6(a)
    network.address(ipv6=":" in address)
    network.route()
    assert len(r.ports) == 2
    network.run(3)  # the router's link-local address is no duplicate, and may be used
    transfer = Transfer(network, a, b, address, content(2_000_000))
    network.run()
    transfer.check()
    assert transfer.info["total_retrans"] == 0


VERDICT = {"loss": "lost", "duplicate": "doubled", "reorder": "late", "corrupt": "corrupted"}
TROUBLE: list[dict[str, Any]] = [
    {"loss": "2%"},
    {"duplicate": "5%"},
    {"reorder": "5%", "reorder_delay": "3ms"},
    {"corrupt": "2%"},
    {"jitter": "2ms", "loss": "1%", "duplicate": "1%", "reorder": "1%", "corrupt": "1%"},
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda one: "-".join(one))
def test_whatever_the_cable_does(network: Network, trouble: dict[str, Any]) -> None:
    """A segment that is lost or corrupt is sent again; one that comes twice counts once."""
    a, b = network.chain(2, rate="20Mbit", delay="5ms", **trouble)
    network.address()
    data = content(400_000)
    transfer = Transfer(network, a, b, "10.0.0.2", data)
    network.run(limit=600)
    transfer.check()
    sent = network.links[0].port(a).sent
    assert all(sent[VERDICT[option]] for option in trouble if option in VERDICT), "it happened"
    gone = sent["lost"] + sent["corrupted"]
    if gone:
        assert transfer.info["total_retrans"] >= 1
        assert transfer.info["data_segs_out"] > len(data) // 1448
    if "corrupt" in trouble:
        counted = sum(node.snmp["Tcp"]["InCsumErrors"] for node in (a, b))
        assert counted > 0, "and each was seen by the checksum"


@pytest.mark.parametrize("hops", [1, 3])
def test_goodput_is_the_lines(network: Network, hops: int) -> None:
    nodes = network.chain(hops + 1, rate="100Mbit", delay="100us")
    network.address()
    network.route()
    flow = network.bulk(nodes[0], nodes[-1], bytes=20_000_000)
    network.run()
    assert flow.moved == 20_000_000 and flow.retransmits == 0
    # All but the handshake and slow start, which are some round trips of 1.6 s.
    assert flow.goodput == pytest.approx(100e6 * LINE, rel=0.005)
    assert flow.goodput < 100e6 * LINE


def test_without_timestamps_a_segment_has_more(network: Network) -> None:
    a, b = network.chain(2, rate="100Mbit", delay="100us")
    network.address()
    a.sysctl["net.ipv4.tcp_timestamps"] = 0
    flow = network.bulk(a, b, bytes=10_000_000)
    network.run()
    assert flow.goodput == pytest.approx(100e6 * 1460 / 1538, rel=0.005)
    assert flow.info["snd_mss"] == 1460


def test_a_round_trip_is_delays_and_serialisation(network: Network) -> None:
    rates, delays = [10e6, 1e6, 100e6], [0.010, 0.030, 0.002]
    nodes = [network.node() for _ in range(4)]
    for x, y, rate, delay in zip(nodes, nodes[1:], rates, delays, strict=False):
        network.link(x, y, rate=rate, delay=delay)
    network.address()
    network.route()
    flow = network.requests(nodes[0], nodes[-1], count=20, request=100, response=1000, interval=1)
    network.run()

    def one_way(size: int) -> float:
        return sum((size + 52 + 14 + 24) * 8 / rate for rate in rates) + sum(delays)

    expected = one_way(100) + one_way(1000)
    # The first waits behind the handshake's last ACK.
    assert flow.latencies[0] > expected
    assert flow.latencies[1:] == [pytest.approx(expected, abs=1e-7)] * 19


@pytest.mark.parametrize("delay", [0.001, 0.050, 0.300])
def test_the_connection_knows_its_round_trip(network: Network, delay: float) -> None:
    a, b = network.chain(2, delay=delay)
    network.address()
    transfer = Transfer(network, a, b, "10.0.0.2", content(50_000))
    network.run()
    transfer.check()
    assert transfer.info["min_rtt"] == pytest.approx(2e6 * delay, abs=100)
    assert transfer.info["rtt"] == pytest.approx(2e6 * delay, rel=0.1)


def test_a_window_bounds_the_rate(network: Network) -> None:
    """RFC 9293: no more than a window per round trip, however fast the line."""
    a, b = network.chain(2, rate="1Gbit", delay="25ms")
    network.address()
    b.sysctl["net.ipv4.tcp_rmem"] = "4096 65536 65536"
    flow = network.bulk(a, b, bytes=2_000_000)
    network.run()
    # tcp_adv_win_scale: about half of the buffer is the window.
    assert 0.3 * 65536 * 8 / 0.050 < flow.goodput <= 65536 * 8 / 0.050


def test_slow_start_doubles(network: Network) -> None:
    """RFC 6928 and 5681: 10 segments, then twice as many in each round trip."""
    a, b = network.chain(2, delay="50ms")
    network.address()
    rtt, begin = 100_000_000, 0
    with network.links[0].capture() as frames:
        flow = network.bulk(a, b, bytes=500_000, congestion="reno")
        network.run()
        begin = flow.began_ns
    data = [one for one in frames if one.data[23:24] == b"\6" and one.length > 200]
    rounds = [sum(1 for x in data if begin + k * rtt <= x.time_ns + 1000 < begin + (k + 1) * rtt)
              for k in range(4)]  # fmt: skip
    sizes = [sum(-(-(one.length - 66) // 1448) for one in data
                 if begin + k * rtt <= one.time_ns + 1000 < begin + (k + 1) * rtt)
             for k in range(4)]  # fmt: skip
    assert rounds == sizes, "no frame is longer than a segment"
    assert sizes == [10, 20, 40, 80]


def test_lost_segments_are_sent_again_at_once(network: Network) -> None:
    """A rule takes the 50th data segment: three duplicate ACKs bring it back within two round
    trips (RFC 5681, 3.2), without a timeout."""
    from anykernel.net.link import DROP, PASS, Frame, Verdict

    a, b = network.chain(2, rate="10Mbit", delay="10ms")
    network.address()
    seen: list[bytes] = []
    gone: list[tuple[int, bytes]] = []

    def decide(frame: Frame) -> Verdict:
        if len(frame.data) > 1000:
            seen.append(frame.data)
            if len(seen) == 50:
                gone.append((frame.time_ns, frame.data[38:42]))
                return DROP
        return PASS

    with network.links[0].rule(decide, sender=a), network.links[0].capture() as frames:
        transfer = Transfer(network, a, b, "10.0.0.2", content(300_000))
        network.run()
    transfer.check()
    ((time_ns, sequence),) = gone
    again = [one for one in frames if one.data[38:42] == sequence and one.length > 1000]
    assert len(again) == 1
    # The queue of what was sent before it, three segments after it, a round trip.
    assert 20e6 < again[0].time_ns - time_ns < 100e6
    assert transfer.info["total_retrans"] == 1 and transfer.info["bytes_retrans"] == 1448
    assert a.snmp["TcpExt"]["TCPTimeouts"] == 0


def test_many_connections_at_once(network: Network) -> None:
    """20 connections between 5 nodes through one switch; none gets another's bytes."""
    nodes = [network.node() for _ in range(5)]
    network.switch(*nodes, rate="100Mbit", delay="10us")
    network.address("10.0.0.0/24")
    got: dict[tuple[int, int], bytes] = {}

    def server(process: Process, own: int) -> None:
        listener = process.socket()
        listener.bind(("0.0.0.0", 80))
        listener.listen()
        for _ in range(4):
            connection, _ = listener.accept()
            with connection.makefile("rb") as stream:
                other, data = stream.read(1)[0], stream.read()
            got[other, own] = data

    def client(process: Process, own: int, other: int) -> None:
        sock = process.socket()
        sock.connect((f"10.0.0.{other + 1}", 80))
        sock.sendall(bytes([own]) + content(100_000, 5 * own + other))
        sock.close()

    for own, node in enumerate(nodes):
        network.start(server, own, on=node)
        for other in range(5):
            if other != own:
                network.start(client, own, other, on=node)
    network.run()
    assert got.keys() == {(x, y) for x in range(5) for y in range(5) if x != y}
    for (own, other), data in got.items():
        assert data == content(100_000, 5 * own + other)
