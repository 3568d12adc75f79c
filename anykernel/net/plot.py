# SPDX-License-Identifier: GPL-2.0
"""Pictures of networks: who is linked to whom, who sent what when, and curves over virtual time.

PNG or SVG by the path's suffix; the same input gives the same bytes.  matplotlib is imported when
the first picture is drawn, and its settings are put back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from anykernel.errors import UsageError
from anykernel.net import units
from anykernel.net.layout import enough, part, stress

INK, GREY, PALE, PAPER = "#22272e", "#7a828c", "#d5d9de", "#ffffff"
NODE, HUB, LOST = "#e8eff7", "#f4ecd8", "#c0392b"
# Okabe and Ito's, which the colour-blind can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d5d5d")
SMALL, NORMAL, TITLE = 8.0, 9.0, 11.0
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}
WIDEST = 60.0
"""Inches."""
MOST_STEPS = 1000


class Step(NamedTuple):
    """A packet in a sequence diagram; `received_ns`: when it arrived, the next row if unknown."""

    time_ns: int
    sender: str
    receiver: str
    label: str
    lost: bool = False
    received_ns: int | None = None


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in METADATA:
        raise UsageError(f"{str(path)!r} is no picture: the name must end in .png or .svg")
    return suffix


@contextmanager
def _figure(path: str | Path, width: float, height: float, **options: Any) -> Iterator[Any]:
    """A figure of so many inches that is written to `path` at the end of the with block."""
    matplotlib = _matplotlib()
    from matplotlib.figure import Figure

    suffix = _suffix(path)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"svg.hashsalt": "anykernel", "font.size": NORMAL, "text.color": INK}
        )
        figure = Figure(figsize=(width, height), dpi=120, facecolor=PAPER, **options)
        yield figure
        figure.savefig(Path(path), format=suffix[1:], metadata=METADATA[suffix])


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install pytest-anykernel[plot]") from error
    return matplotlib


def _canvas(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes over the whole figure whose unit is an inch."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(left, left + width)
    axes.set_ylim(bottom, bottom + height)
    axes.set_axis_off()
    return axes


def _width(text: str, size: float) -> float:
    """Of the longest line, in inches."""
    if not text:
        return 0.0
    from matplotlib.textpath import TextPath

    lines = [line for line in text.split("\n") if line.strip()]
    return max(
        (TextPath((0, 0), line, size=size).get_extents().x1 / 72 for line in lines), default=0
    )


# Topology


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
        wide = (sizes[a][0] + sizes[b][0]) / 2 + _width(text, SMALL) + 0.2
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
    _suffix(path)
    _matplotlib()
    shape = _Shape(network)
    if not shape.nodes:
        raise UsageError("a network without nodes has no picture")
    sizes = [
        (_width(label, NORMAL) + 0.2, 0.17 * (label.count("\n") + 1) + 0.13)
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
    least = max(_width(shape.caption, SMALL), _width(title, TITLE)) + 0.4
    wider = max(0.0, least - (right - left)) / 2
    left, right, bottom, top = left - wider, right + wider, bottom - foot, top + head
    with _figure(path, right - left, top - bottom) as figure:
        axes = _canvas(figure, left, bottom, right - left, top - bottom)
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


# Sequence

ROW = 0.24
"""Inches between two packets that are sent; less would let their labels touch."""
FLIGHT, LONGEST = 0.09, 0.6


def _rows(steps: Sequence[Any]) -> tuple[list[float], list[float], float]:
    """How far down each packet leaves and arrives, in inches, and where the last one does.

    Time flows down, not to scale: between two moments is at least what labels need and at most
    LONGEST, and in between it is in proportion.
    """
    arrivals = [getattr(step, "received_ns", None) for step in steps]
    moments = sorted(
        [(step.time_ns, 1, number) for number, step in enumerate(steps)]
        + [(arrival, 0, number) for number, arrival in enumerate(arrivals) if arrival is not None]
    )
    gaps = sorted(b[0] - a[0] for a, b in pairwise(moments) if b[0] > a[0])
    usual = gaps[len(gaps) // 2] if gaps else 1
    sent, received = [0.0] * len(steps), [0.0] * len(steps)
    arrived: dict[str, float] = {}
    down = last = 0.0
    previous = moments[0][0]
    for time, is_sent, number in moments:
        proportional = min((time - previous) / usual, 4) * ROW / 2
        down += min(LONGEST, max(proportional, FLIGHT if time > previous else 0.0))
        previous = time
        if is_sent:
            # The label above the arrow must hide neither the last one nor the head of an arrival.
            down = max(down, last + ROW, arrived.get(steps[number].sender, down - ROW) + ROW)
            last = down
            sent[number] = down
            if arrivals[number] is None:
                received[number] = arrived[steps[number].receiver] = down + ROW / 2
        else:
            received[number] = arrived[steps[number].receiver] = down
    for number, down in enumerate(sent):  # whoever says that it arrived before it was sent
        received[number] = max(received[number], down)
    return sent, received, max(*sent, *received)


def sequence(
    frames: Iterable[Any],
    path: str | Path,
    *,
    nodes: Sequence[str] | None = None,
    title: str = "",
) -> None:
    """Draws who sent what to whom, time going down: a vertical line for each of `nodes` (from left
    to right; in order of appearance if not given), an arrow for each frame.

    A frame has time_ns, sender, receiver, label and perhaps lost and received_ns: a Step, or
    anything with these attributes.  Raises UsageError for none or more than 1,000 of them, for a
    name that isn't in `nodes`, a path that is neither .png nor .svg, and without matplotlib.
    """
    _suffix(path)
    _matplotlib()
    steps = sorted(frames, key=lambda step: step.time_ns)
    if not 0 < len(steps) <= MOST_STEPS:
        raise UsageError(
            f"a sequence diagram has 1 to {MOST_STEPS} frames, not {len(steps)}: choose some"
        )
    seen = dict.fromkeys(name for step in steps for name in (step.sender, step.receiver))
    names = list(seen if nodes is None else nodes)
    unknown = [name for name in seen if name not in names]
    if unknown:
        raise UsageError(f"{unknown[0]!r} sends or receives, but is not among nodes={names!r}")
    widest = max(_width(step.label, SMALL) for step in steps)
    lane = max(1.3, 2 * widest + 0.3, *(_width(name, NORMAL) + 0.5 for name in names))
    lane = min(lane, 6.0)
    times = [_clock(step.time_ns) for step in steps]
    margin = max(_width(text, SMALL) for text in times) + 0.35
    side = max(0.35, lane / 4)
    sent, received, depth = _rows(steps)
    width = margin + 2 * side + lane * max(len(names) - 1, 1)
    head = 0.85 if title else 0.55
    height = depth + head + 0.3
    with _figure(path, width, height) as figure:
        axes = _canvas(figure, 0, -(depth + 0.3), width, height)
        lanes = {name: margin + side + lane * number for number, name in enumerate(names)}
        if title:
            axes.text(width / 2, head - 0.2, title, ha="center", va="center", size=TITLE)
        for name, x in lanes.items():
            axes.plot([x, x], [0.12, -(depth + 0.2)], color=PALE, linewidth=1.4, zorder=1)
            box = {"boxstyle": "round,pad=0.4", "facecolor": NODE, "edgecolor": GREY}
            axes.text(x, 0.28, name, ha="center", va="center", size=NORMAL, bbox=box, zorder=5)
        for step, text, start, end in zip(steps, times, sent, received, strict=True):
            axes.text(margin - 0.2, -start, text, ha="right", va="center", size=SMALL, color=GREY)
            _arrow(axes, step, lanes[step.sender], lanes[step.receiver], start, end)


def _clock(ns: int) -> str:
    return f"{ns / 1e6:,.3f} ms" if ns < 10**9 else f"{ns / 1e9:,.6f} s"


def _arrow(axes: Any, step: Any, x: float, to: float, start: float, end: float) -> None:
    """The packet's line, with its label above the sender's end."""
    lost = bool(getattr(step, "lost", False))
    colour = LOST if lost else COLOURS[0]
    way = 1 if to >= x else -1
    if lost:  # halfway, to a cross
        to, end = (x + to) / 2, (start + end) / 2
        axes.plot([to], [-end], marker="x", markersize=6, markeredgewidth=1.6, color=LOST, zorder=4)
    if to == x:
        to = x + 0.25  # to itself
    axes.annotate(
        "", xy=(to, -end), xytext=(x, -start), zorder=3,
        arrowprops={
            "arrowstyle": "-" if lost else "-|>,head_width=0.16,head_length=0.32",
            "color": colour, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0,
            "linestyle": (0, (4, 2)) if lost else "-",
        },
    )  # fmt: skip
    box = {"boxstyle": "square,pad=0.05", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.9}
    axes.text(
        x + 0.1 * way, -start + 0.025, step.label, ha="left" if way > 0 else "right", va="bottom",
        size=SMALL, color=LOST if lost else INK, bbox=box, zorder=4,
    )  # fmt: skip


# Curves


def curves(
    series: Mapping[str, Iterable[tuple[float, float]]],
    path: str | Path,
    *,
    ylabel: str = "",
    title: str = "",
    step: bool = False,
) -> None:
    """Draws values over virtual time: {label: [(seconds, value), ...]}.

    With `step` a value holds until the next one (as a congestion window does).  Raises UsageError
    for no series, a path that is neither .png nor .svg, and without matplotlib.
    """
    _suffix(path)
    given = {label: list(points) for label, points in series.items()}
    if not given:
        raise UsageError("curves need at least one series: {label: [(seconds, value), ...]}")
    with _figure(path, 8, 4.2, layout="constrained") as figure:
        axes = figure.add_subplot()
        styles = cycle(COLOURS)
        for number, (label, points) in enumerate(given.items()):
            times, values = ([point[axis] for point in points] for axis in (0, 1))
            axes.plot(
                times, values, label=label, color=next(styles), linewidth=1.5,
                linestyle=("-", "--", ":", "-.")[number // len(COLOURS) % 4],
                drawstyle="steps-post" if step else "default",
                marker="o" if len(points) == 1 else None, markersize=4,
            )  # fmt: skip
        axes.set_xlabel("virtual time (s)")
        axes.set_ylabel(ylabel)
        axes.grid(color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=GREY, labelcolor=INK)
        axes.margins(x=0.01)
        numbers = [point[1] for points in given.values() for point in points]
        if all(value >= 0 for value in numbers if math.isfinite(value)):
            axes.set_ylim(bottom=0)
        if title:
            axes.set_title(title, size=TITLE, loc="left")
        figure.legend(loc="outside right upper", frameon=False)
