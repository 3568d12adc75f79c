# SPDX-License-Identifier: GPL-2.0
"""A simulated neighbour on a netdev's link: answers ARP, NDP and pings, in a few dozen lines."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from anykernel.errors import UsageError
from anykernel.kernel import rtnl

if TYPE_CHECKING:
    from anykernel.kernel.netdev import Netdev

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ICMP, UDP, ICMPV6 = 1, 17, 58
ROUNDS = 100


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class Peer:
    """A neighbour with a MAC address and IP addresses.

    Made by netdev.add_peer(), which also tells the kernel where it is, so that nothing has to be
    resolved.  ping() and udp() send from it; answer() and serve() let it react to the kernel.
    """

    def __init__(self, netdev: Netdev, addresses: Iterable[str], mac: bytes) -> None:
        self.netdev = netdev
        self.addresses = [rtnl.address(text) for text in addresses]
        self.mac_bytes = mac
        self._identification = 0

    @property
    def mac(self) -> str:
        return self.mac_bytes.hex(":")

    def __repr__(self) -> str:
        return f"<Peer {self.mac} {' '.join(map(str, self.addresses))} on {self.netdev.last.name}>"

    def _own(self, version: int) -> rtnl.Address:
        for address in self.addresses:
            if address.version == version:
                return address
        raise UsageError(f"{self!r} has no IPv{version} address: give it one in add_peer()")

    # Making frames

    def ether(self, kind: int, payload: bytes, to: bytes | None = None) -> bytes:
        """An Ethernet frame to the netdev (or `to`)."""
        return (to or self.netdev.mac_bytes) + self.mac_bytes + struct.pack("!H", kind) + payload

    def ip(
        self, to: str, protocol: int, payload: bytes, *, source: str | None = None, ttl: int = 64
    ) -> bytes:
        """A frame with an IPv4 or IPv6 packet, as `to` is; the payload is taken as it is."""
        target = rtnl.address(to)
        sender = self._own(target.version) if source is None else rtnl.address(source)
        if target.version == 6:
            head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, ttl)
            return self.ether(IPV6, head + sender.packed + target.packed + payload)
        self._identification = (self._identification + 1) & 0xFFFF
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), self._identification, 0, ttl, protocol,
            0, sender.packed, target.packed,
        )  # fmt: skip
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return self.ether(IPV4, head + payload)

    def _summed(self, to: str, protocol: int, data: bytes, at: int, source: str | None) -> bytes:
        """The payload with its checksum at byte `at`, pseudo-header included where there is one."""
        target = rtnl.address(to)
        sender = self._own(target.version) if source is None else rtnl.address(source)
        pseudo = b"" if protocol == ICMP else sender.packed + target.packed
        if protocol != ICMP:
            pseudo += struct.pack("!II", len(data), protocol)
        value = checksum(pseudo + data)
        if protocol == UDP and value == 0:
            value = 0xFFFF
        return data[:at] + struct.pack("!H", value) + data[at + 2 :]

    def echo_request(
        self, to: str, payload: bytes = b"", *, ident: int = 1, sequence: int = 1
    ) -> bytes:
        """A frame with a ping."""
        protocol, kind = (ICMP, 8) if rtnl.address(to).version == 4 else (ICMPV6, 128)
        data = struct.pack("!BBHHH", kind, 0, 0, ident, sequence) + payload
        return self.ip(to, protocol, self._summed(to, protocol, data, 2, None))

    def datagram(self, to: str, port: int, data: bytes, *, source_port: int = 40000) -> bytes:
        """A frame with a UDP datagram."""
        raw = struct.pack("!HHHH", source_port, port, 8 + len(data), 0) + data
        return self.ip(to, UDP, self._summed(to, UDP, raw, 6, None))

    # Talking

    def ping(self, to: str, payload: bytes = b"anykernel", **options: int) -> bytes | None:
        """Pings the kernel.  Returns the payload of its answer, None when there is none."""
        version = rtnl.address(to).version
        kind = b"\0" if version == 4 else b"\x81"
        for frame in self.netdev.exchange(self.echo_request(to, payload, **options)):
            found = self._payload(frame)
            if found is not None and found[2][:1] == kind:
                return found[2][8:]
        return None

    def _payload(self, frame: bytes) -> tuple[int, tuple[bytes, bytes], bytes] | None:
        """(protocol, (source, destination), payload) of an IP packet without extensions."""
        kind = int.from_bytes(frame[12:14], "big")
        if kind == IPV4 and len(frame) >= 34:
            head = (frame[14] & 15) * 4
            total = int.from_bytes(frame[16:18], "big")
            return frame[23], (frame[26:30], frame[30:34]), frame[14 + head : 14 + total]
        if kind == IPV6 and len(frame) >= 54:
            total = int.from_bytes(frame[18:20], "big")
            return frame[20], (frame[22:38], frame[38:54]), frame[54 : 54 + total]
        return None

    def answer(self, frame: bytes) -> bytes | None:
        """What this neighbour sends when it sees `frame`: to ARP, NDP and pings for it."""
        mine = {address.packed for address in self.addresses}
        if int.from_bytes(frame[12:14], "big") == ARP and len(frame) >= 42:
            sender, target = frame[28:32], frame[38:42]
            if frame[20:22] != b"\0\1" or target not in mine:
                return None
            who = frame[22:28]
            body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 2) + self.mac_bytes + target + who + sender
            return self.ether(ARP, body, who)
        found = self._payload(frame)
        if found is None:
            return None
        protocol, (source, destination), data = found
        asker = str(ipaddress.ip_address(source))
        if protocol == ICMPV6 and data[:1] == b"\x87" and data[8:24] in mine:
            if not any(source):  # duplicate address detection: the whole link is told
                asker = "ff02::1"
            own = str(ipaddress.ip_address(data[8:24]))
            flags = 0x60000000 if any(source) else 0x20000000
            body = struct.pack("!BBHI", 0x88, 0, 0, flags) + data[8:24] + b"\2\1" + self.mac_bytes
            body = self._summed(asker, ICMPV6, body, 2, own)
            return self.ip(asker, ICMPV6, body, source=own, ttl=255)
        request = {ICMP: b"\x08", ICMPV6: b"\x80"}.get(protocol)
        if request is not None and data[:1] == request and destination in mine:
            own = str(ipaddress.ip_address(destination))
            kind = b"\0" if protocol == ICMP else b"\x81"
            body = self._summed(asker, protocol, kind + b"\0\0\0" + data[4:], 2, own)
            return self.ip(asker, protocol, body, source=own)
        return None

    def serve(self, frames: Iterable[bytes]) -> list[bytes]:
        """Answers `frames`, and what the kernel sends then, until there is nothing to answer.

        Returns all frames that the kernel sent meanwhile.
        """
        sent: list[bytes] = []
        queue = list(frames)
        for _ in range(ROUNDS):
            answers = [found for frame in queue if (found := self.answer(frame)) is not None]
            if not answers:
                return sent
            queue = [frame for group in self.netdev.exchange(answers) for frame in group]
            sent += queue
        raise UsageError(f"the kernel and {self!r} have answered each other {ROUNDS} times")
