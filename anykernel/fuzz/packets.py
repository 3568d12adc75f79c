# SPDX-License-Identifier: GPL-2.0
"""Packets as frozen values that serialise fast.  Lengths and checksums are computed unless given.

A packet's payload is bytes or another packet: ``Ether(payload=IPv4(payload=Udp(payload=b"x")))``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

ETH_IPV4, ETH_ARP, ETH_VLAN, ETH_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
HOP_BY_HOP, ROUTING, FRAGMENT, NO_NEXT, DESTINATION = 0, 43, 44, 59, 60
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!HHHH")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of data, odd lengths padded with a zero.

    A sum of 16-bit words with carries brought round is the number modulo 2**16 - 1.
    """
    if len(data) & 1:
        data += b"\0"
    number = int.from_bytes(data)
    total = number % 0xFFFF
    return 0xFFFF - (total if total or not number else 0xFFFF)


def mac(text: str) -> bytes:
    """6 bytes of '02:00:00:00:00:01'."""
    return bytes.fromhex(text.replace(":", ""))


def ip4(text: str) -> bytes:
    """4 bytes of '192.0.2.1'."""
    return IPv4Address(text).packed


def ip6(text: str) -> bytes:
    """16 bytes of '2001:db8::1'."""
    return IPv6Address(text).packed


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """One layer and what it carries."""

    payload: Packet | bytes = b""

    def build(self, pseudo: bytes = b"") -> bytes:
        """The bytes.  pseudo: the addresses of the IP layer above, for checksums."""
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        return self.build()

    def body(self, pseudo: bytes = b"") -> bytes:
        """The payload's bytes."""
        payload = self.payload
        return payload if isinstance(payload, bytes) else payload.build(pseudo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ether(Packet):
    """IEEE 802.3 with an optional 802.1Q tag.  Addresses are 6 bytes."""

    dst: bytes
    src: bytes
    type: int = ETH_IPV4
    vlan: int | None = None

    def build(self, pseudo: bytes = b"") -> bytes:
        head = self.dst + self.src
        if self.vlan is not None:
            head += struct.pack("!HH", ETH_VLAN, self.vlan)
        return head + self.type.to_bytes(2) + self.body()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arp(Packet):
    """RFC 826, for Ethernet and IPv4."""

    op: int
    sha: bytes
    spa: bytes
    tha: bytes = b"\0" * 6
    tpa: bytes
    htype: int = 1
    ptype: int = ETH_IPV4
    hlen: int = 6
    plen: int = 4

    def build(self, pseudo: bytes = b"") -> bytes:
        head = struct.pack("!HHBBH", self.htype, self.ptype, self.hlen, self.plen, self.op)
        return head + self.sha + self.spa + self.tha + self.tpa + self.body()


@dataclass(frozen=True, slots=True, kw_only=True)
class IPv4(Packet):
    """RFC 791.  fragment: offset in units of 8 bytes; flags: 1 more fragments, 2 don't fragment."""

    src: bytes
    dst: bytes
    protocol: int
    ttl: int = 64
    tos: int = 0
    ident: int = 1
    flags: int = 0
    fragment: int = 0
    options: bytes = b""
    version: int = 4
    ihl: int | None = None
    total_length: int | None = None
    check: int | None = None

    def build(self, pseudo: bytes = b"") -> bytes:
        body = self.body(self.src + self.dst)
        options = self.options + b"\0" * (-len(self.options) % 4)
        words = 5 + len(options) // 4
        first = self.version << 4 | (words & 15 if self.ihl is None else self.ihl)
        length = words * 4 + len(body) if self.total_length is None else self.total_length
        where = self.flags << 13 | self.fragment
        fields = (first, self.tos, length & 0xFFFF, self.ident, where, self.ttl, self.protocol)
        check = self.check
        if check is None:
            check = checksum(_IPV4.pack(*fields, 0, self.src, self.dst) + options)
        return _IPV4.pack(*fields, check, self.src, self.dst) + options + body


@dataclass(frozen=True, slots=True, kw_only=True)
class IPv6(Packet):
    """RFC 8200.  headers: extension headers as (their own type, content after the first two
    bytes, padded by the author to 8n - 2); next: the protocol of the payload."""

    src: bytes
    dst: bytes
    next: int
    hop_limit: int = 64
    traffic_class: int = 0
    flow: int = 0
    headers: tuple[tuple[int, bytes], ...] = ()
    version: int = 6
    payload_length: int | None = None

    def build(self, pseudo: bytes = b"") -> bytes:
        body = self.body(self.src + self.dst)
        following = self.next
        for kind, content in reversed(self.headers):
            length = 0 if kind == FRAGMENT else (len(content) + 2) // 8 - 1
            body = bytes((following, length & 255)) + content + body
            following = kind
        word = self.version << 28 | self.traffic_class << 20 | self.flow
        length = len(body) if self.payload_length is None else self.payload_length
        return (
            _IPV6.pack(word, length & 0xFFFF, following, self.hop_limit, self.src, self.dst) + body
        )


def _transport(pseudo: bytes, protocol: int, segment: bytes) -> int:
    """The checksum with the pseudo header of RFC 793 or RFC 8200, by the addresses' length."""
    form = "!BBH" if len(pseudo) == 8 else "!I3xB"
    numbers = (0, protocol, len(segment)) if len(pseudo) == 8 else (len(segment), protocol)
    if len(pseudo) == 8 and len(segment) > 0xFFFF:
        numbers = (0, protocol, len(segment) & 0xFFFF)
    return checksum(pseudo + struct.pack(form, *numbers) + segment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Icmp(Packet):
    """RFC 792: type, code, the second word, data."""

    type: int = 8
    code: int = 0
    rest: bytes = b"\0\x01\0\x01"
    check: int | None = None

    def build(self, pseudo: bytes = b"") -> bytes:
        tail = self.rest + self.body()
        head = bytes((self.type, self.code))
        check = self.check
        if check is None:
            check = self._checksum(pseudo, head + b"\0\0" + tail)
        return head + check.to_bytes(2) + tail

    def _checksum(self, pseudo: bytes, message: bytes) -> int:
        return checksum(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Icmpv6(Icmp):
    """RFC 4443, and the messages of RFC 4861: the same form, summed with the addresses."""

    type: int = 128

    def _checksum(self, pseudo: bytes, message: bytes) -> int:
        return _transport(pseudo, ICMPV6, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Udp(Packet):
    """RFC 768."""

    sport: int
    dport: int
    length: int | None = None
    check: int | None = None

    def build(self, pseudo: bytes = b"") -> bytes:
        body = self.body()
        length = 8 + len(body) if self.length is None else self.length
        check = self.check
        if check is None:
            head = _UDP.pack(self.sport, self.dport, length & 0xFFFF, 0)
            # 0 says "no checksum"; its other form is sent.
            check = _transport(pseudo, UDP, head + body) or 0xFFFF
        return _UDP.pack(self.sport, self.dport, length & 0xFFFF, check) + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcp(Packet):
    """RFC 9293.  options are padded with end-of-list."""

    sport: int
    dport: int
    seq: int = 0
    ack: int = 0
    flags: int = SYN
    window: int = 65535
    urgent: int = 0
    options: bytes = b""
    doff: int | None = None
    check: int | None = None

    def build(self, pseudo: bytes = b"") -> bytes:
        options = self.options + b"\0" * (-len(self.options) % 4)
        words = 5 + len(options) // 4 if self.doff is None else self.doff
        fields = (self.sport, self.dport, self.seq, self.ack, (words & 15) << 4, self.flags)
        tail = options + self.body()
        check = self.check
        if check is None:
            head = _TCP.pack(*fields, self.window, 0, self.urgent)
            check = _transport(pseudo, TCP, head + tail)
        return _TCP.pack(*fields, self.window, check, self.urgent) + tail


@dataclass(frozen=True, slots=True)
class Case:
    """A frame to send, and what is known of it."""

    frame: bytes
    kind: str
    """'valid', 'nearly valid' or 'wild'."""
    flaw: str = ""
    """The one thing that is wrong with a nearly valid one."""
    layers: tuple[str, ...] = field(default=())
