# SPDX-License-Identifier: GPL-2.0
"""The few rtnetlink messages that setting up a netdev takes, without the weight of pyroute2."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from anykernel.errors import KernelError, UsageError, call_error

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket

NEWLINK, DELLINK, GETLINK, NEWADDR, DELADDR, GETADDR = 16, 17, 18, 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE, NEWNEIGH = 24, 25, 26, 28
REQUEST, ACK, CREATE, REPLACE, DUMP = 0x1, 0x4, 0x400, 0x100, 0x300
ERROR, DONE = 2, 3
STATIC = 4
"""The protocol number (in the sense of rtm_protocol) of routes that somebody set."""
CHUNK = 16 << 10
"""Bytes of requests that are sent at once: the answers, too, must fit in the socket's buffer."""
IFF_UP, IFF_LOWER_UP = 1, 0x10000
IFA_F_NODAD = 0x02
UNUSABLE = 0x40 | 0x08
"""IFA_F_TENTATIVE | IFA_F_DADFAILED."""
PERMANENT = 0x80
MAIN, LINK, NOWHERE = 254, 253, 255
SIOCGSKNS = 0x894C
CLONE_NEWNET = 0x40000000
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Device(NamedTuple):
    """A network device: its index and name, its flags (IFF_UP ...), its MTU."""

    ifindex: int
    name: str
    flags: int
    mtu: int


STATISTICS = (
    "rx_packets tx_packets rx_bytes tx_bytes rx_errors tx_errors rx_dropped tx_dropped multicast"
    " collisions rx_length_errors rx_over_errors rx_crc_errors rx_frame_errors rx_fifo_errors"
    " rx_missed_errors tx_aborted_errors tx_carrier_errors tx_fifo_errors tx_heartbeat_errors"
    " tx_window_errors rx_compressed tx_compressed rx_nohandler"
)
"""The first fields of struct rtnl_link_stats64."""


class LinkInfo(NamedTuple):
    """A network device as it is at one moment."""

    ifindex: int
    name: str
    mtu: int
    mac: bytes
    permanent: bytes
    """The address that it was made with; empty for devices that have none."""
    up: bool
    carrier: bool
    statistics: dict[str, int]

    @classmethod
    def read(cls, body: bytes) -> LinkInfo:
        """From a message's struct ifinfomsg and attributes."""
        index, flags = struct.unpack_from("=iI", body, 4)
        values = _attributes(body[16:])
        names = STATISTICS.split(" ")
        counters = struct.unpack_from(f"={len(names)}Q", values[23])
        return cls(
            index,
            values[3].rstrip(b"\0").decode(errors="replace"),
            int.from_bytes(values[4], "little"),
            values.get(1, b""),
            values.get(54, b""),
            bool(flags & IFF_UP),
            bool(flags & IFF_LOWER_UP),
            dict(zip(names, counters, strict=True)),
        )


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


