# SPDX-License-Identifier: GPL-2.0
"""What all of ci/bench shares: figures, their goals, and the table that shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    key: str
    what: str
    value: float | None
    goal: str = ""
    good: bool | None = None
    reason: str = ""
    """Why there is no value, or no verdict."""


@dataclass(frozen=True)
class Goal:
    what: str
    limit: float | None
    """What the value must reach: at most for times and sizes, at least for rates."""


def best(action: Callable[[], object], times: int) -> float:
    """The least seconds of one call: the machine is shared, and only delays."""
    least = float("inf")
    for _ in range(times):
        started = time.perf_counter()
        action()
        least = min(least, time.perf_counter() - started)
    return least


def figure(
    key: str, goal: Goal, values: Mapping[str, float | None], reasons: Mapping[str, str]
) -> Figure:
    """The line of one value, with a verdict where there is a goal."""
    value, reason = values.get(key), reasons.get(key, "")
    if value is None or goal.limit is None:
        return Figure(key, goal.what, value, reason=reason)
    rate = key.endswith("_per_s")
    good = value >= goal.limit if rate else value <= goal.limit
    return Figure(key, goal.what, value, f"{'>=' if rate else '<='} {number(goal.limit)}", good)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(figures: list[Figure]) -> Table:
    made = Table(box=None, pad_edge=False)
    made.add_column("measured")
    made.add_column("value", justify="right")
    made.add_column("goal", justify="right", style="dim")
    made.add_column("")
    for one in figures:
        value = number(one.value) if one.value is not None else "-"
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: one.reason}[one.good]
        made.add_row(one.what, value, one.goal, mark)
    return made
