# SPDX-License-Identifier: GPL-2.0
"""Plans of static routes: the shortest paths from every node to every subnet."""

from __future__ import annotations

import heapq
import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from anykernel.errors import UsageError
from anykernel.kernel.rtnl import Address, Interface, Network
from anykernel.net.addressing import End, Given, Wire, parse

Block = tuple[int, int]
"""A network as integers: its first address and its prefix length."""


class Hop(NamedTuple):
    """The next router's address, and the own port that it is behind."""

    via: Address
    end: End


class Route(NamedTuple):
    """A network and its next hops: one, or several of equal cost."""

    network: Network
    hops: tuple[Hop, ...]


class _Neighbour(NamedTuple):
    cost: int
    node: str
    hop: Hop


def plan_routes(
    wires: Sequence[Wire], addresses: Given, *, ecmp: bool = False
) -> dict[str, list[Route]]:
    """For each node the routes to every subnet that it isn't attached to, IPv4's first.

    The sum of wires' costs is the least; of equal ones the first in the order of the node's ports
    (the order of wires) is taken, or with `ecmp` all.  Neighbouring subnets with the same next hops
    become one network, and a node on only one wire gets a default route where one next hop leads
    to everything.  Only nodes with addresses on two or more wires pass packets on; unreachable
    subnets have no route.  Raises UsageError for a cost that isn't above zero.
    """
    plan = parse(addresses)
    costs = _whole([wire.cost for wire in wires], wires)
    routes: dict[str, list[Route]] = {end.node: [] for wire in wires for end in wire.ends}
    for version in (4, 6):
        own = {
            end: found
            for end, items in plan.items()
            if (found := [a for a in items if a.version == version and not a.ip.is_link_local])
        }
        if own:
            family = _Family(wires, costs, own, 32 if version == 4 else 128)
            for node, planned in routes.items():
                planned += family.routes(node, ecmp)
    return routes


def _whole(costs: Sequence[float], wires: Sequence[Wire]) -> list[int]:
    """The same costs in a unit that makes them whole: sums of floats would break ties."""
    for wire in wires:
        cost = wire.cost
        if isinstance(cost, bool) or not (math.isfinite(cost) and cost > 0):
            raise UsageError(f"the cost of {wire.name} must be a number above 0, not {cost!r}")
    exact = [Fraction(cost) for cost in costs]
    unit = math.lcm(*(cost.denominator for cost in exact))
    return [int(cost * unit) for cost in exact]


def _block(network: Network) -> Block:
    return int(network.network_address), network.prefixlen


