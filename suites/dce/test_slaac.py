# SPDX-License-Identifier: GPL-2.0
"""IPv6 neighbour discovery and address autoconfiguration on a segment; stands for the original
suite's cases "ping6" and "radvd" (router advertisements from a program on the router).

Property: hosts that hear a router advertisement (RFC 4861, built here by hand) have the addresses
that RFC 4862 derives from their MAC addresses, a default route for as long as it says, and the
better router of two (RFC 4191); nobody takes an address that somebody has; who vanishes is found
out after the times that RFC 4861 gives.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from anykernel.kernel.netdev import to_scapy
from anykernel.kernel.rtnl import Rtnl

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.link import Link, Port
    from anykernel.net.node import Node
    from anykernel.net.wire import Passage

PREFIX = ipaddress.IPv6Network("2001:db8:1::/64")
BEYOND = "2001:db8:2::1"
SOLICITATION, ADVERTISEMENT = 133, 134
ALL_NODES = "ff02::1"
START = 4.0
"""Seconds in which all have solicited: DAD with its delay, and RTR_SOLICITATION_DELAY."""
HIGH, LOW = 0x08, 0x18
"""Preferences (RFC 4191, 2.1)."""
REACHABLE, STALE, DELAY, FAILED = 0x02, 0x04, 0x08, 0x20
FIRST_PROBE, RETRANSMIT, PROBES, LONGEST = 5, 1, 3, 45
"""DELAY_FIRST_PROBE_TIME, RETRANS_TIMER, MAX_UNICAST_SOLICIT, REACHABLE_TIME * 1.5 (RFC 4861,
section 10), in seconds."""
LATE = 1 / 8
"""By which part a timer of the kernel's may be late (kernel/time/timer.c)."""
DEPRECATED = 0x20


@dataclass(frozen=True)
class Advertisement:
    """The fields of RFC 4861, 4.2, and of a prefix in 4.6.2; lifetimes in seconds."""

    lifetime: int = 1800
    preference: int = 0
    valid: int = 86400
    preferred: int = 14400
    hop_limit: int = 0
    mtu: int = 0

    def pack(self, mac: bytes) -> bytes:
        """With a checksum of 0: a raw ICMPv6 socket fills it in."""
        head = struct.pack(">BBH", ADVERTISEMENT, 0, 0)
        head += struct.pack(">BBHII", self.hop_limit, self.preference, self.lifetime, 0, 0)
        on_link_and_autonomous = 0xC0
        prefix = struct.pack(">BBBB", 3, 4, PREFIX.prefixlen, on_link_and_autonomous)
        prefix += struct.pack(">III", self.valid, self.preferred, 0)
        prefix += PREFIX.network_address.packed
        mtu = struct.pack(">BBHI", 5, 1, 0, self.mtu) if self.mtu else b""
        return head + struct.pack(">BB", 1, 1) + mac + prefix + mtu


def advertise(process: Process, port: Port, what: Advertisement, solicited: bool) -> None:
    """Sends one now or, as a daemon, one for each solicitation."""
    with process.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        while True:
            if solicited:
                while sock.recv(2000)[0] != SOLICITATION:
                    pass
            message = what.pack(port.netdev.mac_bytes)
            sock.sendto(message, (ALL_NODES, 0, 0, port.netdev.ifindex))
            if not solicited:
                return


def by_hand(port: Port) -> ipaddress.IPv6Address:
    """PREFIX and the MAC address as modified EUI-64 (RFC 4291, appendix A)."""
    mac = port.netdev.mac_bytes
    identifier = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return PREFIX.network_address + int.from_bytes(identifier, "big")


def link_local(port: Port) -> str:
    return str(ipaddress.IPv6Address("fe80::") + (int(by_hand(port)) & (1 << 64) - 1))


@dataclass
class Segment:
    network: Network
    link: Link
    router: Node
    hosts: list[Node]

    def flags(self, node: Node) -> dict[str, int]:
        """Of global addresses."""
        found = node.iproute.get_addr(family=socket.AF_INET6, index=node.ports[0].netdev.ifindex)
        flags = {one.get_attr("IFA_ADDRESS"): one.get_attr("IFA_FLAGS") for one in found}
        return {text: flag for text, flag in flags.items() if not text.startswith("fe80")}

    def say(self, what: Advertisement, router: Node | None = None) -> None:
        """An unsolicited advertisement, now."""
        node = router or self.router
        self.network.start(advertise, self.link.port(node), what, False, on=node)
        self.network.run()
        self.network.run(0.01)

    def wait(self, until: float) -> None:
        """Runs until that second.  Hosts are kept awake: lifetimes of addresses are the business
        of a timer that doesn't wake a kernel that sleeps (a deferrable one)."""
        for host in self.hosts:
            self.network.start(stay_awake, until - self.network.seconds, on=host)
        self.network.run(until - self.network.seconds)
        self.network.run()

    def lost(self, host: Node, address: str = BEYOND) -> int:
        """Of one ping."""
        ping = self.network.ping(host, address=address, count=1, interval=0.1)
        self.network.run()
        return ping.lost


