# SPDX-License-Identifier: GPL-2.0
"""Measures the speed that the README promises, each figure with its rival in the same run."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

from rich.console import Console

import bench_dce
import bench_isolation
import bench_kernel
from figures import table

MEASURED = {
    "kernel": bench_kernel.measure_all,
    "isolation": bench_isolation.measure_all,
    "dce": bench_dce.measure_all,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="ci/bench", description=__doc__)
    parser.add_argument("what", choices=list(MEASURED), help="what to measure")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, too")
    parser.add_argument(
        "--source", default="debian:6.1", help="kernel source (default: %(default)s)"
    )
    arguments = parser.parse_args()
    console = Console(highlight=False)
    with console.status("measuring") as status:
        measure = MEASURED[arguments.what]
        figures = measure(arguments.source, lambda what: status.update(f"measuring: {what}"))
    console.print(table(figures))
    if arguments.json is not None:
        result = {
            "metrics": {figure.key: figure.value for figure in figures},
            "reasons": {f.key: f.reason for f in figures if f.value is None},
            "goals_missed": [figure.key for figure in figures if figure.good is False],
            "source": arguments.source,
            "machine": platform.machine(),
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
