# SPDX-License-Identifier: GPL-2.0
"""Two routers, one virtual gateway: VRRP (RFC 5798), as keepalived speaks it.  The original suite
had no such case; it stands beside "quagga" for daemons that watch each other.

Property: when the master's link dies, the backup notices the silence after three advertisement
intervals and its skew time, takes the address over, and a gratuitous ARP moves the host's traffic:
no earlier, no later.  A master that says goodbye is replaced after the skew time alone.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.kernel.netdev import to_scapy
from anykernel.kernel.rtnl import Rtnl
from anykernel.net.traffic import checksum

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket
    from anykernel.net import Network
    from anykernel.net.link import Link, Port
    from anykernel.net.node import Node

VRRP, GROUP, TYPE = 112, "224.0.0.18", 0x31
BIND_TO_DEVICE = 25
INTERVAL = 0.2
"""Seconds from one advertisement to the next."""
PRIORITY = {"left": 200, "right": 100}
PING = 0.01
VIRTUAL = {"inside": "10.0.1.254", "outside": "10.0.2.254"}


def skew(priority: int) -> float:
    return (256 - priority) / 256 * INTERVAL


@dataclass
class Router:
    """One program for each of its sides; when one side has no carrier, both resign."""

    network: Network
    node: Node
    priority: int
    leaves: bool = False
    took_over: dict[str, list[float]] = field(default_factory=dict)

    sides: dict[str, Port] = field(default_factory=dict)

    def able(self, process: Process) -> bool:
        carriers = [
            process.read_text(f"/sys/class/net/{port.netdev.name}/carrier").strip()
            for port in self.sides.values()
        ]
        return carriers == ["1", "1"] and not self.leaves

    def run(self, process: Process, side: str) -> None:
        port = self.sides[side]
        virtual = f"{VIRTUAL[side]}/32"
        with process.socket(socket.AF_INET, socket.SOCK_RAW, VRRP) as sock, Rtnl(process) as rtnl:
            self.prepare(sock, port)
            while True:
                self.listen(process, sock)
                rtnl.add_address(port.netdev.ifindex, virtual)
                self.took_over.setdefault(side, []).append(self.network.seconds)
                shout(process, port, VIRTUAL[side])
                self.rule(process, sock, port, side)
                rtnl.remove_address(port.netdev.ifindex, virtual)
                while not self.able(process):
                    self.network.sleep(INTERVAL)

    def prepare(self, sock: Socket, port: Port) -> None:
        device, index = port.netdev.name.encode(), port.netdev.ifindex
        request = socket.inet_aton(GROUP) + struct.pack("=4xi", index)
        sock.setsockopt(socket.SOL_SOCKET, BIND_TO_DEVICE, device)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)

    def heard(self, sock: Socket, until: float) -> int | None:
        """The next advertisement's priority; None: none until then."""
        while (rest := until - self.network.seconds) > 0:
            sock.settimeout(rest)
            with suppress(TimeoutError):
                packet = sock.recv(2000)
                message = packet[(packet[0] & 15) * 4 :]
                # Checksums are the test's business: see test_what_is_said().
                if packet[8] == 255 and len(message) >= 8 and message[0] == TYPE:
                    return message[2]
        return None

    def listen(self, process: Process, sock: Socket) -> None:
        """As backup: until nobody is master."""
        silence = 3 * INTERVAL + skew(self.priority)
        until = self.network.seconds + silence
        while (priority := self.heard(sock, until)) is not None:
            if priority == 0:
                until = self.network.seconds + skew(self.priority)
            elif priority >= self.priority:
                until = self.network.seconds + silence
        while not self.able(process):
            self.network.sleep(INTERVAL)

    def rule(self, process: Process, sock: Socket, port: Port, side: str) -> None:
        """As master: until somebody is better, or we can't any more."""
        while self.able(process):
            self.say(sock, port, side, self.priority)
            until = self.network.seconds + INTERVAL
            while (priority := self.heard(sock, until)) is not None:
                if priority > self.priority:
                    return
        self.say(sock, port, side, 0)

    def say(self, sock: Socket, port: Port, side: str, priority: int) -> None:
        """An advertisement; in version 3 its checksum covers the pseudo header."""
        source = port.addresses[0].partition("/")[0]
        hundredths = round(INTERVAL * 100)
        address = IPv4Address(VIRTUAL[side]).packed
        body = struct.pack(">BBBBHH", TYPE, 1, priority, 1, hundredths, 0) + address
        pseudo = socket.inet_aton(source) + socket.inet_aton(GROUP)
        total = checksum(pseudo + struct.pack(">HH", VRRP, len(body)) + body)
        sock.sendto(body[:6] + struct.pack(">H", total) + body[8:], (GROUP, 0))


def shout(process: Process, port: Port, address: str) -> None:
    """A gratuitous ARP."""
    mac, ip = port.netdev.mac_bytes, socket.inet_aton(address)
    arp = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + mac + ip + bytes(6) + ip
    with process.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.sendto(b"\xff" * 6 + mac + b"\x08\x06" + arp, (port.netdev.name, 0))


