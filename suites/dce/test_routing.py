# SPDX-License-Identifier: GPL-2.0
"""Dynamic routing in networks of kernels; stands for the original suite's case "quagga" (ripngd on
every node).

Property: routers that run RIPng (RFC 2080; anykernel/net/ripng.py) in place of quagga find, in
networks of up to 36 kernels, ways between all pairs that are as long as the graph's shortest
paths (networkx says how long); after a link's end and after its return they do so again, within a
time that follows from the protocol's timers.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

import pytest

from anykernel.kernel.rtnl import Rtnl
from anykernel.net import ripng
from anykernel.net.distances import INFINITY, Timers

if TYPE_CHECKING:
    import networkx as nx

    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.link import Link
    from anykernel.net.node import Node

if not TYPE_CHECKING:
    nx = pytest.importorskip("networkx", reason="networkx: pip install pytest-anykernel[dce]")

PORT = 4000
HOP_LIMIT = 64
READY = 3.0
"""Seconds after which all link-local addresses are there: a random second at most, one of
duplicate address detection."""
TIMERS = Timers()


def address(node: Node) -> str:
    return f"fd00::{node.index + 1:x}"


def start(network: Network) -> dict[str, ripng.Router]:
    """Each node has an address of its own, on lo; links have none but link-local ones."""
    for node in network.nodes.values():
        with Rtnl(node) as rtnl:
            rtnl.add_address(1, f"{address(node)}/128")
            rtnl.up(1)
    return ripng.start(network, network.nodes.values(), TIMERS)


def distances(network: Network, nodes: list[Node]) -> dict[tuple[str, str], int]:
    """The number of links that a datagram passed from one node to another, for all pairs that can
    reach each other: each kernel on the way takes one from its hop limit."""
    found: dict[tuple[str, str], int] = {}
    names = {address(node): node.name for node in nodes}

    def receive(process: Process, node: Node) -> None:
        with process.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            sock.bind((address(node), PORT))
            sock.settimeout(1)
            with suppress(TimeoutError):
                while True:
                    _, ((_, _, limit),), _, (source, *_) = sock.recvmsg(64, 64)
                    hops = HOP_LIMIT - struct.unpack("=i", limit)[0] + 1
                    assert found.setdefault((names[source], node.name), hops) == hops

    def send(process: Process, node: Node) -> None:
        with process.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
            sock.bind((address(node), 0))
            for other in nodes:
                if other is not node:
                    with suppress(OSError):  # there is no route
                        sock.sendto(b"?", (address(other), PORT))

    for node in nodes:
        network.start(receive, node, on=node)
    for node in nodes:
        network.start(send, node, on=node, at=network.seconds + 0.1)
    network.run()
    return found


def graph(network: Network) -> nx.Graph[str]:
    """The links that are up."""
    made: nx.Graph[str] = nx.Graph()
    made.add_nodes_from(network.nodes)
    for link in network.links:
        if link.is_up:
            one, other = link.ports
            made.add_edge(one.node.name, other.node.name)
    return made


def shortest(network: Network, nodes: list[Node]) -> dict[tuple[str, str], int]:
    """What distances() finds in the best case."""
    lengths = dict(nx.all_pairs_shortest_path_length(graph(network)))
    names = [node.name for node in nodes]
    return {
        (one, other): lengths[one][other]
        for one, other in permutations(names, 2)
        if other in lengths[one]
    }


def settle(network: Network) -> None:
    """As long as the timers allow."""
    network.run(TIMERS.bound(nx.diameter(graph(network))))


def routes(node: Node) -> set[str]:
    """Networks to which its kernel has a route of RIPng's."""
    found = node.iproute.get_routes(family=socket.AF_INET6, proto=ripng.PROTOCOL)
    return {route.get_attr("RTA_DST") for route in found}


def way(node: Node, target: Node) -> Link:
    """The link over which a node reaches another."""
    (route,) = (
        route
        for route in node.iproute.get_routes(family=socket.AF_INET6, proto=ripng.PROTOCOL)
        if route.get_attr("RTA_DST") == address(target)
    )
    ports = {port.netdev.ifindex: port for port in node.ports}
    return ports[route.get_attr("RTA_OIF")].link


