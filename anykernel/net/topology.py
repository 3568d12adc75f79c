# SPDX-License-Identifier: GPL-2.0
"""Well-known shapes of networks, built by a network's own node() and link()."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

from anykernel.errors import UsageError

N = TypeVar("N")
L = TypeVar("L")
N_co = TypeVar("N_co", covariant=True)
L_co = TypeVar("L_co", covariant=True)

EDGE_OPTIONS = (
    "rate", "delay", "jitter", "loss", "duplicate", "reorder", "reorder_delay", "corrupt", "queue",
    "mtu",
)  # fmt: skip
"""Attributes of a graph's edge that are options of a link."""


class Builder(Protocol[N_co, L_co]):
    """What of a network these functions use."""

    @property
    def node(self) -> Callable[..., N_co]:
        """node(name) makes a node."""

    @property
    def link(self) -> Callable[..., L_co]:
        """link(a, b, **options) joins two."""


@dataclass(frozen=True)
class Star(Generic[N]):
    """A node in the middle, one link to each leaf."""

    centre: N
    leaves: list[N]


@dataclass(frozen=True)
class Dumbbell(Generic[N, L]):
    """Two routers, the link between them, and the nodes on either side."""

    left: list[N]
    right: list[N]
    routers: list[N]
    bottleneck: L


@dataclass(frozen=True)
class FatTree(Generic[N]):
    """Nodes by their tier; hosts, edges and aggregations go pod by pod."""

    hosts: list[N]
    edges: list[N]
    aggregations: list[N]
    cores: list[N]


def _size(value: object, least: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{what}, not {value!r}: give a whole number of at least {least}")
    return value


def _nodes(network: Builder[N, L], prefix: str, count: int) -> list[N]:
    return [network.node(f"{prefix}{index}") for index in range(count)]


def chain(network: Builder[N, L], n: int, *, prefix: str = "n", **options: Any) -> list[N]:
    """n0 - n1 - n2 ...: `n` nodes in a row; `options` are those of each link."""
    nodes = _nodes(network, prefix, _size(n, 1, "a chain has one node or more"))
    for a, b in pairwise(nodes):
        network.link(a, b, **options)
    return nodes


def ring(network: Builder[N, L], n: int, *, prefix: str = "n", **options: Any) -> list[N]:
    """A chain of `n` nodes whose last one is linked to the first."""
    _size(n, 3, "a ring has three nodes or more")
    nodes = chain(network, n, prefix=prefix, **options)
    network.link(nodes[-1], nodes[0], **options)
    return nodes


def star(
    network: Builder[N, L], n: int, *, centre: str = "centre", prefix: str = "leaf", **options: Any
) -> Star[N]:
    """A centre and `n` leaves, leaf0, leaf1 ..., each with a link to it."""
    _size(n, 1, "a star has one leaf or more")
    middle = network.node(centre)
    leaves = _nodes(network, prefix, n)
    for leaf in leaves:
        network.link(middle, leaf, **options)
    return Star(middle, leaves)


def dumbbell(
    network: Builder[N, L],
    left: int,
    right: int,
    *,
    bottleneck: Mapping[str, Any] | None = None,
    **options: Any,
) -> Dumbbell[N, L]:
    """left0 ... - router0 - router1 - right0 ...

    `bottleneck` has the options of the link between the routers, `options` are those of all
    others.
    """
    _size(left, 1, "a dumbbell has one node or more on its left")
    _size(right, 1, "a dumbbell has one node or more on its right")
    routers = _nodes(network, "router", 2)
    middle = network.link(*routers, **(bottleneck or {}))
    sides = []
    for name, count, router in (("left", left, routers[0]), ("right", right, routers[1])):
        nodes = _nodes(network, name, count)
        for node in nodes:
            network.link(node, router, **options)
        sides.append(nodes)
    return Dumbbell(sides[0], sides[1], routers, middle)


def fat_tree(network: Builder[N, L], k: int, **options: Any) -> FatTree[N]:
    """The k-ary fat tree: (k/2)^2 cores, and k pods of k/2 aggregations, k/2 edges and (k/2)^2
    hosts.

    An edge is linked to its k/2 hosts and to all aggregations of its pod; the pods' aggregations of
    the same number share k/2 cores.  Names: core0, pod0-agg1, pod0-edge1, host0.
    """
    if _size(k, 2, "a fat tree's k is two or more") % 2:
        raise UsageError(f"a fat tree's k is even, not {k}: give {k - 1} or {k + 1}")
    half = k // 2
    tree: FatTree[N] = FatTree([], [], [], _nodes(network, "core", half * half))
    for pod in range(k):
        aggregations = _nodes(network, f"pod{pod}-agg", half)
        edges = _nodes(network, f"pod{pod}-edge", half)
        for number, aggregation in enumerate(aggregations):
            for core in tree.cores[number * half : (number + 1) * half]:
                network.link(core, aggregation, **options)
        for edge in edges:
            for aggregation in aggregations:
                network.link(aggregation, edge, **options)
            for _ in range(half):
                host = network.node(f"host{len(tree.hosts)}")
                tree.hosts.append(host)
                network.link(edge, host, **options)
        tree.aggregations.extend(aggregations)
        tree.edges.extend(edges)
    return tree


def node_name(node: Hashable) -> str:
    """A graph's node as a name: "a" for "a", "n0" for 0, "0-1" for (0, 1)."""
    if isinstance(node, tuple):
        return "-".join(str(part) for part in node)
    return f"n{node}" if isinstance(node, int) else str(node)


def from_networkx(network: Builder[N, L], graph: Any, **options: Any) -> dict[Hashable, N]:
    """A node for each of a networkx graph's, a link for each edge: {graph's node: node}.

    Of an edge's attributes those that a link knows (EDGE_OPTIONS) go before `options`; others are
    left alone.  Raises UsageError for a directed graph, for an edge from a node to itself, and for
    nodes whose names are the same.
    """
    if not all(hasattr(graph, name) for name in ("is_directed", "nodes", "edges")):
        raise UsageError(f"{graph!r} is no networkx graph")
    if graph.is_directed():
        raise UsageError(
            "a directed graph is no network, as links go both ways: give graph.to_undirected()"
        )
    edges = list(graph.edges(data=True))
    for a, b, _ in edges:
        if a == b:
            raise UsageError(
                f"{a!r} has an edge to itself: take it out by "
                "graph.remove_edges_from(networkx.selfloop_edges(graph))"
            )
    names: dict[str, Hashable] = {}
    for node in graph.nodes:
        other = names.setdefault(node_name(node), node)
        if other is not node:
            raise UsageError(
                f"the nodes {other!r} and {node!r} would both be named {node_name(node)!r}: "
                "rename one by networkx.relabel_nodes()"
            )
    nodes = {node: network.node(name) for name, node in names.items()}
    for a, b, attributes in edges:
        found = {key: attributes[key] for key in EDGE_OPTIONS if key in attributes}
        network.link(nodes[a], nodes[b], **{**options, **found})
    return nodes
