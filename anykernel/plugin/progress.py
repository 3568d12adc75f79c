# SPDX-License-Identifier: GPL-2.0
"""Shows on pytest's terminal that a first kernel build, which takes minutes, goes on, and what
a configuration has not got."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

STEP = 30.0
"""Seconds between lines where lines can't be rewritten."""


def of(config: pytest.Config, what: str) -> Callable[[str, int, int], None] | None:
    """A progress callback for the build of `what`; None where nobody looks (xdist's workers)."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return None
    started = time.monotonic()
    last = started - STEP

    def show(doing: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not reporter.isatty and now - last < STEP:
            return
        last = now
        line = f"anykernel: {what}: {doing}"
        if total:
            line = f"anykernel: building {what}: {_estimate(done, total, now - started)}{doing}"
        if reporter.isatty:
            reporter.rewrite(line[: reporter._tw.fullwidth - 1], erase=True)
        else:
            reporter.ensure_newline()
            reporter.write_line(line)

    return show


def say(config: pytest.Config, text: str) -> None:
    """Lines for pytest's terminal, at once; none for an empty text, nor of xdist's workers."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    if text and reporter is not None and not hasattr(config, "workerinput"):
        reporter.ensure_newline()
        reporter.write_line(text)


def _estimate(done: int, total: int, seconds: float) -> str:
    """ "300 of about 1200 objects, 4 min left, " """
    text = f"{done} of about {total} objects, "
    if done < 20 or done >= total:
        return text
    left = seconds / done * (total - done)
    return text + (f"{left / 60:.0f} min left, " if left > 90 else f"{left:.0f} s left, ")
