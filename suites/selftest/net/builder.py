# SPDX-License-Identifier: GPL-2.0
"""A network that only writes down what is built: no kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import networkx

from anykernel.net.addressing import End, Wire


@dataclass(frozen=True)
class Link:
    a: str
    b: str
    options: dict[str, Any]


@dataclass
class Recorder:
    """Nodes are their names; devices are counted per node, as a kernel does."""

    nodes: dict[str, int] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)

    def node(self, name: str | None = None) -> str:
        name = f"n{len(self.nodes)}" if name is None else name
        assert name not in self.nodes
        self.nodes[name] = 0
        return name

    def link(self, a: str, b: str, **options: Any) -> Link:
        self.segment(a, b)
        self.links.append(Link(a, b, options))
        return self.links[-1]

    def segment(self, *nodes: str, cost: float = 1) -> Wire:
        ends = []
        for node in nodes:
            ends.append(End(node, f"eth{self.nodes[node]}"))
            self.nodes[node] += 1
        self.wires.append(Wire(f"link{len(self.wires)}", tuple(ends), cost))
        return self.wires[-1]

    @property
    def graph(self) -> networkx.Graph[str]:
        graph: networkx.Graph[str] = networkx.Graph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from((link.a, link.b) for link in self.links)
        return graph