def stay_awake(process: Process, seconds: float) -> None:
    """Lets timers of the common kind (not hrtimers) expire, four each second."""
    with process.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        timeout = struct.pack("=qq", 0, 250_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        for _ in range(int(4 * seconds)):
            with pytest.raises(BlockingIOError):
                sock.recv(1)


def segment(network: Network, hosts: int) -> Segment:
    """A router with an address beyond it, and hosts that don't know any."""
    router = network.node("router")
    nodes = [network.node(f"host{number}") for number in range(hosts)]
    router.sysctl["net.ipv6.conf.all.forwarding"] = 1
    link = network.segment(router, *nodes, delay="10us")
    with Rtnl(router) as rtnl:
        rtnl.add_address(1, f"{BEYOND}/128")
        rtnl.up(1)
    router.ports[0].netdev.add_route(str(PREFIX))
    return Segment(network, link, router, nodes)


def test_hosts_configure_themselves(network: Network) -> None:
    """They ask, one answer is enough for address, default route, MTU and hop limit; nobody has
    anything without it (the control)."""
    made = segment(network, 3)
    network.run(START)
    assert [made.flags(host) for host in made.hosts] == [{}] * 3
    late = Advertisement(hop_limit=42, mtu=1400)
    port = made.router.ports[0]
    network.start(advertise, port, late, True, on=made.router, daemon=True)
    with made.link.capture() as found:
        network.run(2 * START)  # RTR_SOLICITATION_INTERVAL is 4 s
    asked = [one for one in found if kind(one) == SOLICITATION]
    answered = [one for one in found if kind(one) == ADVERTISEMENT]
    assert 1 <= len(asked) == len(answered)
    for host in made.hosts:
        (port,) = host.ports
        assert set(made.flags(host)) == {str(by_hand(port))}
        (default,) = host.iproute.get_default_routes(family=socket.AF_INET6)
        assert default.get_attr("RTA_GATEWAY") == link_local(made.router.ports[0])
        conf = f"net.ipv6.conf.{port.netdev.name}"
        assert [host.sysctl[f"{conf}.{name}"] for name in ("mtu", "hop_limit")] == ["1400", "42"]
        assert made.lost(host) == 0
    others = [made.lost(made.hosts[0], str(by_hand(host.ports[0]))) for host in made.hosts[1:]]
    assert others == [0, 0]


def kind(passage: Passage) -> int:
    """The type of an ICMPv6 message without extension headers before it, or 0."""
    data = passage.data
    return data[54] if data[12:14] == b"\x86\xdd" and data[20] == socket.IPPROTO_ICMPV6 else 0


def test_an_address_is_taken_once(network: Network) -> None:
    """Duplicate address detection: who comes second gets nothing; of two at once, one at most."""
    made = segment(network, 3)
    network.run(START)

    def usable(address: str) -> list[str]:
        found = []
        for host in made.hosts:
            with Rtnl(host) as rtnl:
                if address in {str(item.ip) for _, item in rtnl.addresses(tentative=False)}:
                    found.append(host.name)
        return found

    one, other, third = (host.ports[0].netdev for host in made.hosts)
    one.add_address("2001:db8:1::7/64", dad=True)
    assert usable("2001:db8:1::7") == [], "tentative"
    network.run(3)
    assert usable("2001:db8:1::7") == ["host0"]
    other.add_address("2001:db8:1::7/64", dad=True)
    network.run(3)
    assert usable("2001:db8:1::7") == ["host0"]
    failed = 0x08
    assert made.flags(made.hosts[1])["2001:db8:1::7"] & failed
    assert made.lost(made.hosts[2], "2001:db8:1::7") == 1, "it has no address to ask from"
    other.add_address("2001:db8:1::8/64", dad=True)
    third.add_address("2001:db8:1::8/64", dad=True)
    network.run(3)
    assert len(usable("2001:db8:1::8")) <= 1
    third.add_address("2001:db8:1::9/64", dad=True)
    network.run(3)
    assert usable("2001:db8:1::9") == ["host2"] and made.lost(made.hosts[2], "2001:db8:1::7") == 0


def test_what_an_advertisement_gives_ends(network: Network) -> None:
    """The default route after the router's lifetime, an address's being preferred and its being
    valid after theirs; a lifetime of 0 is the end at once."""
    made = segment(network, 1)
    network.run(START)
    (host,) = made.hosts
    made.say(Advertisement(lifetime=10, preferred=20, valid=30))
    began = network.seconds
    address = str(by_hand(host.ports[0]))

    made.wait(began + 9)
    assert made.lost(host) == 0
    made.wait(began + 11)
    assert made.lost(host) == 1
    made.wait(began + 19)
    assert not made.flags(host)[address] & DEPRECATED
    made.wait(began + 22)
    assert made.flags(host)[address] & DEPRECATED
    made.wait(began + 28)
    assert address in made.flags(host)
    made.wait(began + 33)
    assert made.flags(host) == {}

    made.say(Advertisement())
    network.run(3)
    assert made.lost(host) == 0
    made.say(Advertisement(lifetime=0))
    assert made.lost(host) == 1


def send(process: Process, target: str) -> None:
    with process.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"?", (target, 9))


