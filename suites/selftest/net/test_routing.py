# SPDX-License-Identifier: GPL-2.0
"""Plans of routes: packets are walked along them, and networkx says how long the way may be."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.net import topology
from anykernel.net.addressing import End, Plan, Wire, plan_addresses
from anykernel.net.routing import Route, plan_routes
from suites.selftest.net.builder import Recorder

Routes = Mapping[str, Sequence[Route]]


class Walker:
    """Forwards as a router does: its own subnets, else the longest prefix."""

    def __init__(self, wires: Sequence[Wire], plan: Plan, routes: Routes) -> None:
        self.routes = routes
        self.wire = {end: wire for wire in wires for end in wire.ends}
        self.plan = plan
        self.owner = {item.ip: end for end, items in plan.items() for item in items}

    def attached(self, node: str, to: Any) -> bool:
        ends = (end for end in self.plan if end.node == node)
        return any(to in item.network for end in ends for item in self.plan[end])

    def costs(self, node: str, to: Any, most: int = 60) -> set[float]:
        """Of all the ways to a node that is on the address's wire; none without a route."""
        assert most, "a loop"
        if self.attached(node, to):
            return {0}
        fits = [route for route in self.routes.get(node, ()) if to in route.network]
        found: set[float] = set()
        if fits:
            best = max(fits, key=lambda route: route.network.prefixlen)
            for hop in best.hops:
                owner = self.owner[hop.via]
                assert hop.end.node == node
                assert self.wire[owner] == self.wire[hop.end], "a next hop is a neighbour"
                rest = self.costs(owner.node, to, most - 1)
                assert rest or not best.network.prefixlen, "only a default may lead nowhere"
                found |= {self.wire[hop.end].cost + cost for cost in rest}
        return found


@st.composite
def networks(draw: st.DrawFn) -> Recorder:
    """Random nodes on random wires of two or three ports, also parallel ones, with costs."""
    network = Recorder()
    nodes = [network.node() for _ in range(draw(st.integers(2, 8)))]
    member = st.lists(st.sampled_from(nodes), min_size=2, max_size=3, unique=True)
    costs = st.sampled_from([1, 1, 1, 2, 0.1, 0.3])
    for ends, cost in draw(st.lists(st.tuples(member, costs), min_size=1, max_size=12)):
        network.segment(*ends, cost=cost)
    return network


def shortest(network: Recorder) -> dict[tuple[str, str], float]:
    """From each node to the nearest one on each wire, where there is a way."""
    graph: networkx.MultiGraph[str] = networkx.MultiGraph()
    graph.add_nodes_from(network.nodes)
    for wire in network.wires:
        for a, b in itertools.combinations((end.node for end in wire.ends), 2):
            graph.add_edge(a, b, weight=wire.cost)
    lengths = dict(networkx.all_pairs_dijkstra_path_length(graph))
    return {
        (node, wire.name): min(lengths[node][end.node] for end in wire.ends)
        for node in network.nodes
        for wire in network.wires
        if wire.ends[0].node in lengths[node]
    }


@given(networks(), st.booleans(), st.sampled_from([(4,), (6,), (4, 6)]))
def test_every_way_is_a_shortest_one(
    network: Recorder, ecmp: bool, versions: tuple[int, ...]
) -> None:
    v4 = "10.0.0.0/8" if 4 in versions else None
    plan = plan_addresses(network.wires, v4, 6 in versions)
    routes = plan_routes(network.wires, plan, ecmp=ecmp)
    assert routes == plan_routes(network.wires, plan, ecmp=ecmp)
    walker = Walker(network.wires, plan, routes)
    least = shortest(network)
    for node in network.nodes:
        for wire in network.wires:
            for end in wire.ends:
                for item in plan[end]:
                    found = walker.costs(node, item.ip)
                    assert bool(found) == ((node, wire.name) in least)
                    assert all(abs(cost - least[node, wire.name]) < 1e-9 for cost in found)


def build(shape: Any, *args: Any, ipv6: bool = False) -> tuple[Recorder, Plan]:
    network = Recorder()
    shape(network, *args)
    return network, plan_addresses(network.wires, ipv6=ipv6)


def lines(routes: Sequence[Route]) -> list[str]:
    return [
        " ".join([str(r.network), *(f"via {hop.via} {hop.end.device}" for hop in r.hops)])
        for r in routes
    ]


def test_a_chain() -> None:
    network, plan = build(topology.chain, 4)
    routes = plan_routes(network.wires, plan)
    assert {node: lines(found) for node, found in routes.items()} == {
        "n0": ["0.0.0.0/0 via 10.0.0.2 eth0"],
        "n1": ["10.0.0.8/30 via 10.0.0.6 eth1"],
        "n2": ["10.0.0.0/30 via 10.0.0.5 eth0"],
        "n3": ["0.0.0.0/0 via 10.0.0.9 eth0"],
    }


def test_neighbouring_subnets_become_one() -> None:
    network, plan = build(topology.chain, 10)
    routes = plan_routes(network.wires, plan)
    assert lines(routes["n1"]) == [
        "10.0.0.8/29 via 10.0.0.6 eth1",
        "10.0.0.16/28 via 10.0.0.6 eth1",
        "10.0.0.32/30 via 10.0.0.6 eth1",
    ]


