# SPDX-License-Identifier: GPL-2.0
"""One line for a packet, by scapy, and by us where scapy's says too little."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.host import Frame
    from anykernel.net import Network

ICMPV6 = 58
EXTENSIONS = {0, 43, 60}
"""IPv6 headers that say their own length in units of 8 bytes: hop-by-hop, routing, options."""
MLD = {130: "query", 131: "report", 132: "done", 143: "report v2"}
RECORDS = {1: "is in", 2: "is ex", 3: "to in", 4: "to ex", 5: "allow", 6: "block"}
"""Types of a multicast address record of MLDv2 (RFC 9777): include, exclude, changes."""
MOST = 3


def summary(data: bytes) -> str:
    """What a frame of Ethernet is, or its first bytes."""
    from anykernel.visible import visible

    try:
        return visible(_mld(data) or _scapy(data))
    except Exception:
        return data[:24].hex(" ")


def _scapy(data: bytes) -> str:
    # It is slow to import, and only needed here.
    from scapy.layers import inet, inet6  # noqa: F401  (they register the protocols)
    from scapy.layers.l2 import Ether

    return str(Ether(data).summary())


def _mld(data: bytes) -> str:
    """A message of MLD, whose IPv6 header has a hop-by-hop header (router alert) behind it; ''
    for anything else."""
    if data[12:14] != b"\x86\xdd" or len(data) < 54:
        return ""
    packet = data[14:]
    source, destination = (socket.inet_ntop(socket.AF_INET6, packet[n : n + 16]) for n in (8, 24))
    kind, at = packet[6], 40
    while kind in EXTENSIONS and at + 8 <= len(packet):
        kind, at = packet[at], at + 8 * (packet[at + 1] + 1)
    message = packet[at:]
    if kind != ICMPV6 or not message or message[0] not in MLD:
        return ""
    what = MLD[message[0]]
    groups = list(_records(message) if message[0] == 143 else _group(message))
    more = f" and {len(groups) - MOST} more" if len(groups) > MOST else ""
    return f"Ether / IPv6 / MLD {what} {source} > {destination}: {', '.join(groups[:MOST])}{more}"


def _group(message: bytes) -> Iterator[str]:
    group = message[8:24]
    if len(group) == 16:
        yield socket.inet_ntop(socket.AF_INET6, group) if any(group) else "all groups"


def _records(message: bytes) -> Iterator[str]:
    count = int.from_bytes(message[6:8], "big") if len(message) >= 8 else 1
    at = 8
    for _ in range(count):
        if at + 20 > len(message):  # of frames on links, only the beginning is kept
            yield "..."
            return
        kind, extra, sources = struct.unpack_from("!BBH", message, at)
        group = socket.inet_ntop(socket.AF_INET6, message[at + 4 : at + 20])
        listed = f" of {sources} sources" if sources else ""
        yield f"{group} {RECORDS.get(kind, f'type {kind}')}{listed}"
        at += 20 + 16 * sources + 4 * extra


def frames(found: Sequence[Frame], most: int) -> list[str]:
    """A table of the last `most` frames of a kernel's netdevs; [] when there were none."""
    if not found:
        return []
    lines = [f"{'time':>14}  dev  way  bytes  packet"]
    if len(found) > most:
        lines.append(f"... {len(found) - most} before")
    for frame in found[-most:]:
        time = f"{frame.time_ns / 1e9:.9f}"
        way = "in" if frame.direction == "rx" else "out"
        size = len(frame.data)
        lines.append(f"{time:>14}  {frame.dev:>3}  {way:<3}  {size:>5}  {summary(frame.data)}")
    return lines


def passages(network: Network, most: int) -> list[str]:
    """A table of the last `most` frames on all links, in the order in which they were sent."""
    recent = network.wire.recent()
    if not recent:
        return []
    ends = [network.ends(passage) for passage in recent[-most:]]
    link_width = max(4, *(len(link) for link, _ in ends))
    sender_width = max(6, *(len(sender) for _, sender in ends))
    head = f"{'time':>14}  {'link':<{link_width}}  {'sender':<{sender_width}}"
    lines = [f"{head}  {'became':<10}  bytes  packet"]
    if len(recent) > most:
        lines.append(f"... {len(recent) - most} before")
    for passage, (link, sender) in zip(recent[-most:], ends, strict=True):
        lines.append(
            f"{passage.time_ns / 1e9:>14.9f}  {link:<{link_width}}  {sender:<{sender_width}}  "
            f"{passage.verdict:<10}  {passage.length:>5}  {summary(passage.data)}"
        )
    return lines
