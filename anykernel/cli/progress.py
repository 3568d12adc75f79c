# SPDX-License-Identifier: GPL-2.0
"""Progress of a build on the terminal, with the current object and an estimate."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from anykernel.build import Progress

QUIET_STEP = 30  # seconds between lines where there is no terminal


@contextlib.contextmanager
def terminal_progress() -> Iterator[Progress]:
    """A bar on a terminal; elsewhere (CI) a line now and then, on stderr."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what[-50:], completed=done, total=total or None)

        yield show


def _lines() -> Progress:
    started = last = time.monotonic()
    compiling = 0.0

    def show(what: str, done: int, total: int) -> None:
        nonlocal last, compiling
        now = time.monotonic()
        if done and not compiling:
            compiling = now
        if total and now - last < QUIET_STEP:
            return
        last = now
        count = ""
        if total:
            left = (now - compiling) / done * (total - done) if done else 0
            count = f" {done} of about {total} objects, {left:.0f} s left,"
        print(f"  {now - started:4.0f} s:{count} {what}", file=sys.stderr, flush=True)

    return show
