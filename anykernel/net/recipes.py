# SPDX-License-Identifier: GPL-2.0
"""What a network offers at once: whole topologies, addresses and routes, traffic, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from anykernel.net import addressing, apply, listing, routing, topology, traffic

if TYPE_CHECKING:
    from pathlib import Path

    from anykernel.net.link import Link
    from anykernel.net.network import Network
    from anykernel.net.node import Node
    from anykernel.net.wire import Passage


class Recipes:
    """The part of a Network that is made of nodes, links and programs."""

    @property
    def _network(self) -> Network:
        return cast("Network", self)

    # Topologies and addresses

    def chain(self, n: int, **options: Any) -> list[Node]:
        """n nodes in a row; options are each link's."""
        return topology.chain(self._network, n, **options)

    def ring(self, n: int, **options: Any) -> list[Node]:
        """n nodes in a circle."""
        return topology.ring(self._network, n, **options)

    def star(self, n: int, **options: Any) -> topology.Star[Node]:
        """A centre and n leaves."""
        return topology.star(self._network, n, **options)

    def dumbbell(self, left: int, right: int, **options: Any) -> topology.Dumbbell[Node, Link]:
        """Two stars with a bottleneck between their centres (bottleneck={...}: its options)."""
        return topology.dumbbell(self._network, left, right, **options)

    def fat_tree(self, k: int, **options: Any) -> topology.FatTree[Node]:
        """A k-ary fat tree of switches (which are kernels, too) and k^3/4 hosts."""
        return topology.fat_tree(self._network, k, **options)

    def from_networkx(self, graph: Any, **options: Any) -> dict[Any, Node]:
        """Nodes and links of a graph; edges' attributes of our options' names are options."""
        return topology.from_networkx(self._network, graph, **options)

    def address(
        self, ipv4: str | None = "10.0.0.0/8", ipv6: str | bool | None = None
    ) -> addressing.Plan:
        """Gives an address to every device on a link that has none: a subnet for each link; who
        has which (so do port.addresses and describe(), at any time)."""
        return apply.address(self._network, ipv4, ipv6)

    def route(
        self, *, ecmp: bool = False, cost: Callable[[Link], float] | None = None
    ) -> dict[str, list[routing.Route]]:
        """Sets static routes on every node, shortest paths to all subnets, and lets nodes on
        several links pass packets on; each node's routes.  cost: of a link, 1 if not given."""
        return apply.route(self._network, ecmp=ecmp, cost=cost)

    # Traffic

    def bulk(self, a: Node | str, b: Node | str, **options: Any) -> traffic.Bulk:
        """A TCP connection that sends as fast as it can: see Bulk."""
        return traffic.Bulk(self._network, a, b, **options)

    def cbr(self, a: Node | str, b: Node | str, **options: Any) -> traffic.Cbr:
        """UDP at a constant rate: see Cbr."""
        return traffic.Cbr(self._network, a, b, **options)

    def requests(self, a: Node | str, b: Node | str, **options: Any) -> traffic.Requests:
        """Requests and answers over TCP: see Requests."""
        return traffic.Requests(self._network, a, b, **options)

    def ping(self, a: Node | str, b: Node | str | None = None, **options: Any) -> traffic.Ping:
        """ICMP echo requests to a node, or to `address`: see Ping."""
        return traffic.Ping(self._network, a, b, **options)

    # Words and pictures

    def describe(self) -> str:
        """Its links, their devices and the addresses that these have now, as text."""
        return listing.describe(self._network)

    def plot(self, path: str | Path, **options: Any) -> None:
        """Draws nodes and links: PNG or SVG by the path's suffix.  Options of plot.topology().
        Raises UsageError for other suffixes, and where matplotlib is not installed."""
        from anykernel.net.plot import topology as draw

        draw(self._network, path, **options)

    def plot_packets(self, path: str | Path, passages: Iterable[Passage], **options: Any) -> None:
        """Draws captured frames (of link.capture(), of several links, too) as a sequence
        diagram.  Options of plot.sequence(); raises as plot()."""
        from anykernel.net.passages import steps
        from anykernel.net.plot import sequence

        in_order = sorted(passages, key=lambda passage: passage.time_ns)
        sequence(steps(self._network, in_order), path, **options)
