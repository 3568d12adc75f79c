# SPDX-License-Identifier: GPL-2.0
"""tc's classifier flower for pyroute2, which doesn't have it: ``ip.tc("add-filter", "flower",
...)`` after register()."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from anykernel.errors import UsageError
from anykernel.kernel.netdev import parse_mac
from anykernel.kernel.nft import PROTOCOLS

ETHERTYPES = {"ip": 0x0800, "arp": 0x0806, "802.1q": 0x8100, "ipv6": 0x86DD, "all": 0x0003}
SKIP_HW, SKIP_SW = 1, 2
MAP = (
    "UNSPEC:none CLASSID:uint32 INDEV:asciiz ACT:act KEY_ETH_DST:cdata KEY_ETH_DST_MASK:cdata"
    " KEY_ETH_SRC:cdata KEY_ETH_SRC_MASK:cdata KEY_ETH_TYPE:be16 KEY_IP_PROTO:uint8"
    " KEY_IPV4_SRC:cdata KEY_IPV4_SRC_MASK:cdata KEY_IPV4_DST:cdata KEY_IPV4_DST_MASK:cdata"
    " KEY_IPV6_SRC:cdata KEY_IPV6_SRC_MASK:cdata KEY_IPV6_DST:cdata KEY_IPV6_DST_MASK:cdata"
    " KEY_TCP_SRC:be16 KEY_TCP_DST:be16 KEY_UDP_SRC:be16 KEY_UDP_DST:be16 FLAGS:uint32"
    " KEY_VLAN_ID:be16 KEY_VLAN_PRIO:uint8 KEY_VLAN_ETH_TYPE:be16"
)
"""The first attributes of include/uapi/linux/pkt_cls.h, with their types."""


def register() -> None:
    """pyroute2 knows it from now on.  Twice does no harm."""
    from pyroute2.netlink import nla
    from pyroute2.netlink.rtnl.tcmsg import plugins
    from pyroute2.netlink.rtnl.tcmsg.common_act import get_tca_action, tca_act_prio

    if "flower" in plugins:
        return

    class options(nla):  # type: ignore[misc]
        nla_map = tuple(
            (f"TCA_FLOWER_{name}", kind) for name, kind in (one.split(":") for one in MAP.split())
        )
        act = tca_act_prio

    class Flower:
        """What pyroute2 wants of a classifier's module."""

        @staticmethod
        def fix_request(request: dict[str, Any]) -> None:
            kind = _number(request.get("protocol", "all"), ETHERTYPES, "protocol")
            request["info"] = socket.htons(kind) | request.get("prio", 0) << 16

        @staticmethod
        def get_parameters(given: dict[str, Any]) -> dict[str, Any]:
            found = attributes(given)
            if given.get("action") is not None:
                found.append(("TCA_FLOWER_ACT", get_tca_action(given)))
            return {"attrs": found}

    Flower.options = options  # type: ignore[attr-defined]
    plugins["flower"] = Flower


def attributes(given: dict[str, Any]) -> list[tuple[str, Any]]:
    """What is matched, as attributes; names are those of tc-flower(8), dst_mac, src_ip and so on.
    Raises UsageError."""
    found: list[tuple[str, Any]] = []
    kind = _number(given.get("protocol", "all"), ETHERTYPES, "protocol")
    if kind != ETHERTYPES["all"]:
        found.append(("KEY_ETH_TYPE", kind))
    proto = given.get("ip_proto")
    if proto is not None:
        found.append(("KEY_IP_PROTO", _number(proto, PROTOCOLS, "ip_proto")))
    for way in ("src", "dst"):
        if (mac := given.get(f"{way}_mac")) is not None:
            found += _masked(f"KEY_ETH_{way.upper()}", parse_mac(mac), b"\xff" * 6)
        if (address := given.get(f"{way}_ip")) is not None:
            found += _network(way.upper(), address)
        if (port := given.get(f"{way}_port")) is not None:
            if proto not in ("tcp", "udp"):
                raise UsageError(f"flower's {way}_port needs ip_proto='tcp' or 'udp'")
            found.append((f"KEY_{proto.upper()}_{way.upper()}", port))
    for name in ("classid", "indev", "vlan_id", "vlan_prio"):
        if (value := given.get(name)) is not None:
            found.append((f"KEY_{name.upper()}" if "vlan" in name else name.upper(), value))
    skip = SKIP_HW * bool(given.get("skip_hw")) | SKIP_SW * bool(given.get("skip_sw"))
    if skip:
        found.append(("FLAGS", skip))
    return [(f"TCA_FLOWER_{name}", value) for name, value in found]


def _masked(name: str, value: bytes, mask: bytes) -> list[tuple[str, Any]]:
    return [(name, value), (f"{name}_MASK", mask)]


def _network(way: str, text: str) -> list[tuple[str, Any]]:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(f"{text!r} is no address or network") from error
    name = f"KEY_IPV{network.version}_{way}"
    return _masked(name, network.network_address.packed, network.netmask.packed)


def _number(value: Any, names: dict[str, int], what: str) -> int:
    if isinstance(value, int):
        return value
    if value not in names:
        raise UsageError(f"{what} is a number or one of {', '.join(names)}, not {value!r}")
    return names[value]
