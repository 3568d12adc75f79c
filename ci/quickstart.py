# SPDX-License-Identifier: GPL-2.0
"""Builds the kernel, runs the network smoke and the packet fuzzing, says how it went."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("suites/smoke", "suites/fuzz", "--ignore=suites/fuzz/test_flaws.py")
"""The exhaustive part of the fuzzing is left to ci/test."""
CACHED = 10.0
"""A build that took fewer seconds came from the cache."""


@dataclass
class Group:
    """The tests of one file."""

    title: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    packets: int = 0


@dataclass(eq=False)
class Watcher:
    """A pytest plugin that counts, and moves the progress bar."""

    progress: Progress
    groups: dict[str, Group] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task = self.progress.add_task("collecting", total=None)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.progress.update(self.task, total=len(session.items))
        for item in session.items:
            module = getattr(item, "module", None)
            doc = (getattr(module, "__doc__", None) or item.path.stem).strip()
            self.groups.setdefault(item.location[0], Group(doc.splitlines()[0].rstrip(".")))

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int, str]) -> None:
        self.progress.update(self.task, description=self.groups[location[0]].title)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        group = self.groups[report.location[0]]
        group.seconds += report.duration
        if report.when == "call":
            group.packets += sum(int(v) for k, v in report.user_properties if k == "packets")
        if report.failed:
            group.failed += 1
        elif report.skipped:
            group.skipped += 1
        elif report.when == "call":
            group.passed += 1
        if report.when == "teardown":
            self.progress.advance(self.task)


def build(source: str) -> float:
    """Builds the kernel, with its own progress on the terminal; the seconds it took."""
    started = time.monotonic()
    command = Path(sys.executable).with_name("anykernel")
    status = subprocess.run([command, "build", "--source", source], cwd=ROOT).returncode
    if status != 0:
        sys.exit(status)
    return time.monotonic() - started


def boot(source: str) -> tuple[str, float]:
    """What the kernel calls itself, and the milliseconds from nothing to booted, at best."""
    from anykernel.build import ensure_image
    from anykernel.host import Host

    image = ensure_image(source)
    times = []
    for _ in range(10):
        started = time.perf_counter()
        host = Host(image)
        times.append(time.perf_counter() - started)
        host.close()
    return f"Linux {image.release}", min(times) * 1000


@contextlib.contextmanager
def silenced() -> Iterator[io.StringIO]:
    """pytest's own report, kept for when it is needed."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        yield text


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/quickstart", description=__doc__)
    parser.add_argument(
        "--source", default="debian:6.1", help="kernel source (default: %(default)s)"
    )
    arguments = parser.parse_args()
    os.chdir(ROOT)
    # pytest captures standard output; this copy of it still reaches the terminal.
    console = Console(file=os.fdopen(os.dup(1), "w"), highlight=False)

    started = time.monotonic()
    seconds = build(arguments.source)
    name, boot_ms = boot(arguments.source)
    origin = "from the cache" if seconds < CACHED else f"built in {_duration(seconds)}"
    console.print(f"\n[bold]{name}[/]  {arguments.source}, {origin}, boots in {boot_ms:.1f} ms\n")

    columns = (SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        watcher = Watcher(progress)
        with silenced() as text:
            options = ["-p", "no:cacheprovider", f"--kernel-source={arguments.source}"]
            # We have used the package already, to boot a kernel.
            options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
            status = int(pytest.main([*SUITES, *options], plugins=[watcher]))

    console.print(_table(list(watcher.groups.values())))
    if status != 0:
        console.print(text.getvalue(), markup=False)
        console.print(f"[bold red]That didn't work[/] (pytest ended with {status}).")
        return status
    tests = sum(group.passed for group in watcher.groups.values())
    packets = sum(group.packets for group in watcher.groups.values())
    fuzzed = f", {packets:,} fuzzed packets" if packets else ""
    console.print(
        f"\n[bold green]All is well:[/] {tests} tests, each on a pristine kernel{fuzzed}, "
        f"in {_duration(time.monotonic() - started)} altogether.\n"
        "Next: [bold]ci/test[/] runs everything; README.md shows how to write your own test."
    )
    return 0


def _table(groups: list[Group]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    for group in groups:
        mark = "[red]✗[/]" if group.failed else "[green]✓[/]" if group.passed else "[yellow]-[/]"
        count = f"{group.passed} passed"
        count += f", [red]{group.failed} failed[/]" if group.failed else ""
        count += f", {group.skipped} skipped" if group.skipped else ""
        table.add_row(f" {mark}", group.title, count, f"{group.seconds:.2f} s")
    return table


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


if __name__ == "__main__":
    sys.exit(main())
