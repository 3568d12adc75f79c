# SPDX-License-Identifier: GPL-2.0
"""Nodes and the links between them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anykernel.errors import UsageError
from anykernel.net import units
from anykernel.net.plot.figure import (
    GREY,
    HUB,
    INK,
    LOST,
    NODE,
    NORMAL,
    PAPER,
    SMALL,
    TITLE,
    canvas,
    figure,
    matplotlib_or_error,
    suffix_of,
    width_of,
)
from anykernel.net.plot.layout import enough, part, stress

WIDEST = 60.0
"""Inches."""


def link_label(link: Any) -> str:
    """A link's rate, delay and loss, on lines of their own: "100Mbit\\n1ms"."""
    cable = getattr(link, "cable", link)
    rate, delay, loss = (getattr(cable, name, None) for name in ("rate", "delay", "loss"))
    lines = [
        units.rate_text(units.rate(rate)) if rate else "",
        units.duration_text(units.duration(delay)) if delay else "",
        f"{units.probability(loss) * 100:.4g}% loss" if loss else "",
    ]
    return "\n".join(line for line in lines if line)


class _Shape:
    """A network as vertices (nodes, then links of several ports) and edges between them."""

    def __init__(self, network: Any) -> None:
        self.nodes = list(network.nodes)
        self.labels = list(self.nodes)
        self.edges: list[tuple[int, int, str, bool]] = []
        index = {name: number for number, name in enumerate(self.nodes)}
        texts = [link_label(link) for link in network.links]
        common = len(texts) > 2 and len(set(texts)) == 1 and texts[0]
        self.caption = f"all links: {common}".replace("\n", ", ") if common else ""
        for link, text in zip(network.links, texts, strict=True):
            ends = [index[port.node.name] for port in link.ports]
            text = "" if self.caption else text
            up = getattr(link, "is_up", True)
            if link.kind == "p2p" and len(ends) == 2:
                self.edges.append((ends[0], ends[1], text, up))
                continue
            hub = len(self.labels)
            self.labels.append("\n".join(part for part in (link.name, text) if part))
            self.edges += [(end, hub, "", up) for end in ends]

    def place(self, positions: Mapping[str, tuple[float, float]] | None) -> Any:
        import numpy as np

        if positions is None:
            return stress(len(self.labels), [(a, b) for a, b, _, _ in self.edges])
        missing = [name for name in self.nodes if name not in positions]
        if missing:
            raise UsageError(f"positions has none for {', '.join(missing)}")
        found = [positions[name] for name in self.nodes]
        for hub in range(len(self.nodes), len(self.labels)):
            around = [found[a] for a, b, _, _ in self.edges if b == hub]
            middle = np.mean(around, 0) if around else (0, 0)
            found.append((float(middle[0]), float(middle[1])))
        return np.array(found, dtype=float)


BEND = 0.5
"""How far links side by side are apart, in their lengths; the curves come half as far."""


def _spread(place: Any, sizes: Sequence[tuple[float, float]], edges: Sequence[Any]) -> Any:
    """`place` in inches, so that labels neither touch each other nor hide an edge's."""
    scale = 0.8
    total = Counter(frozenset(edge[:2]) for edge in edges)
    for a, b, text, _ in edges:
        x, y = (max(float(value), 1e-6) for value in abs(place[a] - place[b]))
        lines = text.count("\n") + 1 if text else 0
        wide = (sizes[a][0] + sizes[b][0]) / 2 + width_of(text, SMALL) + 0.2
        high = (sizes[a][1] + sizes[b][1]) / 2 + 0.14 * lines + 0.2
        scale = max(scale, min(wide / x, high / y))
        if total[frozenset((a, b))] > 1:
            scale = max(scale, 2 * (0.16 * lines + 0.1) / BEND / math.hypot(x, y))
    extent = float(max(place.max(0) - place.min(0))) or 1.0
    boxes = [(width + 0.16, height + 0.16) for width, height in sizes]
    # Most are parted by a larger scale, which keeps the shape; a few in a throng by pushing.
    scale = max(scale, enough(place, boxes, 0.6))
    return part(place * min(scale, WIDEST / extent), boxes)


