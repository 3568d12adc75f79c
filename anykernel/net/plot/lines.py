# SPDX-License-Identifier: GPL-2.0
"""Values over virtual time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path

from anykernel.errors import UsageError
from anykernel.net.plot.figure import COLOURS, GREY, INK, PALE, TITLE, figure, suffix_of


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
    suffix_of(path)
    given = {label: list(points) for label, points in series.items()}
    if not given:
        raise UsageError("curves need at least one series: {label: [(seconds, value), ...]}")
    with figure(path, 8, 4.2, layout="constrained") as made:
        axes = made.add_subplot()
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
        made.legend(loc="outside right upper", frameon=False)
