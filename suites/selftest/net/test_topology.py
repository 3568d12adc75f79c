# SPDX-License-Identifier: GPL-2.0
"""Shapes of networks, against networkx's own generators."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.net import topology
from suites.selftest.net.builder import Link, Recorder


@pytest.fixture
def network() -> Recorder:
    return Recorder()


@given(st.integers(1, 20))
def test_chain(n: int) -> None:
    network = Recorder()
    nodes = topology.chain(network, n, rate="1Gbit")
    assert nodes == list(network.nodes) == [f"n{index}" for index in range(n)]
    assert networkx.is_isomorphic(network.graph, networkx.path_graph(n))
    assert all(link.options == {"rate": "1Gbit"} for link in network.links)
    assert [(link.a, link.b) for link in network.links] == list(pairwise(nodes))


@given(st.integers(3, 20))
def test_ring(n: int) -> None:
    network = Recorder()
    nodes = topology.ring(network, n, prefix="r", delay="1ms")
    assert nodes[-1] == f"r{n - 1}"
    assert networkx.is_isomorphic(network.graph, networkx.cycle_graph(n))
    assert all(link.options == {"delay": "1ms"} for link in network.links)


@given(st.integers(1, 20))
def test_star(n: int) -> None:
    network = Recorder()
    star = topology.star(network, n, loss=0.1)
    assert star.centre == "centre" and star.leaves == [f"leaf{index}" for index in range(n)]
    assert networkx.is_isomorphic(network.graph, networkx.star_graph(n))
    assert dict(network.graph.degree)[star.centre] == n


@given(st.integers(1, 9), st.integers(1, 9))
def test_dumbbell(left: int, right: int) -> None:
    network = Recorder()
    made = topology.dumbbell(network, left, right, bottleneck={"rate": "10Mbit"}, rate="1Gbit")
    assert made.left == [f"left{index}" for index in range(left)]
    assert made.right == [f"right{index}" for index in range(right)]
    assert made.bottleneck == Link("router0", "router1", {"rate": "10Mbit"})
    others = [link for link in network.links if link is not made.bottleneck]
    assert all(link.options == {"rate": "1Gbit"} for link in others)
    degrees = dict(network.graph.degree)
    assert [degrees[router] for router in made.routers] == [left + 1, right + 1]
    assert networkx.is_tree(network.graph) and len(degrees) == left + right + 2
    removed = network.graph
    removed.remove_edge(*made.routers)
    assert {frozenset(part) for part in networkx.connected_components(removed)} == {
        frozenset([*made.left, "router0"]),
        frozenset([*made.right, "router1"]),
    }


def test_the_bottleneck_may_be_like_any_link(network: Recorder) -> None:
    assert topology.dumbbell(network, 1, 1).bottleneck.options == {}


@pytest.mark.parametrize("k", [2, 4, 6, 8])
def test_fat_tree(network: Recorder, k: int) -> None:
    tree = topology.fat_tree(network, k, rate="1Gbit")
    half = k // 2
    assert len(tree.cores) == half**2
    assert len(tree.aggregations) == len(tree.edges) == k * half
    assert len(tree.hosts) == k**3 // 4
    graph = network.graph
    assert graph.number_of_edges() == len(network.links) == 3 * k**3 // 4
    assert Counter(dict(graph.degree).values()) == Counter({1: k**3 // 4, k: half**2 + k * k})
    # Any two hosts of different pods have as many shortest paths as there are cores.
    paths = list(networkx.all_shortest_paths(graph, tree.hosts[0], tree.hosts[-1]))
    assert {len(path) for path in paths} == {7} and len(paths) == len(tree.cores)
    assert networkx.diameter(graph) == 6
    # A pod's aggregations and edges are a complete bipartite graph.
    pod = graph.subgraph(tree.aggregations[:half] + tree.edges[:half])
    assert networkx.is_isomorphic(pod, networkx.complete_bipartite_graph(half, half))


def test_names_of_a_fat_tree(network: Recorder) -> None:
    topology.fat_tree(network, 4)
    assert {"core3", "pod0-edge1", "pod3-agg0", "host15"} <= set(network.nodes)


@pytest.mark.parametrize(
    ("build", "args", "what"),
    [
        (topology.chain, (0,), "at least 1"),
        (topology.chain, (True,), "at least 1"),
        (topology.chain, (2.0,), "at least 1"),
        (topology.ring, (2,), "at least 3"),
        (topology.star, (0,), "at least 1"),
        (topology.dumbbell, (0, 1), "on its left"),
        (topology.dumbbell, (1, "1"), "on its right"),
        (topology.fat_tree, (0,), "at least 2"),
        (topology.fat_tree, (5,), "give 4 or 6"),
    ],
)
def test_impossible_sizes(network: Recorder, build: Any, args: Any, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        build(network, *args)
    assert not network.nodes, "nothing is half built"


@given(st.integers(0, 12), st.floats(0, 1), st.integers(0, 99))
def test_any_graph(n: int, probability: float, seed: int) -> None:
    network = Recorder()
    graph = networkx.gnp_random_graph(n, probability, seed)
    nodes = topology.from_networkx(network, graph)
    assert nodes == {index: f"n{index}" for index in range(n)}
    found: set[frozenset[Any]] = {frozenset((link.a, link.b)) for link in network.links}
    assert found == {frozenset((nodes[a], nodes[b])) for a, b in graph.edges}


def test_attributes_of_edges(network: Recorder) -> None:
    graph: networkx.MultiGraph[str] = networkx.MultiGraph()
    graph.add_edge("a", "b", rate="1Gbit", colour="red", weight=3, queue=10)
    graph.add_edge("a", "b", loss=0.5)
    assert topology.from_networkx(network, graph, loss=0.1, mtu=9000) == {"a": "a", "b": "b"}
    assert [link.options for link in network.links] == [
        {"rate": "1Gbit", "queue": 10, "loss": 0.1, "mtu": 9000},
        {"loss": 0.5, "mtu": 9000},
    ]


def test_names_of_graphs_nodes(network: Recorder) -> None:
    grid = networkx.grid_2d_graph(2, 2)
    assert topology.from_networkx(network, grid)[0, 1] == "0-1"


def test_graphs_that_are_no_networks(network: Recorder) -> None:
    with pytest.raises(UsageError, match="to_undirected"):
        topology.from_networkx(network, networkx.DiGraph([(1, 2)]))
    with pytest.raises(UsageError, match="2 has an edge to itself"):
        topology.from_networkx(network, networkx.Graph([(1, 2), (2, 2)]))
    with pytest.raises(UsageError, match="'n1' and 1 would both be named 'n1'"):
        topology.from_networkx(network, networkx.Graph([("n1", 1)]))
    with pytest.raises(UsageError, match="is no networkx graph"):
        topology.from_networkx(network, [(1, 2)])
    assert not network.nodes
