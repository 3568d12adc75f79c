# SPDX-License-Identifier: GPL-2.0
"""DCE's "udp-simple" (udp-client/udp-server): datagrams between nodes.

What is sent arrives, whole, in order and when the cable allows; what the cable loses is missing,
and nothing else; Ethernet's overhead bounds the rate.
"""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.node import Node

HEADERS = 14 + 20 + 8
OVERHEAD = 8 + 4 + 12
"""Of each frame: preamble, FCS, gap."""


def payload(number: int, size: int) -> bytes:
    """Datagram `number`: its number, and what can be computed from it alone."""
    head = struct.pack("!I", number)
    block = hashlib.sha256(head).digest()
    return (head + block * (size // len(block) + 1))[:size]


class Exchange:
    """One program sends `count` datagrams, another reads until there is silence."""

    def __init__(self, network: Network, count: int, size: int, family: int = 2) -> None:
        self.network, self.count, self.size, self.family = network, count, size, family
        self.got: list[tuple[float, bytes]] = []
        self.sent: list[float] = []

    def receiver(self, process: Process) -> None:
        sock = process.socket(self.family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        sock.bind(("::" if self.family == socket.AF_INET6 else "0.0.0.0", 2000))
        sock.settimeout(5)
        while True:
            try:
                data, _ = sock.recvfrom(1 << 16)
            except TimeoutError:
                return
            self.got.append((self.network.seconds, data))

    def sender(self, process: Process, address: str, interval: float) -> None:
        sock = process.socket(self.family, socket.SOCK_DGRAM)
        for number in range(self.count):
            self.sent.append(self.network.seconds)
            sock.sendto(payload(number, self.size), (address, 2000))
            if interval:
                self.network.sleep(interval)

    @property
    def numbers(self) -> list[int]:
        """Of what arrived; fails for any that isn't as it was sent."""
        found = []
        for _, data in self.got:
            (number,) = struct.unpack_from("!I", data)
            assert data == payload(number, self.size)
            found.append(number)
        return found


@pytest.mark.parametrize(("family", "address"), [(2, "10.0.0.2"), (10, "fd00::2")])
@pytest.mark.parametrize("size", [4, 1472, 20_000])
def test_all_that_is_sent_arrives(
    network: Network, needs_ipv6: Callable[[Node], None], family: int, address: str, size: int
) -> None:
    """Also in fragments: 20,000 bytes are 14 of them."""
    a, b = network.node(), network.node()
    ends = ("10.0.0.1/24", "10.0.0.2/24")
    if family == socket.AF_INET6:
        needs_ipv6(a)
        ends = ("fd00::1/64", "fd00::2/64")
    network.link(a, b, rate="100Mbit", delay="2ms", addresses=ends)
    one = Exchange(network, 50, size, family)
    network.start(one.receiver, on=b)
    network.start(one.sender, address, 0.010, on=a)
    network.run()
    assert one.numbers == list(range(50))


def test_each_arrives_when_the_cables_allow(network: Network) -> None:
    """Serialisation at each hop (store and forward) and the sum of the delays, exactly."""
    rates, delays = [10e6, 2e6, 5e6], [0.001, 0.020, 0.0005]
    nodes = [network.node() for _ in range(4)]
    for a, b, rate, delay in zip(nodes, nodes[1:], rates, delays, strict=False):
        network.link(a, b, rate=rate, delay=delay)
    network.address()
    network.route()
    warm = network.ping(nodes[0], nodes[3], count=1)
    network.run()
    assert warm.lost == 0, "ARP has asked, so that it's not in the figures"
    for size in (100, 1000, 1472):
        one = Exchange(network, 10, size)
        network.start(one.receiver, on=nodes[3])
        network.start(one.sender, "10.0.0.10", 0.1, on=nodes[0])
        network.run()
        bits = (size + HEADERS + OVERHEAD) * 8
        expected = sum(bits / rate for rate in rates) + sum(delays)
        took = [arrived - sent for (arrived, _), sent in zip(one.got, one.sent, strict=True)]
        assert took == [pytest.approx(expected, abs=1e-8)] * 10


def test_exactly_what_is_lost_is_missing(network: Network) -> None:
    a, b = network.chain(2, rate="10Mbit", loss="10%")
    network.address()
    for node, other in ((a, b), (b, a)):  # nobody has to ask by ARP, which might be lost
        node.netdevs["eth0"].add_neighbour(f"10.0.0.{other.index + 1}", other.netdevs["eth0"].mac)
    one = Exchange(network, 2000, 500)
    network.start(one.receiver, on=b)
    network.start(one.sender, "10.0.0.2", 0.001, on=a)
    with network.links[0].capture() as frames:
        network.run()
    numbers = one.numbers
    wire = [frame for frame in frames if len(frame.data) == 500 + HEADERS]
    assert len(wire) == 2000
    lost = [
        struct.unpack_from("!I", frame.data, HEADERS)[0]
        for frame in wire
        if frame.verdict == "lost"
    ]
    assert sorted(numbers + lost) == list(range(2000))
    assert numbers == sorted(numbers), "in order"
    # Binomial: 200, and 13 is its standard deviation.
    assert len(lost) == pytest.approx(200, abs=4 * 13.5)


def test_duplicates_and_late_ones(network: Network) -> None:
    a, b = network.chain(2, rate="10Mbit", delay="5ms", duplicate="20%", reorder="10%",
                         reorder_delay="7ms")  # fmt: skip
    network.address()
    one = Exchange(network, 500, 200)
    network.start(one.receiver, on=b)
    network.start(one.sender, "10.0.0.2", 0.002, on=a)
    before = network.links[0].port(a).sent
    network.run()
    sent = network.links[0].port(a).sent
    numbers = one.numbers
    assert set(numbers) == set(range(500))
    assert len(numbers) - 500 == pytest.approx(100 * 0.9, abs=4 * 9)
    assert sent["doubled"] - before["doubled"] >= len(numbers) - 500
    late = sum(1 for x, y in pairwise(numbers) if y < x)
    assert late == pytest.approx(50, abs=4 * 7)


def test_a_corrupt_datagram_does_not_arrive(network: Network) -> None:
    """UDP's checksum sees any single bit (RFC 768), IP's the header's; the kernel counts them."""
    a, b = network.chain(2, rate="10Mbit")
    network.address()
    warm = network.ping(a, b, count=1)
    network.run()
    assert warm.lost == 0
    network.links[0].set(sender=a, corrupt="30%")
    one = Exchange(network, 500, 300)
    network.start(one.receiver, on=b)
    network.start(one.sender, "10.0.0.2", 0.001, on=a)
    before = network.links[0].port(a).sent["corrupted"]
    with network.links[0].capture() as frames:
        network.run()
    corrupt = network.links[0].port(a).sent["corrupted"] - before
    datagrams = [frame for frame in frames if len(frame.data) == 300 + HEADERS]
    assert len(datagrams) == 500
    numbers = one.numbers
    assert numbers == sorted(set(numbers)), "what arrives is as it was sent, payload() says"
    assert len(numbers) == pytest.approx(350, abs=4 * 10.5)
    assert 500 - len(numbers) <= corrupt
    counted = b.snmp["Udp"]["InCsumErrors"] + b.snmp["Ip"]["InHdrErrors"]
    assert counted > 0.8 * (500 - len(numbers)), "but for flips of address or version"


@pytest.mark.parametrize("size", [18, 500, 1472])
def test_the_rate_is_the_lines(network: Network, size: int) -> None:
    """Offered more than fits, the line carries payload/(payload + headers + overhead) of it."""
    a, b = network.chain(2, rate="10Mbit", queue=50)
    network.address()
    network.run(20)  # IPv6 has looked for neighbours and routers, and is silent
    flow = network.cbr(a, b, rate="12Mbit", size=size, seconds=1)
    network.run()
    expected = 10e6 * size / (size + HEADERS + OVERHEAD)
    assert flow.goodput == pytest.approx(expected, rel=0.002)
    sent = network.links[0].port(a).sent
    assert flow.lost == sent["queue full"] > 0


def test_below_the_rate_nothing_is_lost(network: Network) -> None:
    nodes = network.chain(4, rate="10Mbit", queue=10)
    network.address()
    network.route()
    flow = network.cbr(nodes[0], nodes[-1], rate="9Mbit", size=1472, seconds=1)
    network.run()
    assert flow.lost == 0
    assert flow.goodput == pytest.approx(9e6, rel=0.002)


def test_a_closed_port_is_refused(network: Network) -> None:
    """An ICMP error, of RFC 1122's 4.1.3.1, that a connected socket is told of."""
    nodes = network.chain(3, delay="3ms")
    network.address()
    network.route()

    def client(process: Process) -> float:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(("10.0.0.6", 9))
        sock.send(b"warm")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(10)
        begin = network.seconds
        sock.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(10)
        return network.seconds - begin

    program = network.start(client, on=nodes[0])
    network.run()
    assert program.result == pytest.approx(0.012, abs=1e-6)


def test_broadcast_and_multicast_reach_all(network: Network) -> None:
    nodes = [network.node() for _ in range(4)]
    segment = network.segment(*nodes, rate="100Mbit")
    network.address("10.0.0.0/24")
    assert len(segment.ports) == 4
    heard: list[tuple[str, bytes]] = []

    def member(process: Process, joins: bool) -> None:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 3000))
        if joins:
            group = socket.inet_aton("239.1.2.3") + bytes(4) + struct.pack("=i", 0)
            group = group[:8] + struct.pack("=i", ifindex[process.os.uname().nodename])
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        sock.settimeout(5)
        while True:
            try:
                heard.append((process.os.uname().nodename, sock.recv(100)))
            except TimeoutError:
                return

    def speaker(process: Process) -> None:
        network.sleep(1)
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(b"all", (broadcast, 3000))
        interface = bytes(8) + struct.pack("=i", ifindex["n0"])
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        sock.sendto(b"group", ("239.1.2.3", 3000))

    ifindex = {node.name: node.netdevs["eth0"].ifindex for node in nodes}
    broadcast = "10.0.0.7"
    for node in nodes[1:]:
        network.start(member, node.name != "n3", on=node)
    network.start(speaker, on=nodes[0])
    network.run()
    assert sorted(heard) == [
        ("n1", b"all"), ("n1", b"group"), ("n2", b"all"), ("n2", b"group"), ("n3", b"all"),
    ]  # fmt: skip