class _Family:
    """The graph of one IP version."""

    def __init__(
        self,
        wires: Sequence[Wire],
        costs: Sequence[int],
        own: Mapping[End, Sequence[Interface]],
        bits: int,
    ) -> None:
        self._bits = bits
        self._neighbours: dict[str, list[_Neighbour]] = {}
        self._attached: dict[str, set[Block]] = {}
        self._owners: dict[Block, list[str]] = {}
        wired: dict[str, set[str]] = {}
        for wire, cost in zip(wires, costs, strict=True):
            ends = [end for end in dict.fromkeys(wire.ends) if end in own]
            for end in ends:
                wired.setdefault(end.node, set()).add(wire.name)
                blocks = self._attached.setdefault(end.node, set())
                for address in own[end]:
                    block = _block(address.network)
                    if block not in blocks:
                        blocks.add(block)
                        self._owners.setdefault(block, []).append(end.node)
            for end in ends:
                subnets = [address.network for address in own[end]]
                found = self._neighbours.setdefault(end.node, [])
                for other in ends:
                    via = _reached(own[other], subnets) if other.node != end.node else None
                    if via is not None:
                        found.append(_Neighbour(cost, other.node, Hop(via, end)))
        self._owners = dict(sorted(self._owners.items()))
        self._nested = self._find_nested()
        self._routers = {node for node, names in wired.items() if len(names) > 1}
        # What leads further: other neighbours pass nothing on.
        self._paths = {
            node: [n for n in found if n.node in self._routers]
            for node, found in self._neighbours.items()
        }

    def routes(self, node: str, ecmp: bool) -> list[Route]:
        paths = self._paths.get(node, ())
        if node not in self._attached or not paths:
            return []
        if node not in self._routers and len(paths) == 1:
            beyond = self._attached[paths[0].node] - self._attached[node]
            return [self._route((0, 0), (paths[0].hop,))] if beyond else []
        found = self._reachable(node, ecmp)
        if node not in self._routers and len(set(found.values())) == 1:
            return [self._route((0, 0), next(iter(found.values())))]
        merged = self._merge(found)
        return [self._route(block, hops) for block, hops in sorted(merged)]

    def _route(self, block: Block, hops: tuple[Hop, ...]) -> Route:
        made = ipaddress.IPv4Network if self._bits == 32 else ipaddress.IPv6Network
        return Route(made(block), hops)

    def _search(self, source: str) -> tuple[dict[str, int], dict[str, int]]:
        """Dijkstra: for each node the distance, and the first hops (a bit for each neighbour of
        the source that lies on a shortest path)."""
        distance = {source: 0}
        first = {source: 0}
        done: set[str] = set()
        heap = [(0, 0, source)]
        pushed = 0
        while heap:
            length, _, node = heapq.heappop(heap)
            if node in done:
                continue
            done.add(node)
            if node != source and node not in self._routers:
                continue
            for number, step in enumerate(self._neighbours.get(node, ())):
                total = length + step.cost
                known = distance.get(step.node)
                if known is not None and total > known:
                    continue
                bits = 1 << number if node == source else first[node]
                if total == known:
                    first[step.node] |= bits
                else:
                    distance[step.node], first[step.node] = total, bits
                    pushed += 1
                    heapq.heappush(heap, (total, pushed, step.node))
        return distance, first

    def _reachable(self, source: str, ecmp: bool) -> dict[Block, tuple[Hop, ...]]:
        distance, first = self._search(source)
        attached = self._attached[source]
        steps = self._neighbours[source]
        known: dict[int, tuple[Hop, ...]] = {}
        found = {}
        for block, owners in self._owners.items():
            if block in attached or (block in self._nested and self._within(block, attached)):
                continue
            least = -1
            bits = 0
            for owner in owners:
                length = distance.get(owner, -1)
                if length < 0 or 0 <= least < length:
                    continue
                bits = first[owner] | (bits if length == least else 0)
                least = length
            if least < 0:
                continue
            if not ecmp:
                bits &= -bits
            if bits not in known:
                hops = (steps[index].hop for index in range(len(steps)) if bits >> index & 1)
                known[bits] = tuple(dict.fromkeys(hops))
            found[block] = known[bits]
        return found

    def _find_nested(self) -> set[Block]:
        """The blocks that lie in a larger one; there are none but by hand."""
        nested = set()
        end = -1
        for start, length in self._owners:  # in order: a larger one comes before those in it
            if start < end:
                nested.add((start, length))
            end = max(end, start + (1 << (self._bits - length)))
        return nested

    def _within(self, block: Block, attached: Iterable[Block]) -> bool:
        """Whether a block lies in a larger one on an own wire."""
        start, length = block
        return any(
            outer < length and (start ^ first) >> (self._bits - outer) == 0
            for first, outer in attached
        )

    def _merge(self, found: Mapping[Block, tuple[Hop, ...]]) -> list[tuple[Block, tuple[Hop, ...]]]:
        """Two halves with the same next hops become the whole, unless that is a subnet itself."""
        stack: list[tuple[Block, tuple[Hop, ...]]] = []
        for item in sorted(found.items()):
            stack.append(item)
            while len(stack) > 1:
                ((low, length), hops), ((high, other), others) = stack[-2:]
                half = 1 << (self._bits - length)
                whole = (low, length - 1)
                if (length != other or low ^ half != high or low & half or hops is not others
                        or whole in self._owners):  # fmt: skip
                    break
                stack[-2:] = [(whole, hops)]
        return stack


def _reached(theirs: Sequence[Interface], subnets: Sequence[Network]) -> Address | None:
    """The first of a neighbour's addresses that is in a subnet of ours."""
    for address in theirs:
        if any(address.ip in subnet for subnet in subnets):
            return address.ip
    return None