def test_two_nodes_need_no_routes() -> None:
    network, plan = build(topology.chain, 2)
    assert plan_routes(network.wires, plan) == {"n0": [], "n1": []}


def test_ties_go_by_order_or_to_all() -> None:
    network, plan = build(topology.ring, 4)
    routes = plan_routes(network.wires, plan)
    # Of n0, the links to n1 and n3 come first and last; n1 - n2 and n2 - n3 are one hop away.
    assert lines(routes["n0"]) == [
        "10.0.0.4/30 via 10.0.0.2 eth0",
        "10.0.0.8/30 via 10.0.0.13 eth1",
    ]
    network, plan = build(topology.fat_tree, 4, ipv6=True)
    first = plan_routes(network.wires, plan)["pod0-edge0"]
    every = plan_routes(network.wires, plan, ecmp=True)["pod0-edge0"]
    assert {len(route.hops) for route in first} == {1}
    assert {len(route.hops) for route in every} == {1, 2}
    host = next(route for route in every if plan[End("host15", "eth0")][0].ip in route.network)
    assert [hop.end.device for hop in host.hops] == ["eth0", "eth1"]


def test_costs() -> None:
    network, plan = build(topology.ring, 3)
    dear = [network.wires[0]._replace(cost=5), *network.wires[1:]]
    (route,) = plan_routes(dear, plan)["n0"]
    assert lines([route]) == ["10.0.0.4/30 via 10.0.0.9 eth1"]
    for cost in (0, -1, float("nan"), float("inf"), True):
        with pytest.raises(UsageError, match="the cost of link0 must be a number above 0"):
            plan_routes([network.wires[0]._replace(cost=cost)], plan)


def test_floats_of_equal_sum_are_equal() -> None:
    """0.1 + 0.2 against 0.2 + 0.1."""
    network = Recorder()
    for name in "abcd":
        network.node(name)
    for a, b, cost in (("a", "b", 0.1), ("b", "d", 0.2), ("a", "c", 0.2), ("c", "d", 0.1)):
        network.segment(a, b, cost=cost)
    network.node("x")
    network.segment("d", "x")
    plan = plan_addresses(network.wires)
    last = plan_routes(network.wires, plan, ecmp=True)["a"][-1]
    assert last.network == ipaddress.ip_network("10.0.0.16/30") and len(last.hops) == 2


def test_hosts_on_a_segment_pass_nothing_on() -> None:
    network = Recorder()
    for name in ("a", "b", "r", "s", "far"):
        network.node(name)
    network.segment("a", "b", "r", "s")
    network.segment("r", "far")
    plan = plan_addresses(network.wires)
    routes = plan_routes(network.wires, plan)
    assert lines(routes["a"]) == lines(routes["b"]) == ["0.0.0.0/0 via 10.0.0.3 eth0"]
    assert lines(routes["r"]) == []


def test_parts_that_do_not_meet() -> None:
    network = Recorder()
    topology.chain(network, 3)
    topology.chain(network, 3, prefix="m")
    plan = plan_addresses(network.wires)
    routes = plan_routes(network.wires, plan)
    assert [len(routes[f"n{index}"]) for index in range(3)] == [1, 0, 1]


def test_rings_that_do_not_meet() -> None:
    network = Recorder()
    topology.ring(network, 4)
    topology.ring(network, 4, prefix="m")
    plan = plan_addresses(network.wires)
    routes = plan_routes(network.wires, plan, ecmp=True)
    assert {len(found) for found in routes.values()} == {2}
    theirs = plan[End("m0", "eth0")][0].ip
    assert not any(theirs in route.network for route in routes["n0"])


def test_neighbours_without_a_subnet_in_common() -> None:
    network, _ = build(topology.chain, 3)
    n0, n1, m1, n2 = (end for wire in network.wires for end in wire.ends)
    plan = {n0: ["10.0.0.1/24"], n1: ["10.0.1.1/24"], m1: ["10.0.2.1/24"], n2: ["10.0.2.2/24"]}
    routes = plan_routes(network.wires, plan)
    assert {node: lines(found) for node, found in routes.items()} == {
        "n0": [],
        "n1": [],
        "n2": ["0.0.0.0/0 via 10.0.2.1 eth0"],
    }


def test_without_addresses_there_are_no_routes() -> None:
    network, _ = build(topology.chain, 3)
    assert plan_routes(network.wires, {}) == {"n0": [], "n1": [], "n2": []}


def test_a_subnet_within_an_own_one_needs_no_route() -> None:
    """Two prefix lengths by hand on one wire; another node routes to both."""
    network = Recorder()
    topology.chain(network, 4)
    hand: dict[End, list[str]] = {
        End("n0", "eth0"): ["192.0.2.1/24"],
        End("n1", "eth0"): ["192.0.2.2/25"],
    }
    plan = plan_addresses(network.wires, given=hand)
    routes = plan_routes(network.wires, plan)
    assert lines(routes["n0"]) == ["0.0.0.0/0 via 192.0.2.2 eth0"]
    assert lines(routes["n1"]) == [
        "10.0.0.4/30 via 10.0.0.2 eth1",
        "192.0.2.0/24 via 192.0.2.1 eth0",
    ]
    assert lines(routes["n2"]) == [
        "192.0.2.0/24 via 10.0.0.1 eth0",
        "192.0.2.0/25 via 10.0.0.1 eth0",
    ]
