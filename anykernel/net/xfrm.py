# SPDX-License-Identifier: GPL-2.0
"""IPsec's and Mobile IPv6's states and policies (NETLINK_XFRM), message by message."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from anykernel.kernel.rtnl import attribute, family_of

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

NETLINK_XFRM = 6
NEWSA, DELSA, NEWPOLICY, DELPOLICY = 0x10, 0x11, 0x13, 0x14
ALG_AUTH, ALG_CRYPT, TEMPLATES, SOURCE, CARE_OF, ALG_AEAD, ALG_AUTH_TRUNC = 1, 2, 5, 13, 14, 18, 20
TRANSPORT, TUNNEL, ROUTE_OPTIMIZATION = 0, 1, 2
IN, OUT, FORWARD = 0, 1, 2
ESP, DESTINATION_OPTIONS, ROUTING = 50, 60, 43
LIFE = struct.pack("=4Q4Q", *[(1 << 64) - 1] * 4, 0, 0, 0, 0)
"""Without an end."""
ANY = (1 << 32) - 1
"""All algorithms."""
WILD_RECEIVE = 8
"""XFRM_STATE_WILDRECV: a state for packets from anywhere."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _packed(address: Address) -> bytes:
    return address.packed.ljust(16, b"\0")


@dataclass(frozen=True)
class Selector:
    """Which packets: from a network to a network; a protocol (0: any) and, in that, for Mobile
    IPv6's messages, a type."""

    source: str
    target: str
    protocol: int = 0
    kind: int = 0
    ifindex: int = 0

    def pack(self) -> bytes:
        """As struct xfrm_selector."""
        source, target = ip_network(self.source), ip_network(self.target)
        mask = 0xFFFF if self.kind else 0
        return (
            _packed(target.network_address)
            + _packed(source.network_address)
            + struct.pack(">HHHH", 0, 0, self.kind, mask)
            + struct.pack("=HBBB3xiI", family_of(source.version), target.prefixlen,
                          source.prefixlen, self.protocol, self.ifindex, 0)
        )  # fmt: skip


NOTHING = bytes(56)


@dataclass(frozen=True)
class Template:
    """What a policy asks of packets: a state of that protocol and mode."""

    source: str
    target: str
    protocol: int = ESP
    mode: int = TUNNEL
    reqid: int = 0
    optional: bool = False

    def pack(self) -> bytes:
        """As struct xfrm_user_tmpl."""
        source, target = ip_address(self.source), ip_address(self.target)
        return (
            _packed(target)
            + struct.pack("=IB3xH2x", 0, self.protocol, family_of(source.version))
            + _packed(source)
            + struct.pack("=IBBBxIII", self.reqid, self.mode, 0, self.optional, ANY, ANY, ANY)
        )


@dataclass(frozen=True)
class State:
    """A security association, or what Mobile IPv6 makes of one."""

    source: str
    target: str
    spi: int = 0
    protocol: int = ESP
    mode: int = TUNNEL
    reqid: int = 0
    aead: tuple[str, bytes, int] | None = None
    """Algorithm, key, bits of the ICV."""
    encryption: tuple[str, bytes] | None = None
    authentication: tuple[str, bytes, int] | None = None
    """Algorithm, key, bits of the ICV."""
    care_of: str | None = None
    window: int = 32
    """Sequence numbers that may still come late."""
    flags: int = 0
    selector: Selector | None = None

    def pack(self) -> bytes:
        """As struct xfrm_usersa_info with attributes."""
        source = ip_address(self.source)
        family = family_of(source.version)
        selector = self.selector.pack() if self.selector else NOTHING
        body = selector + self.identity() + _packed(source) + LIFE + bytes(32 + 12)
        body += struct.pack("=IIHBBB7x", 0, self.reqid, family, self.mode, self.window, self.flags)
        if self.aead:
            name, key, bits = self.aead
            body += attribute(ALG_AEAD, _algorithm(name, key, bits))
        if self.encryption:
            body += attribute(ALG_CRYPT, _algorithm(*self.encryption))
        if self.authentication:
            name, key, bits = self.authentication
            body += attribute(ALG_AUTH_TRUNC, _algorithm(name, key, bits))
        if self.care_of:
            body += attribute(CARE_OF, _packed(ip_address(self.care_of)))
        return body

    def identity(self) -> bytes:
        """As struct xfrm_id."""
        target = _packed(ip_address(self.target))
        return target + struct.pack(">IB3x", self.spi, self.protocol)


def _algorithm(name: str, key: bytes, bits: int | None = None) -> bytes:
    sizes = struct.pack("=I", len(key) * 8) + (b"" if bits is None else struct.pack("=I", bits))
    return name.encode().ljust(64, b"\0") + sizes + key


class Xfrm:
    """A netlink socket for a with block.  Raises OSError for what the kernel refuses."""

    def __init__(self, process: Process) -> None:
        self._socket = process.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM)

    def __enter__(self) -> Xfrm:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.__exit__(*exc)  # type: ignore[arg-type]

    def _request(self, kind: int, body: bytes) -> None:
        request, ack, create = 0x1, 0x4, 0x400
        flags = request | ack | (create if kind in (NEWSA, NEWPOLICY) else 0)
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
        (error,) = struct.unpack_from("=i", self._socket.recv(1 << 16), 16)
        if error:
            raise OSError(-error, os.strerror(-error))

    def add_state(self, state: State) -> None:
        self._request(NEWSA, state.pack())

    def remove_state(self, state: State) -> None:
        source = ip_address(state.source)
        identity = _packed(ip_address(state.target)) + struct.pack(">I", state.spi)
        identity += struct.pack("=HBx", family_of(source.version), state.protocol)
        self._request(DELSA, identity + attribute(SOURCE, _packed(source)))

    def add_policy(
        self, direction: int, selector: Selector, templates: Sequence[Template], priority: int = 0
    ) -> None:
        """Packets that fit the selector and go IN, OUT or FORWARD need these states."""
        body = selector.pack() + LIFE + bytes(32)
        body += struct.pack("=IIBBBB4x", priority, 0, direction, 0, 0, 0)
        body += attribute(TEMPLATES, b"".join(one.pack() for one in templates))
        self._request(NEWPOLICY, body)

    def remove_policy(self, direction: int, selector: Selector) -> None:
        self._request(DELPOLICY, selector.pack() + struct.pack("=IB3x", 0, direction))


def statistics(process: Process) -> dict[str, int]:
    """/proc/net/xfrm_stat: {"XfrmInStateSeqError": 0 ...}."""
    lines = process.read_text("/proc/net/xfrm_stat").splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}
