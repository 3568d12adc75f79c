# SPDX-License-Identifier: GPL-2.0
"""Who sent what to whom, time going down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from anykernel.errors import UsageError
from anykernel.net.plot.figure import (
    COLOURS,
    GREY,
    INK,
    LOST,
    NODE,
    NORMAL,
    PALE,
    PAPER,
    SMALL,
    TITLE,
    canvas,
    figure,
    matplotlib_or_error,
    suffix_of,
    width_of,
)

MOST_STEPS = 1000
ROW = 0.24
"""Inches between two packets that are sent; less would let their labels touch."""
FLIGHT, LONGEST = 0.09, 0.6


class Step(NamedTuple):
    """A packet in a sequence diagram; `received_ns`: when it arrived, the next row if unknown."""

    time_ns: int
    sender: str
    receiver: str
    label: str
    lost: bool = False
    received_ns: int | None = None


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
    suffix_of(path)
    matplotlib_or_error()
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
    widest = max(width_of(step.label, SMALL) for step in steps)
    lane = max(1.3, 2 * widest + 0.3, *(width_of(name, NORMAL) + 0.5 for name in names))
    lane = min(lane, 6.0)
    times = [_clock(step.time_ns) for step in steps]
    margin = max(width_of(text, SMALL) for text in times) + 0.35
    side = max(0.35, lane / 4)
    sent, received, depth = _rows(steps)
    width = margin + 2 * side + lane * max(len(names) - 1, 1)
    head = 0.85 if title else 0.55
    height = depth + head + 0.3
    with figure(path, width, height) as made:
        axes = canvas(made, 0, -(depth + 0.3), width, height)
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