def attribute(kind: int, data: bytes) -> bytes:
    """A netlink attribute (struct nlattr), padded."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        found[kind] = data[4:size]
        data = data[size + -size % 4 :]
    return found


def family_of(version: int) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


class Rtnl:
    """An rtnetlink socket for a with block.

    namespace: a descriptor of the network namespace that it is for; None: the process's own.
    """

    def __init__(self, process: Process, namespace: int | None = None) -> None:
        self._process = process
        self._namespace = namespace
        self._waiting: list[tuple[int, int, bytes]] | None = None

    def __enter__(self) -> Rtnl:
        self._socket = self._open()
        if self._namespace is not None:
            with self._socket as here:
                self._socket = self._open_there(here, self._namespace)
        return self

    def _open(self) -> Socket:
        return self._process.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)

    def _open_there(self, here: Socket, namespace: int) -> Socket:
        """A socket belongs to the namespace that its process is in when it is made."""
        process = self._process
        own = process.syscall("ioctl", here.fileno(), SIOCGSKNS)
        try:
            process.os.setns(namespace, CLONE_NEWNET)
            made = self._open()
            process.os.setns(own, CLONE_NEWNET)
        except KernelError:
            raise
        except BaseException:
            process.os.close(own)
            raise
        process.os.close(own)
        return made

    def __exit__(self, *exc: object) -> None:
        self._socket.__exit__(*exc)  # type: ignore[arg-type]

    def fileno(self) -> int:
        """Its descriptor: it takes the requests of ioctl() that are about devices, too."""
        return self._socket.fileno()

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        if self._waiting is None:
            self._send([(kind, flags, body)])
        else:
            self._waiting.append((kind, flags, body))

    def request(self, kind: int, flags: int, body: bytes) -> None:
        """Sends a message of one's own (NEWROUTE ... with CREATE ...).  Raises OSError."""
        self._request(kind, flags, body)

    def _send(self, requests: Sequence[tuple[int, int, bytes]]) -> None:
        """The kernel answers failed requests, and the last one when it is done with all."""
        message = bytearray()
        for number, (kind, flags, body) in enumerate(requests, 1):
            flags |= REQUEST | (ACK if number == len(requests) else 0)
            message += struct.pack("=IHHII", 16 + len(body), kind, flags, number, 0) + body
            message += bytes(-len(body) % 4)
        self._socket.send(message)
        first = 0
        for _ in requests:  # each has one answer at most
            answer = self._socket.recv(1 << 16)
            if len(answer) < 20:
                raise KernelError(f"a netlink answer of {len(answer)} bytes: it should be an error")
            number, error = struct.unpack_from("=I4xi", answer, 8)
            first = first or error
            if number >= len(requests):
                break
        if first:
            raise call_error(first)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """The requests of the with block are sent together at its end, a few system calls for
        hundreds.  Where some fail, the others are done all the same; raises OSError for the first
        that failed."""
        self._waiting = []
        try:
            yield
            waiting = self._waiting
        finally:
            self._waiting = None
        start = size = 0
        for end, (_, _, body) in enumerate(waiting):
            size += 19 + len(body)
            if size > CHUNK:
                self._send(waiting[start:end])
                start, size = end, 19 + len(body)
        if waiting[start:]:
            self._send(waiting[start:])

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The bodies of all there are."""
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | DUMP, 1, 0) + body)
        while True:
            answer = self._socket.recv(1 << 16)
            at = 0
            while at < len(answer):
                size, kind = struct.unpack_from("=IH", answer, at)
                if kind in (ERROR, DONE):
                    return
                yield answer[at + 16 : at + size]
                at += size + -size % 4

    def links(self) -> list[LinkInfo]:
        """All network devices, with all that is told of them."""
        return [LinkInfo.read(body) for body in self._dump(GETLINK, bytes(16))]

    def link(self, ifindex: int) -> LinkInfo | None:
        """One of them, None if there is none of that number."""
        body = struct.pack("=BxHiII", 0, 0, ifindex, 0, 0)
        self._socket.send(struct.pack("=IHHII", 16 + len(body), GETLINK, REQUEST, 1, 0) + body)
        answer = self._socket.recv(1 << 16)
        size, kind = struct.unpack_from("=IH", answer)
        return None if kind == ERROR else LinkInfo.read(answer[16:size])

    def devices(self) -> list[Device]:
        """All network devices."""
        found = []
        for body in self._dump(GETLINK, bytes(16)):
            index, flags = struct.unpack_from("=iI", body, 4)
            values = _attributes(body[16:])
            name = values[3].rstrip(b"\0").decode()
            found.append(Device(index, name, flags, int.from_bytes(values[4], "little")))
        return found

    def addresses(self, tentative: bool = True) -> list[tuple[int, Interface]]:
        """All devices' addresses, each with its device's ifindex; those that can't be used (yet)
        only with `tentative`."""
        found = []
        for body in self._dump(GETADDR, bytes(8)):
            _, length, flags, _, index = struct.unpack_from("=BBBBI", body)
            if flags & UNUSABLE and not tentative:
                continue
            values = _attributes(body[8:])
            packed = values.get(2) or values[1]  # IFA_LOCAL, if there is a peer's address, too
            found.append((index, ipaddress.ip_interface((packed, length))))
        return found

    def up(self, ifindex: int, up: bool = True) -> None:
        """Sets a link's state."""
        body = struct.pack("=BxHiII", 0, 0, ifindex, IFF_UP if up else 0, IFF_UP)
        self._request(NEWLINK, 0, body)

    def set_mtu(self, ifindex: int, mtu: int) -> None:
        """Sets a link's MTU."""
        body = struct.pack("=BxHiII", 0, 0, ifindex, 0, 0)
        self._request(NEWLINK, 0, body + attribute(4, struct.pack("=I", mtu)))

    def add_address(self, ifindex: int, text: str, dad: bool = False) -> None:
        """Adds an address; without duplicate address detection an IPv6 one is usable at once."""
        value = interface(text)
        packed = value.ip.packed
        body = struct.pack(
            "=BBBBI", family_of(value.version), value.network.prefixlen,
            0 if dad else IFA_F_NODAD, 0, ifindex,
        )  # fmt: skip
        body += attribute(2, packed) + attribute(1, packed)
        if value.version == 4 and value.network.prefixlen < 31:
            body += attribute(4, value.network.broadcast_address.packed)
        self._request(NEWADDR, CREATE, body)

    def remove_address(self, ifindex: int, text: str) -> None:
        """Removes an address.  Raises OSError (EADDRNOTAVAIL) where the device doesn't have it."""
        value = interface(text)
        length = value.network.prefixlen
        body = struct.pack("=BBBBI", family_of(value.version), length, 0, 0, ifindex)
        self._request(DELADDR, 0, body + attribute(2, value.ip.packed))

    def add_neighbour(self, ifindex: int, text: str, mac: bytes) -> None:
        """Adds a permanent neighbour, so that nothing is asked by ARP or NDP."""
        value = address(text)
        body = struct.pack("=BxHiHBB", family_of(value.version), 0, ifindex, PERMANENT, 0, 0)
        body += attribute(1, value.packed) + attribute(2, mac)
        self._request(NEWNEIGH, CREATE | REPLACE, body)

    def add_route(self, ifindex: int, network: str, via: str | None = None) -> None:
        """Adds a route of the main table; network "default" needs `via`'s version."""
        gateway = None if via is None else address(via)
        if network == "default":
            network = "::/0" if gateway is not None and gateway.version == 6 else "0.0.0.0/0"
        target = ipaddress.ip_network(network)
        self._request(NEWROUTE, CREATE, _route(target, [(ifindex, gateway)], STATIC))

    def add_routes(
        self, network: Network, hops: Sequence[tuple[int, Address | None]], protocol: int = STATIC
    ) -> None:
        """Adds a route with one next hop (ifindex, gateway) or, of equal cost, several."""
        self._request(NEWROUTE, CREATE, _route(network, hops, protocol))

    def replace_route(
        self, network: Network, hops: Sequence[tuple[int, Address | None]], protocol: int = STATIC
    ) -> None:
        """As add_routes(), in place of the route to that network, if there is one."""
        self._request(NEWROUTE, CREATE | REPLACE, _route(network, hops, protocol))

    def remove_route(self, network: Network, protocol: int = STATIC) -> None:
        """Removes the main table's route to a network that somebody of this protocol set.  Raises
        ProcessLookupError (that is ESRCH) where there is none."""
        self._request(DELROUTE, 0, _route(network, [], protocol))

    def remove_routes(self, protocol: int) -> None:
        """Removes the main table's routes of a protocol number."""
        found = list(self._dump(GETROUTE, bytes(12)))
        with self.batch():
            for body in found:
                if body[4] == MAIN and body[5] == protocol:
                    self._request(DELROUTE, 0, body)


def _route(target: Network, hops: Sequence[tuple[int, Address | None]], protocol: int) -> bytes:
    direct = all(gateway is None for _, gateway in hops)
    scope = LINK if direct and target.version == 4 else 0
    if not hops:
        scope = NOWHERE
    length = target.prefixlen
    body = struct.pack(
        "=BBBBBBBBI", family_of(target.version), length, 0, 0, MAIN, protocol, scope, 1, 0
    )
    if length:
        body += attribute(1, target.network_address.packed)
    if not hops:
        return body
    if len(hops) == 1:
        ((index, gateway),) = hops
        return body + _gateway(gateway) + attribute(4, struct.pack("=i", index))
    several = b""
    for index, gateway in hops:
        nested = _gateway(gateway)
        several += struct.pack("=HBBi", 8 + len(nested), 0, 0, index) + nested
    return body + attribute(9, several)


def _gateway(gateway: Address | None) -> bytes:
    return b"" if gateway is None else attribute(5, gateway.packed)