def tiers(*rows: Sequence[Any]) -> dict[str, tuple[float, float]]:
    """Positions of nodes (or names) in rows, from top to bottom, each spread over the same width:
    ``tiers(tree.cores, tree.aggregations, tree.edges, tree.hosts)``."""
    width = max((len(row) for row in rows), default=0)
    height = max(1.5, width / 8)
    return {
        node if isinstance(node, str) else node.name: (
            (number + 0.5) * width / len(row),
            -line * height,
        )
        for line, row in enumerate(rows)
        for number, node in enumerate(row)
    }


def topology(
    network: Any,
    path: str | Path,
    *,
    positions: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
) -> None:
    """Draws nodes and links, with rate, delay and loss where links differ in them.

    `positions` places nodes by hand: {name: (x, y)}, in any unit.  Raises UsageError for a network
    without nodes, a path that is neither .png nor .svg, and where matplotlib is not installed.
    """
    suffix_of(path)
    matplotlib_or_error()
    shape = _Shape(network)
    if not shape.nodes:
        raise UsageError("a network without nodes has no picture")
    sizes = [
        (width_of(label, NORMAL) + 0.2, 0.17 * (label.count("\n") + 1) + 0.13)
        for label in shape.labels
    ]
    place = shape.place(positions)
    place = _spread(place, sizes, shape.edges)
    margin = 0.3 + max(size[0] for size in sizes) / 2
    left, bottom = (float(value) for value in place.min(0))
    right, top = (float(value) for value in place.max(0))
    left, right, bottom, top = left - margin, right + margin, bottom - 0.45, top + 0.45
    head = 0.35 if title else 0.0
    foot = 0.25 if shape.caption else 0.0
    least = max(width_of(shape.caption, SMALL), width_of(title, TITLE)) + 0.4
    wider = max(0.0, least - (right - left)) / 2
    left, right, bottom, top = left - wider, right + wider, bottom - foot, top + head
    with figure(path, right - left, top - bottom) as made:
        axes = canvas(made, left, bottom, right - left, top - bottom)
        _draw_edges(axes, shape, place)
        for number, (label, (x, y)) in enumerate(zip(shape.labels, place, strict=True)):
            hub = number >= len(shape.nodes)
            box = {
                "boxstyle": "square,pad=0.4" if hub else "round,pad=0.45",
                "facecolor": HUB if hub else NODE,
                "edgecolor": GREY,
                "linewidth": 0.9,
            }
            axes.text(x, y, label, ha="center", va="center", size=NORMAL, bbox=box, zorder=4)
        if title:
            axes.text((left + right) / 2, top - 0.25, title, ha="center", va="center", size=TITLE)
        if shape.caption:
            axes.text(
                (left + right) / 2, bottom + 0.2, shape.caption,
                ha="center", va="center", size=SMALL, color=GREY,
            )  # fmt: skip


def _draw_edges(axes: Any, shape: _Shape, place: Any) -> None:
    """Lines and their labels; links side by side bend away from each other."""
    from matplotlib.patches import FancyArrowPatch

    total = Counter(frozenset(edge[:2]) for edge in shape.edges)
    seen: Counter[frozenset[int]] = Counter()
    for a, b, text, up in shape.edges:
        pair = frozenset((a, b))
        bend = BEND * (seen[pair] - (total[pair] - 1) / 2) * (1 if a < b else -1)
        seen[pair] += 1
        start, end = place[a], place[b]
        axes.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle="-", connectionstyle=f"arc3,rad={bend}",
                linewidth=1.3, color=GREY if up else LOST, shrinkA=0, shrinkB=0,
                linestyle="-" if up else (0, (4, 3)), zorder=1,
            )
        )  # fmt: skip
        if text:
            # A quadratic curve's middle lies half as far out as its control point.
            across = (end[1] - start[1], start[0] - end[0])
            x = (start[0] + end[0]) / 2 + bend * across[0] / 2
            y = (start[1] + end[1]) / 2 + bend * across[1] / 2
            box = {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none"}
            axes.text(
                x, y, text, ha="center", va="center", size=SMALL, color=INK, bbox=box, zorder=3,
                linespacing=1.1,
            )  # fmt: skip
