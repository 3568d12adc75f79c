# SPDX-License-Identifier: GPL-2.0
"""Routes and nexthop objects as rtnetlink messages (rtnetlink(7), include/uapi/linux/nexthop.h)."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import NamedTuple

from anykernel.errors import UsageError
from anykernel.kernel.rtnl import LINK, MAIN, STATIC, Address, address, attribute, family_of

NEWNEXTHOP = 104
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_TABLE, RTA_VIA, RTA_NH_ID = 1, 4, 5, 15, 18, 30
NHA_ID, NHA_GROUP, NHA_BLACKHOLE, NHA_OIF, NHA_GATEWAY = 1, 2, 4, 5, 6
UNICAST = 1
COMPAT = 252
"""RT_TABLE_COMPAT: what stands in rtm_table for a table whose number doesn't fit there."""


class Hop(NamedTuple):
    """Where a route leads."""

    ifindex: int | None
    via: str | None = None
    nexthop: int | None = None
    """The number of a nexthop object, in place of the others."""


def route(network: str, hop: Hop, table: int | None = None) -> bytes:
    """The message for a route to a network or "default".  Raises UsageError."""
    gateway = None if hop.via is None else address(hop.via)
    if hop.nexthop is None and gateway is None and hop.ifindex is None:
        raise UsageError("a route leads somewhere: give via=, device= or nexthop=")
    if network == "default":
        network = "::/0" if gateway is not None and gateway.version == 6 else "0.0.0.0/0"
    try:
        target = ipaddress.ip_network(network)
    except ValueError as error:
        raise UsageError(f"{network!r} is no network: {error}") from None
    direct = gateway is None and hop.nexthop is None and target.version == 4
    number = MAIN if table is None else table
    body = struct.pack(
        "=BBBBBBBBI", family_of(target.version), target.prefixlen, 0, 0,
        number if number < 256 else COMPAT, STATIC, LINK if direct else 0, UNICAST, 0,
    )  # fmt: skip
    body += attribute(RTA_DST, target.network_address.packed) if target.prefixlen else b""
    if number > 255:
        body += attribute(RTA_TABLE, struct.pack("=I", number))
    if hop.nexthop is not None:
        return body + attribute(RTA_NH_ID, struct.pack("=I", hop.nexthop))
    if gateway is not None:
        body += _through(gateway, target.version)
    if hop.ifindex is not None:
        body += attribute(RTA_OIF, struct.pack("=i", hop.ifindex))
    return body


def _through(gateway: Address, version: int) -> bytes:
    """A gateway; one of IPv6 for a route of IPv4, too (RFC 5549)."""
    if gateway.version == version:
        return attribute(RTA_GATEWAY, gateway.packed)
    return attribute(RTA_VIA, struct.pack("=H", family_of(gateway.version)) + gateway.packed)


def nexthop(
    number: int, hop: Hop, group: Sequence[tuple[int, int]], blackhole: bool, version: int
) -> bytes:
    """The message for a nexthop object.  group: numbers and weights of others, of which it is
    made.  Raises UsageError."""
    gateway = None if hop.via is None else address(hop.via)
    if sum((bool(group), blackhole, gateway is not None or hop.ifindex is not None)) != 1:
        raise UsageError("a nexthop is one of: via= and device=, group=, blackhole=True")
    family = family_of(version if gateway is None else gateway.version)
    body = struct.pack("=BBBBI", 0 if group else family, 0, STATIC, 0, 0)
    body += attribute(NHA_ID, struct.pack("=I", number))
    if group:
        members = b"".join(struct.pack("=IBBH", one, weight - 1, 0, 0) for one, weight in group)
        return body + attribute(NHA_GROUP, members)
    if blackhole:
        return body + attribute(NHA_BLACKHOLE, b"")
    if hop.ifindex is not None:
        body += attribute(NHA_OIF, struct.pack("=I", hop.ifindex))
    return body + (b"" if gateway is None else attribute(NHA_GATEWAY, gateway.packed))
