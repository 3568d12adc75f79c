# SPDX-License-Identifier: GPL-2.0
"""iptables as it was before nft: tables are one blob, which setsockopt() replaces."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from anykernel.kernel import Process

IPT_SO_SET_REPLACE = 64
ACCEPT, DROP = -2, -1
"""As the blob has verdicts: -NF_ACCEPT - 1."""
HOOKS = {"raw": (0, 3), "filter": (1, 2, 3)}
"""Of NF_INET_PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT: a table's."""
ENTRY = struct.Struct("=4s4s4s4s16s16s16s16sHBBIHHIQQ")
"""struct ipt_entry."""


class Part(NamedTuple):
    """struct xt_entry_match or xt_entry_target."""

    name: str
    revision: int
    data: bytes

    def packed(self) -> bytes:
        body = self.data + bytes(-len(self.data) % 8)
        return struct.pack("=H29sB", 32 + len(body), self.name.encode(), self.revision) + body


class Rule(NamedTuple):
    matches: Sequence[Part] = ()
    target: Part | int = ACCEPT
    protocol: int = 0


def _entry(rule: Rule) -> bytes:
    target = rule.target
    if isinstance(target, int):
        target = Part("", 0, struct.pack("=i", target))
    matches = b"".join(one.packed() for one in rule.matches)
    behind = ENTRY.size + len(matches)
    last = target.packed()
    empty = (b"",) * 8
    head = ENTRY.pack(*empty, rule.protocol, 0, 0, 0, behind, behind + len(last), 0, 0, 0)
    return head + matches + last


def replace(process: Process, table: str, hook: int, rules: Sequence[Rule]) -> None:
    """Gives one hook of a table these rules, and all of its hooks the policy ACCEPT."""
    blob, entries, starts, ends = b"", 0, [0] * 5, [0] * 5
    for one in HOOKS[table]:
        starts[one] = len(blob)
        for rule in rules if one == hook else ():
            blob += _entry(rule)
            entries += 1
        ends[one] = len(blob)
        blob += _entry(Rule())
        entries += 1
    end = Part("ERROR", 0, b"ERROR".ljust(32, b"\0")).packed()
    blob += ENTRY.pack(*(b"",) * 8, 0, 0, 0, 0, ENTRY.size, ENTRY.size + len(end), 0, 0, 0) + end
    entries += 1
    with (
        process.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock,
        process.memory() as memory,
    ):
        counters = memory.new(16 * 64)
        head = struct.pack(
            "=32sIII5I5IIQ", table.encode(), sum(1 << one for one in HOOKS[table]), entries,
            len(blob), *starts, *ends, len(HOOKS[table]) + 1, counters.address,
        )  # fmt: skip
        sock.setsockopt(socket.IPPROTO_IP, IPT_SO_SET_REPLACE, head + blob)
