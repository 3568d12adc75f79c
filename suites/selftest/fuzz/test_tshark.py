# SPDX-License-Identifier: GPL-2.0
"""tshark finds valid packets faultless, and every wrong checksum wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from anykernel.fuzz import protocols
from anykernel.fuzz.flaws import FLAWS
from anykernel.fuzz.strategies import ENDS
from anykernel.kernel.pcap import Writer
from suites.selftest.optional import needs

pytestmark = needs("tshark")

BAD = (
    "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 "
    "|| udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0"
)
CHECK = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"]


def bad(path: Path, frames: list[bytes]) -> set[int]:
    """Numbers from 0 of the frames that tshark objects to."""
    with path.open("wb") as stream:
        writer = Writer(stream)
        for number, frame in enumerate(frames):
            writer.write(number, frame)
    prefer = [arg for name in CHECK for arg in ("-o", f"{name}:TRUE")]
    said = subprocess.run(
        ["tshark", "-n", "-r", path, *prefer, "-Y", BAD, "-T", "fields", "-e", "frame.number"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    return {int(number) - 1 for number in said.split()}


def test_valid_packets_are_valid(tmp_path: Path) -> None:
    frames: list[bytes] = []
    # Ports that no dissector claims: a random payload would rightly be a malformed DNS message.
    ports: dict[str, Any] = {"sport": 54001, "dport": 54002}
    for strategy in (
        protocols.udp(**ports),
        protocols.udp(ip=6, **ports),
        protocols.tcp(**ports, flags=16, options=b""),
        protocols.tcp(ip=6, **ports, flags=16, options=b""),
        protocols.icmp(type=8),
        protocols.icmpv6(type=128),
    ):
        settings(max_examples=40, database=None, derandomize=True, deadline=None)(
            given(strategy)(lambda case: frames.append(case.frame))
        )()
    assert len(frames) >= 200
    assert bad(tmp_path / "valid.pcap", frames) == set()


def test_wrong_checksums_are_wrong(tmp_path: Path) -> None:
    names = [name for name in FLAWS if name.endswith(".checksum")]
    frames = [FLAWS[name].make(ENDS, bytes(100), n) for name in names for n in (1, 300, 65534)]
    assert len(names) == 7
    assert bad(tmp_path / "flawed.pcap", frames) == set(range(len(frames)))