def test_who_vanishes_is_found_out(network: Network) -> None:
    """REACHABLE, STALE, DELAY, PROBE, FAILED: questions 5, 6 and 7 seconds after a packet, to the
    neighbour's own MAC address; a second later it is given up, and who sends again asks all."""
    made = segment(network, 2)
    network.run(START)
    made.say(Advertisement())
    network.run(3)
    host, other = made.hosts
    (port,) = other.ports
    target = str(by_hand(port))

    def state() -> int:
        (found,) = host.iproute.get_neighbours(dst=target)
        return int(found["state"])

    assert made.lost(host, target) == 0
    assert state() == REACHABLE
    port.unplug()
    network.run(LONGEST * (1 + LATE))
    began = network.seconds
    assert state() in (STALE, REACHABLE), "a host that nothing wakes forgets to look"
    with made.link.capture() as found:
        network.start(send, target, on=host)
        network.run()
        assert state() == DELAY
        network.run((FIRST_PROBE + PROBES * RETRANSMIT) * (1 + LATE))
        assert state() == FAILED
        asked = network.seconds
        network.start(send, target, on=host)
        network.run(5)
    packets = [(one.time_ns / 1e9, to_scapy(one.data)) for one in found if kind(one) == 135]
    packets = [(moment, one) for moment, one in packets if one.payload.payload.tgt == target]
    mac = port.netdev.mac
    single = [moment for moment, packet in packets if packet.dst == mac]
    group = [moment for moment, packet in packets if packet.dst != mac]
    for moments, first in (single, began + FIRST_PROBE), (group, asked):
        assert len(moments) == PROBES
        assert first <= moments[0] <= first + FIRST_PROBE * LATE
        for earlier, later in pairwise(moments):
            assert RETRANSMIT <= later - earlier <= RETRANSMIT * (1 + LATE)
    assert group[0] == pytest.approx(asked, abs=1e-3)


def test_the_better_router(network: Network) -> None:
    """The host takes the router of high preference; when that one is gone, the other, as soon as
    neighbour unreachability detection says so."""
    made = segment(network, 1)
    (host,) = made.hosts
    if "net.ipv6.conf.all.accept_ra_rtr_pref" not in host.sysctl:
        pytest.skip("this kernel has no router preferences (CONFIG_IPV6_ROUTER_PREF)")
    second = network.node("second")
    second.sysctl["net.ipv6.conf.all.forwarding"] = 1
    made.link.plug(second)
    network.run(START)
    made.say(Advertisement(preference=LOW), made.router)
    made.say(Advertisement(preference=HIGH), second)
    network.run(3)

    macs = {port.netdev.mac_bytes: port.node.name for port in made.link.ports}

    def chosen() -> list[str]:
        """Whose MAC addresses packets beyond are sent to."""
        with made.link.capture() as found:
            network.start(send, BEYOND, on=host)
            network.run()
            network.run(0.01)
        return [macs[one.data[:6]] for one in found if one.data[20:21] == b"\x11"]

    assert chosen() == ["second"]
    made.say(Advertisement(preference=LOW), second)
    made.say(Advertisement(preference=HIGH), made.router)
    assert chosen() == ["router"]
    made.router.ports[0].unplug()
    began = network.seconds
    bound = (LONGEST + FIRST_PROBE + PROBES * RETRANSMIT) * (1 + LATE)
    while chosen() != ["second"]:
        assert network.seconds - began <= bound
        network.run(1)
    assert network.seconds - began > FIRST_PROBE
