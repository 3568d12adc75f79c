# SPDX-License-Identifier: GPL-2.0
"""What all pictures share: colours, sizes, and files whose bytes depend on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anykernel.errors import UsageError

INK, GREY, PALE, PAPER = "#22272e", "#7a828c", "#d5d9de", "#ffffff"
NODE, HUB, LOST = "#e8eff7", "#f4ecd8", "#c0392b"
# Okabe and Ito's, which the colour-blind can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d5d5d")
SMALL, NORMAL, TITLE = 8.0, 9.0, 11.0
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
}


def suffix_of(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in METADATA:
        raise UsageError(f"{str(path)!r} is no picture: the name must end in .png or .svg")
    return suffix


@contextmanager
def figure(path: str | Path, width: float, height: float, **options: Any) -> Iterator[Any]:
    """A figure of so many inches that is written to `path` at the end of the with block."""
    matplotlib = matplotlib_or_error()
    from matplotlib.figure import Figure

    suffix = suffix_of(path)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"svg.hashsalt": "anykernel", "font.size": NORMAL, "text.color": INK}
        )
        made = Figure(figsize=(width, height), dpi=120, facecolor=PAPER, **options)
        yield made
        made.savefig(Path(path), format=suffix[1:], metadata=METADATA[suffix])


def matplotlib_or_error() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install pytest-anykernel[plot]") from error
    return matplotlib


def canvas(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes over the whole figure whose unit is an inch."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(left, left + width)
    axes.set_ylim(bottom, bottom + height)
    axes.set_axis_off()
    return axes


def width_of(text: str, size: float) -> float:
    """Of the longest line, in inches."""
    if not text:
        return 0.0
    from matplotlib.textpath import TextPath

    lines = [line for line in text.split("\n") if line.strip()]
    return max(
        (TextPath((0, 0), line, size=size).get_extents().x1 / 72 for line in lines), default=0
    )