@pytest.mark.parametrize("shape", ["ring", "fat tree"])
def test_a_link_ends_and_comes_back(network: Network, shape: str) -> None:
    """All pairs (of the ring's nodes, of the tree's hosts) reach each other on shortest paths: at
    first, without a link, and with it again; and with nothing new, nothing changes."""
    if shape == "ring":
        ends = network.ring(10, delay="1ms")
        here, there = ends[3], ends[4]
    else:
        tree = network.fat_tree(4, delay="100us")
        ends = tree.hosts
        assert (len(network.nodes), len(network.links), len(ends)) == (36, 48, 16)
        here, there = tree.edges[0], ends[-1]
    routers = start(network)
    network.run(READY)
    settle(network)
    whole = shortest(network, ends)
    assert distances(network, ends) == whole

    victim = way(here, there)
    victim.down()
    cut = distances(network, ends)
    assert cut.items() < whole.items(), "the way of some was over that link, and now they know none"
    settle(network)
    around = shortest(network, ends)
    assert around.keys() == whole.keys()
    assert (around == whole) == (shape == "fat tree"), "a tree has other ways of the same length"
    assert distances(network, ends) == around

    victim.up()
    settle(network)
    assert distances(network, ends) == whole
    changed = {name: router.changed for name, router in routers.items()}
    network.run(2 * (TIMERS.update + TIMERS.spread))
    assert changed == {name: router.changed for name, router in routers.items()}


def test_a_link_that_silently_loses_everything_times_out(network: Network) -> None:
    """No device says that something is wrong: neighbours' silence does, but only after the
    timeout of routes, counted from the last regular update."""
    ring = network.ring(6, delay="1ms")
    start(network)
    network.run(READY)
    settle(network)
    whole = shortest(network, ring)
    assert distances(network, ring) == whole
    dead = network.links[0]
    dead.set(loss=1.0)
    began = network.seconds
    network.run(TIMERS.timeout - TIMERS.update - TIMERS.spread - 1)
    assert distances(network, ring).items() < whole.items(), "too early for anybody to know"
    network.run(began + TIMERS.timeout - network.seconds)
    settle(network)
    dead.is_up = False  # for graph(); the devices still think otherwise
    assert distances(network, ring) == shortest(network, ring)


def test_what_is_gone_is_not_counted_to_infinity_for_long(network: Network) -> None:
    """A network that nobody is connected to any more is out of all kernels in time, even though
    the routers that knew it form a cycle; after the time for garbage it is forgotten."""
    ring = network.ring(5, delay="1ms")
    stub = network.node("stub")
    cable = network.link(ring[0], stub, delay="1ms")
    routers = start(network)
    network.run(READY)
    settle(network)
    assert all(address(stub) in routes(node) for node in ring)
    cable.down()
    network.run(TIMERS.bound(nx.diameter(graph(network).subgraph(node.name for node in ring))))
    others = {address(node) for node in ring}
    for node in ring:
        assert routes(node) == others - {address(node)}
    assert routes(stub) == set()
    network.run(TIMERS.garbage)
    for name, router in routers.items():
        assert len(router.table) == (1 if name == "stub" else 5)


def test_what_is_said_on_the_wire(network: Network) -> None:
    """As RFC 2080 says: from a link-local address, port 521, to ff02::9, with a hop limit of 255;
    no more often than allowed; and what is reached through a neighbour is told it with a metric of
    infinity (split horizon with poisoned reverse)."""
    from scapy.contrib.ripng import RIPng, RIPngEntry
    from scapy.layers.inet import UDP
    from scapy.layers.inet6 import IPv6

    from anykernel.kernel.netdev import to_scapy

    a, b, c = network.chain(3, delay="1ms")
    start(network)
    network.run(READY)
    settle(network)
    with network.links[0].capture() as passages:
        network.run(10 * TIMERS.update)
    times: dict[str, list[int]] = {}
    said: dict[str, dict[str, int]] = {}
    for passage in passages:
        packet = to_scapy(passage.data)
        if UDP not in packet:
            continue
        ip, message = packet[IPv6], RIPng(bytes(packet[UDP].payload))
        assert (ip.dst, ip.hlim, packet[UDP].sport, packet[UDP].dport) == ("ff02::9", 255, 521, 521)
        assert ip.src.startswith("fe80::") and (message.cmd, message.ver) == (2, 1)
        times.setdefault(ip.src, []).append(passage.time_ns)
        while isinstance(message.payload, RIPngEntry):
            message = message.payload
            assert message.prefixlen == 128
            said.setdefault(ip.src, {})[message.prefix_or_nh] = message.metric
    first, second = sorted(said)  # a's device has the lower MAC address
    own, others = address(a), (address(b), address(c))
    assert said[first] == {own: 1, **dict.fromkeys(others, INFINITY)}
    assert said[second] == {own: INFINITY, others[0]: 1, others[1]: 2}
    for moments in times.values():
        gaps = [(later - earlier) / 1e9 for earlier, later in pairwise(moments)]
        least, most = TIMERS.update - TIMERS.spread, TIMERS.update + TIMERS.spread
        assert least - 1e-3 <= min(gaps) and max(gaps) <= most + 1e-3
        assert len(set(gaps)) > 1, "neighbours don't fall into step"