@dataclass
class Site:
    network: Network
    inside: Link
    left: Router
    right: Router
    host: Node
    server: Node

    def outages(self, count: int) -> list[float]:
        """For how long pings, which begin now, were not answered, each time."""
        begin = self.network.seconds
        ping = self.network.ping(self.host, self.server, interval=PING, count=count)
        self.network.run()
        answered = [echo.sent for echo in ping.echoes if echo.rtt is not None]
        gaps = [later - earlier for earlier, later in pairwise([begin, *answered])]
        return [gap for gap in gaps if gap > 1.5 * PING]


@pytest.fixture
def site(network: Network) -> Site:
    """host - inside - (left, right) - outside - server; both ends know only the virtual ones."""
    left, right, host, server = (network.node(name) for name in ("left", "right", "host", "server"))
    inside, outside = (network.switch(name=name, delay="50us") for name in ("inside", "outside"))
    for subnet, (link, end) in enumerate(((inside, host), (outside, server)), 1):
        for number, node in enumerate((left, right, end), 1):
            link.plug(node, addresses=f"10.0.{subnet}.{number}/24")
        end.ports[0].netdev.add_route("default", via=VIRTUAL[link.name])
    routers = []
    for node in (left, right):
        node.sysctl["net.ipv4.ip_forward"] = 1
        router = Router(network, node, PRIORITY[node.name])
        router.sides = {port.link.name: port for port in node.ports}
        routers.append(router)
        for side in VIRTUAL:
            network.start(router.run, side, on=node, name=f"vrrp {side}", daemon=True)
    network.run(2)
    return Site(network, inside, routers[0], routers[1], host, server)


def test_a_dead_link_is_noticed_after_three_intervals_and_the_skew(site: Site) -> None:
    """And when the link is back, so is the better router, for which nobody has to wait."""
    network = site.network
    assert site.outages(20) == []
    assert list(site.left.took_over) == ["inside", "outside"] and not site.right.took_over
    cut = network.seconds
    port = site.left.sides["inside"]
    port.unplug()
    (outage,) = site.outages(200)
    silence = 3 * INTERVAL + skew(PRIORITY["right"])
    assert silence - INTERVAL <= outage <= silence + 2 * PING
    (moment,) = site.right.took_over["inside"]
    assert silence - INTERVAL <= moment - cut <= silence
    assert cut + outage >= moment

    site.inside.plug(site.left.node, netdev=port.netdev)
    assert site.outages(300) == []
    assert len(site.left.took_over["inside"]) == 2
    assert network.seconds - site.left.took_over["inside"][1] < 3, "the backup gave way"


def test_who_says_goodbye_is_replaced_after_the_skew(site: Site) -> None:
    """Priority 0: the backup doesn't wait for silence.  No packet is lost: who leaves passes on
    what still reaches it."""
    assert site.outages(5) == []
    site.left.leaves = True
    asked = site.network.seconds
    assert site.outages(150) == []
    for moments in site.right.took_over.values():
        (moment,) = moments
        assert (
            skew(PRIORITY["right"]) <= moment - asked <= skew(PRIORITY["right"]) + INTERVAL + PING
        )
    assert site.right.took_over.keys() == VIRTUAL.keys()


def test_what_is_said(site: Site) -> None:
    """Only the master speaks, once in each interval; scapy agrees with the checksum; the host's
    neighbour is the backup from its gratuitous ARP on."""
    from scapy.layers.inet import IP
    from scapy.layers.l2 import ARP, Ether
    from scapy.layers.vrrp import VRRPv3

    def messages(found: list[Any]) -> list[tuple[float, Any]]:
        pairs = [(one.time_ns / 1e9, to_scapy(one.data)) for one in found]
        return [(moment, packet) for moment, packet in pairs if VRRPv3 in packet]

    with site.inside.capture() as found:
        site.network.run(10 * INTERVAL)
    said = messages(found)
    assert {packet[IP].src for _, packet in said} == {"10.0.1.1"}
    assert [round(later - earlier, 6) for (earlier, _), (later, _) in pairwise(said)] == [
        INTERVAL
    ] * (len(said) - 1)
    assert len(said) == 10
    for _, packet in said:
        message = packet[VRRPv3]
        assert packet[Ether].dst == "01:00:5e:00:00:12" and packet[IP].ttl == 255
        assert (message.vrid, message.priority, message.adv) == (1, 200, round(INTERVAL * 100))
        assert message.addrlist == [VIRTUAL["inside"]]
        fresh = packet[IP].copy()
        del fresh.chksum, fresh[VRRPv3].chksum
        assert bytes(fresh) == bytes(packet[IP])[: len(fresh)]

    assert site.outages(5) == []
    site.left.sides["inside"].unplug()
    with site.inside.capture() as found:
        site.outages(150)
    arps = [packet for packet in (to_scapy(one.data) for one in found) if ARP in packet]
    news = [arp for arp in arps if arp[ARP].psrc == arp[ARP].pdst == VIRTUAL["inside"]]
    assert [arp.src for arp in news] == [site.right.sides["inside"].netdev.mac]
    assert not [arp for arp in arps if arp[ARP].pdst == VIRTUAL["inside"] and arp not in news]
    assert {packet[IP].src for _, packet in messages(found)} == {"10.0.1.2"}
    (neighbour,) = site.host.iproute.get_neighbours(dst=VIRTUAL["inside"])
    assert neighbour.get_attr("NDA_LLADDR") == site.right.sides["inside"].netdev.mac
