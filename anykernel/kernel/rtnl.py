# SPDX-License-Identifier: GPL-2.0
"""The few rtnetlink messages that setting up a netdev takes, without the weight of pyroute2."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING

from anykernel.errors import UsageError

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket

NEWLINK, DELLINK, NEWADDR, NEWROUTE, NEWNEIGH = 16, 17, 20, 24, 28
REQUEST_ACK, CREATE, REPLACE = 0x5, 0x400, 0x100
IFF_UP = 1
IFA_F_NODAD = 0x02
PERMANENT = 0x80
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def interface(text: str) -> Interface:
    """An address with its prefix length.  Raises UsageError."""
    try:
        return ipaddress.ip_interface(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no address with a prefix length, such as 10.0.0.1/24 or fd00::1/64"
        ) from error


def address(text: str) -> Address:
    """An address.  Raises UsageError."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no IP address") from error


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


class Rtnl:
    """An rtnetlink socket for a with block."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __enter__(self) -> Rtnl:
        self._socket: Socket = self._process.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.__exit__(*exc)  # type: ignore[arg-type]

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        size = 16 + len(body)
        header = struct.pack("=IHHII", size, kind, REQUEST_ACK | flags, 1, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(1 << 16)
        (error,) = struct.unpack_from("=i", answer, 16)
        if error:
            raise OSError(-error, os.strerror(-error))

    def up(self, ifindex: int, up: bool = True) -> None:
        """Sets a link's state."""
        body = struct.pack("=BxHiII", 0, 0, ifindex, IFF_UP if up else 0, IFF_UP)
        self._request(NEWLINK, 0, body)

    def add_address(self, ifindex: int, text: str, dad: bool = False) -> None:
        """Adds an address; without duplicate address detection an IPv6 one is usable at once."""
        value = interface(text)
        packed = value.ip.packed
        body = struct.pack(
            "=BBBBI", _family(value.version), value.network.prefixlen,
            0 if dad else IFA_F_NODAD, 0, ifindex,
        )  # fmt: skip
        body += _attribute(2, packed) + _attribute(1, packed)
        if value.version == 4 and value.network.prefixlen < 31:
            body += _attribute(4, value.network.broadcast_address.packed)
        self._request(NEWADDR, CREATE, body)

    def add_neighbour(self, ifindex: int, text: str, mac: bytes) -> None:
        """Adds a permanent neighbour, so that nothing is asked by ARP or NDP."""
        value = address(text)
        body = struct.pack("=BxHiHBB", _family(value.version), 0, ifindex, PERMANENT, 0, 0)
        body += _attribute(1, value.packed) + _attribute(2, mac)
        self._request(NEWNEIGH, CREATE | REPLACE, body)

    def add_route(self, ifindex: int, network: str, via: str | None = None) -> None:
        """Adds a route of the main table; network "default" needs `via`'s version."""
        gateway = None if via is None else address(via)
        if network == "default":
            network = "::/0" if gateway is not None and gateway.version == 6 else "0.0.0.0/0"
        target = ipaddress.ip_network(network)
        scope = 253 if gateway is None and target.version == 4 else 0
        body = struct.pack(
            "=BBBBBBBBI", _family(target.version), target.prefixlen, 0, 0, 254, 4, scope, 1, 0
        )
        if target.prefixlen:
            body += _attribute(1, target.network_address.packed)
        if gateway is not None:
            body += _attribute(5, gateway.packed)
        body += _attribute(4, struct.pack("=i", ifindex))
        self._request(NEWROUTE, CREATE, body)
