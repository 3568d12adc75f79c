# SPDX-License-Identifier: GPL-2.0
"""What `anykernel components` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from anykernel.link.components import Component


def as_dict(component: Component) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": component.name,
        "objects": [one.path for one in component.objects],
        "size": component.size,
        "initcalls": [{"level": level, "function": name} for level, name in component.initcalls],
        "needs": dict(component.needs.most_common()),
        "needed_by": dict(component.needed_by.most_common()),
    }


def table(components: Iterable[Component]) -> None:
    """Prints a line each: name, objects, KiB, initcalls, what it needs most."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    made.add_column("component", overflow="fold")
    for heading in ("objects", "KiB", "initcalls"):
        made.add_column(heading, justify="right", overflow="fold")
    made.add_column("needs (symbols)", style="dim", overflow="fold")
    made.add_column("needed by", justify="right", overflow="fold")
    for one in components:
        made.add_row(
            one.name,
            str(len(one.objects)),
            f"{one.size / 1024:.0f}",
            str(len(one.initcalls)),
            _most(one.needs, 4),
            str(len(one.needed_by)),
        )
    Console().print(made)


def details(component: Component) -> str:
    """All about one."""
    calls = [f"{name} ({level})" for level, name in component.initcalls]
    return "\n".join(
        [
            f"{component.name}: {len(component.objects)} objects, {component.size} bytes",
            f"initcalls: {', '.join(calls) or 'none'}",
            f"needs: {_most(component.needs) or 'nothing'}",
            f"needed by: {_most(component.needed_by) or 'nobody'}",
            "objects:",
            *(f"  {one.path} ({one.size})" for one in component.objects),
        ]
    )


def _most(counted: Counter[str], count: int | None = None) -> str:
    return ", ".join(f"{name} {symbols}" for name, symbols in counted.most_common(count))
