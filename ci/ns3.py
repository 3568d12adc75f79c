# SPDX-License-Identifier: GPL-2.0
"""The rival of ci/bench dce: ns-3 with its own model of TCP, compiled here on first use.

Run as a program it prints what chain() gives: ``python ci/ns3.py [NODES BYTES SEGMENT]``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent / "ns3" / "chain.cc"
MODULES = ("applications", "internet", "point-to-point", "network", "core")
SEGMENT = 1448
"""Data of a full frame with timestamps, as Linux sends it.  ns-3's own default is 536, which
makes 2.7 times the packets and takes 2.7 times as long."""


def chain(
    nodes: int = 10, size: int = 125_000_000, *, segment: int = SEGMENT, timeout: float = 600
) -> dict[str, float | str]:
    """`size` bytes of TCP over a chain of 1 Gbit/s, 100 us links: "simulated_s", "wall_s" (of
    the simulation alone), "received_bytes", "events"; or "reason": why there is nothing."""
    from anykernel.errors import ToolError
    from anykernel.host import ns3

    if reason := ns3.missing():
        return {"reason": reason}
    try:
        program = ns3.program("ns3-chain", [SOURCE], MODULES)
        argv = [str(program), str(nodes), str(size), str(segment)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            return {"reason": f"ns-3's chain ended with {done.returncode}: {done.stderr[-200:]}"}
        result: dict[str, float | str] = json.loads(done.stdout)
    except (ToolError, subprocess.TimeoutExpired, ValueError) as error:
        return {"reason": f"ns-3's chain: {type(error).__name__}: {error}"}
    if result["received_bytes"] != size:
        return {"reason": f"ns-3 lost data: {result['received_bytes']} of {size} bytes arrived"}
    return result


def main() -> None:
    nodes, size, segment = map(int, sys.argv[1:] or (10, 125_000_000, SEGMENT))
    print(json.dumps(chain(nodes, size, segment=segment)))


if __name__ == "__main__":
    main()
