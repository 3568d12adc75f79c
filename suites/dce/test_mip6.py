# SPDX-License-Identifier: GPL-2.0
"""Mobile IPv6 (RFC 6275); stands for the original suite's case "mip6" (umip on home agent and
mobile node, a handover between access routers).

Property: a correspondent reaches a mobile node by its home address wherever it is: at home; from
abroad through the home agent (IPv6 in IPv6, both ways); and, when the correspondent has a binding,
directly, with the kernel's own home address option and type 2 routing header (net/ipv6/mip6.c,
XFRM mode "route optimization").  Streams survive handovers, and what they lose is bounded by the
time that a handover takes.

Binding updates and acknowledgements are made by hand, by programs on raw sockets.  Left out: return
routability (a correspondent believes each update), IPsec, proxy neighbours on the home link.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.kernel.netdev import to_scapy
from anykernel.kernel.rtnl import Rtnl
from anykernel.net import xfrm as x

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket
    from anykernel.net import Network
    from anykernel.net.link import Link, Port
    from anykernel.net.node import Node
    from anykernel.net.wire import Passage

PREFIXES = {name: f"2001:db8:{number}" for number, name in enumerate(("home", "west", "east"), 1)}
HOME, AGENT = f"{PREFIXES['home']}::100", f"{PREFIXES['home']}::1"
CORRESPONDENT = "2001:db8:c::10"
MOBILITY, UPDATE, ACKNOWLEDGEMENT, NOTHING_FOLLOWS = 135, 5, 6, 59
ACKNOWLEDGE, REGISTER = 0x8000, 0x4000
"""The bits A and H."""
ADVERTISED = 0.05
"""Seconds between router advertisements: RFC 6275, 7.5, allows 0.03 to 0.07 on average."""
DELAY = 0.002
RATE = "10Mbit"
NODAD_HOME = 0x02 | 0x10
"""IFA_F_NODAD | IFA_F_HOMEADDRESS."""
TABLE = 100
ECHO = bytes(56)
"""What pings carry."""


def advertise(process: Process, network: Network, port: Port) -> None:
    """Router advertisements, without an end."""
    prefix = ipaddress.IPv6Address(PREFIXES[port.link.name] + "::").packed
    message = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 3, 0, 0)
    message += struct.pack(">BBBBIII", 3, 4, 64, 0xC0, 60, 60, 0) + prefix
    with process.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        while True:
            with suppress(OSError):  # its link-local address is still tentative
                sock.sendto(message, ("ff02::1", 0, 0, port.netdev.ifindex))
            network.sleep(ADVERTISED)


def update(sequence: int, care_of: str, lifetime: int, flags: int) -> bytes:
    """A binding update (6.1.7) with an alternate care-of address (6.2.5); lifetime in 4 s."""
    head = struct.pack(">BBBBHHHH", NOTHING_FOLLOWS, 3, UPDATE, 0, 0, sequence, flags, lifetime)
    padding = bytes([1, 0])
    return head + padding + bytes([3, 16]) + ipaddress.IPv6Address(care_of).packed


def acknowledge(sequence: int, lifetime: int) -> bytes:
    """A binding acknowledgement (6.1.8): accepted."""
    head = struct.pack(">BBBBHBBHH", NOTHING_FOLLOWS, 1, ACKNOWLEDGEMENT, 0, 0, 0, 0, sequence,
                       lifetime)  # fmt: skip
    return head + bytes([1, 2, 0, 0])


def options_state(peer: str, care_of: str) -> x.State:
    """What puts the home address option into packets to the peer, or lets the peer take it."""
    return x.State(HOME, peer, protocol=x.DESTINATION_OPTIONS, mode=x.ROUTE_OPTIMIZATION,
                   care_of=care_of, window=0)  # fmt: skip


def routing_state(peer: str, care_of: str) -> x.State:
    """The same for the type 2 routing header from the peer."""
    return x.State(peer, HOME, protocol=x.ROUTING, mode=x.ROUTE_OPTIMIZATION, care_of=care_of,
                   window=0)  # fmt: skip


OPTIONS = x.Template("::", "::", x.DESTINATION_OPTIONS, x.ROUTE_OPTIMIZATION)
ROUTED = x.Template("::", "::", x.ROUTING, x.ROUTE_OPTIMIZATION)


def maybe(template: x.Template) -> list[x.Template]:
    """Packets may come with it or without."""
    return [x.Template("::", "::", template.protocol, template.mode, optional=True)]


def bind(xfrm: x.Xfrm, peer: str, care_of: str | None, old: str | None) -> None:
    """States for a binding, in place of an old one's."""
    if old is not None:
        xfrm.remove_state(options_state(peer, old))
        xfrm.remove_state(routing_state(peer, old))
    if care_of is not None:
        xfrm.add_state(options_state(peer, care_of))
        xfrm.add_state(routing_state(peer, care_of))


def tunnel(process: Process, local: str, remote: str, there: bool) -> int:
    """A device for IPv6 in IPv6, in place of an old one; its index."""
    if there:
        remove_tunnel(process)
    with process.netlink() as route:
        ignore_limit = 1
        route.link("add", ifname="mip", kind="ip6tnl", ip6tnl_local=local, ip6tnl_remote=remote,
                   ip6tnl_proto=socket.IPPROTO_IPV6, ip6tnl_flags=ignore_limit)  # fmt: skip
        (index,) = route.link_lookup(ifname="mip")
        route.link("set", index=index, state="up")
    return int(index)


def remove_tunnel(process: Process) -> None:
    with process.netlink() as route:
        route.link("del", index=route.link_lookup(ifname="mip")[0])


def mobility_socket(process: Process, address: str) -> Socket:
    """The kernel computes its messages' checksums."""
    sock = process.socket(socket.AF_INET6, socket.SOCK_RAW, MOBILITY)
    sock.bind((address, 0))
    return sock


@dataclass
class Peer:
    """Home agent or correspondent: takes binding updates."""

    address: str
    care_of: str | None = None
    updates: int = 0

    def run(self, process: Process) -> None:
        agent = self.address == AGENT
        with x.Xfrm(process) as xfrm, mobility_socket(process, self.address) as sock:
            wild = x.State("::", self.address, protocol=x.DESTINATION_OPTIONS, care_of="::",
                           mode=x.ROUTE_OPTIMIZATION, flags=x.WILD_RECEIVE, window=0)  # fmt: skip
            xfrm.add_state(wild)
            mine, home = f"{self.address}/128", f"{HOME}/128"
            protocol = MOBILITY if agent else 0
            xfrm.add_policy(x.IN, x.Selector(home, mine, protocol), maybe(OPTIONS))
            while True:
                message, (source, *_) = sock.recvfrom(1000)
                if message[2] != UPDATE or source != HOME:
                    continue
                sequence, _, lifetime = struct.unpack_from(">HHH", message, 6)
                care_of = str(ipaddress.IPv6Address(message[16:32])) if lifetime else None
                bind(xfrm, self.address, care_of, self.care_of)
                selector = x.Selector(mine, home, protocol)
                if care_of and not self.care_of:
                    xfrm.add_policy(x.OUT, selector, [ROUTED])
                elif self.care_of and not care_of:
                    xfrm.remove_policy(x.OUT, selector)
                if agent:
                    self.through(process, care_of)
                self.care_of, self.updates = care_of, self.updates + 1
                sock.sendto(acknowledge(sequence, lifetime), (HOME, 0))

    def through(self, process: Process, care_of: str | None) -> None:
        """The way home leads through a tunnel, or doesn't."""
        if care_of:
            index = tunnel(process, AGENT, care_of, self.care_of is not None)
            with Rtnl(process) as rtnl:
                rtnl.add_route(index, f"{HOME}/128")
        elif self.care_of:
            remove_tunnel(process)


@dataclass
class Mobile:
    """The mobile node: looks where it is, and tells."""

    network: Network
    port: Port
    optimise: bool
    place: str = "home"
    care_of: str | None = None
    sequence: int = 0

    def run(self, process: Process) -> None:
        with process.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            while True:
                message, (router, *_) = sock.recvfrom(1000)
                if message[0] == 134:
                    prefix = str(ipaddress.IPv6Address(message[32:48])).removesuffix("::")
                    place = next(name for name, one in PREFIXES.items() if one == prefix)
                    if place == "home" != self.place:
                        self.return_home(process, router)
                    elif place != self.place:
                        self.move(process, place, router)

    def move(self, process: Process, place: str, router: str) -> None:
        """New address, new way, new bindings."""
        ifindex, old = self.port.netdev.ifindex, self.care_of
        mac = self.port.netdev.mac_bytes
        tail = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
        prefix = ipaddress.IPv6Address(PREFIXES[place] + "::")
        self.care_of = care_of = str(prefix + int.from_bytes(tail, "big"))
        with Rtnl(process) as rtnl:
            rtnl.add_address(ifindex, f"{care_of}/64")
            default = ipaddress.ip_network("::/0")
            rtnl.replace_route(default, [(ifindex, ipaddress.ip_address(router))])
            if old:
                rtnl.remove_address(ifindex, f"{old}/64")
            else:  # the home link is elsewhere now
                rtnl.remove_route(ipaddress.ip_network(f"{PREFIXES['home']}::/64"))
        index = tunnel(process, care_of, AGENT, old is not None)
        with process.netlink() as route:
            if not old:
                route.rule("add", family=socket.AF_INET6, src=HOME, src_len=128, table=TABLE,
                           priority=1000)  # fmt: skip
            route.route("add", family=socket.AF_INET6, dst="::/0", oif=index, table=TABLE)
        with x.Xfrm(process) as xfrm, mobility_socket(process, HOME) as sock:
            for peer in (AGENT, CORRESPONDENT) if self.optimise else (AGENT,):
                self.register(xfrm, sock, peer, care_of, old)
        self.place = place

    def register(
        self, xfrm: x.Xfrm, sock: Socket, peer: str, care_of: str, old: str | None
    ) -> None:
        home, far = f"{HOME}/128", f"{peer}/128"
        bind(xfrm, peer, care_of, old)
        out, back = x.Selector(home, far, MOBILITY), x.Selector(far, home, MOBILITY)
        if not old:
            xfrm.add_policy(x.OUT, out, [OPTIONS], priority=1)
            xfrm.add_policy(x.IN, back, maybe(ROUTED), priority=1)
        self.tell(sock, peer, care_of, 100)
        if peer != AGENT and not old:  # from now on for all, not only for updates
            xfrm.add_policy(x.OUT, x.Selector(home, far), [OPTIONS], priority=2)
            xfrm.add_policy(x.IN, x.Selector(far, home), maybe(ROUTED), priority=2)

    def tell(self, sock: Socket, peer: str, care_of: str, lifetime: int) -> None:
        """An update and its acknowledgement."""
        self.sequence += 1
        flags = ACKNOWLEDGE | (REGISTER if peer == AGENT else 0)
        sock.sendto(update(self.sequence, care_of, lifetime, flags), (peer, 0))
        while True:
            message, (source, *_) = sock.recvfrom(1000)
            status, _, sequence = struct.unpack_from(">BBH", message, 6)
            if (message[2], source, sequence) == (ACKNOWLEDGEMENT, peer, self.sequence):
                assert status == 0
                return

    def return_home(self, process: Process, router: str) -> None:
        """Everything as before, and no bindings (a lifetime of 0; RFC 6275, 11.5.5)."""
        ifindex, old = self.port.netdev.ifindex, self.care_of
        home = f"{HOME}/128"
        remove_tunnel(process)
        with process.netlink() as route:
            route.rule("del", family=socket.AF_INET6, src=HOME, src_len=128, table=TABLE,
                       priority=1000)  # fmt: skip
        with Rtnl(process) as rtnl:
            rtnl.remove_address(ifindex, f"{old}/64")
            default = ipaddress.ip_network("::/0")
            rtnl.replace_route(default, [(ifindex, ipaddress.ip_address(router))])
            rtnl.add_route(ifindex, f"{PREFIXES['home']}::/64")
        with x.Xfrm(process) as xfrm, mobility_socket(process, HOME) as sock:
            for peer in (AGENT, CORRESPONDENT) if self.optimise else (AGENT,):
                bind(xfrm, peer, None, old)
                for protocol in (MOBILITY,) if peer == AGENT else (MOBILITY, 0):
                    far = f"{peer}/128"
                    xfrm.remove_policy(x.OUT, x.Selector(home, far, protocol))
                    xfrm.remove_policy(x.IN, x.Selector(far, home, protocol))
                self.tell(sock, peer, HOME, 0)
        self.care_of, self.place = None, "home"


@dataclass
class World:
    network: Network
    links: dict[str, Link]
    core: Link
    agent: Peer
    correspondent: Peer
    mobile: Mobile
    node: Node
    far: Node

    def move(self, place: str) -> None:
        self.mobile.port.unplug()
        self.mobile.port = self.links[place].plug(self.node, netdev=self.mobile.port.netdev)

    def lost(self) -> int:
        """Of three pings to the home address."""
        ping = self.network.ping(self.far, address=HOME, count=3, interval=0.1)
        self.network.run()
        return ping.lost


def build(network: Network, optimise: bool) -> World:
    """Home agent and two access routers between a core and a segment each; at the core, the
    correspondent."""
    far, node = network.node("correspondent"), network.node("mobile")
    core = network.switch(name="core", delay=DELAY, rate=RATE)
    core.plug(far, addresses=f"{CORRESPONDENT}/64")
    links = {}
    for number, (name, prefix) in enumerate(PREFIXES.items(), 1):
        router = network.node(f"{name}-router")
        core.plug(router, addresses=f"2001:db8:c::{number}/64")
        links[name] = network.segment(name=name, delay=DELAY, rate=RATE)
        links[name].plug(router, addresses=f"{prefix}::1/64")
    network.route()
    node.sysctl["net.ipv6.conf.default.accept_ra"] = 0
    port = links["home"].plug(node)
    index = port.netdev.ifindex
    node.iproute.addr("add", index=index, address=HOME, prefixlen=128, flags=NODAD_HOME)
    network.run(3)
    with Rtnl(node) as rtnl:
        rtnl.add_route(index, f"{PREFIXES['home']}::/64")
        rtnl.add_route(index, "default", AGENT)
    agent, correspondent = Peer(AGENT), Peer(CORRESPONDENT)
    mobile = Mobile(network, port, optimise)
    for name, link in links.items():
        router = network.nodes[f"{name}-router"]
        network.start(advertise, network, link.port(router), on=router, daemon=True)
    network.start(agent.run, on="home-router", name="home agent", daemon=True)
    network.start(correspondent.run, on=far, name="correspondent", daemon=True)
    network.start(mobile.run, on=node, name="mobile node", daemon=True)
    try:
        network.run(1)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP):
            pytest.skip(f"this kernel has no Mobile IPv6 (CONFIG_IPV6_MIP6): {error}")
        raise
    return World(network, links, core, agent, correspondent, mobile, node, far)


def shapes(found: list[Passage]) -> set[str]:
    """How pings travel: "plain", "tunnel", "option", "routing"."""
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting

    kinds = set()
    for one in found:
        packet: Any = to_scapy(one.data)
        if IPv6 not in packet or ECHO not in one.data:
            continue
        outer = packet[IPv6]
        if outer.nh == socket.IPPROTO_IPV6:
            kinds.add("tunnel")
        elif outer.nh == socket.IPPROTO_DSTOPTS:
            (option,) = [one for one in outer[IPv6ExtHdrDestOpt].options if one.otype == 0xC9]
            assert option.hoa == HOME
            kinds.add("option")
        elif outer.nh == socket.IPPROTO_ROUTING:
            header = outer[IPv6ExtHdrRouting]
            assert (header.type, header.addresses) == (2, [HOME])
            kinds.add("routing")
        elif HOME in (outer.src, outer.dst):
            kinds.add("plain")
    return kinds


def handover(optimise: bool) -> float:
    """Seconds without packets, at most.  On a segment a frame takes DELAY, over the core twice
    that; who asks for a neighbour waits twice as long."""
    near, core = DELAY, 2 * DELAY
    there = near + core + 2 * (near + core)
    heard = ADVERTISED + near
    updates = there if not optimise else 3 * there  # to the agent and back, then to the other
    late = there  # what was on its way when the cable was pulled
    return heard + updates + there + late


def test_abroad_through_the_home_agent(network: Network) -> None:
    """Bidirectional tunnelling; the control is the time without a binding."""
    world = build(network, optimise=False)
    with world.links["home"].capture() as found:
        assert world.lost() == 0
    assert shapes(found) == {"plain"}
    for number, place in enumerate(("west", "east"), 1):
        world.move(place)
        assert world.agent.updates == number - 1
        network.run(0.5)
        assert (world.agent.updates, world.agent.care_of) == (number, world.mobile.care_of)
        with world.links[place].capture() as found:
            assert world.lost() == 0
        assert shapes(found) == {"tunnel"}


def test_route_optimisation(network: Network) -> None:
    """With a binding at the correspondent nothing goes through the home agent any more."""
    world = build(network, optimise=True)
    for place in ("west", "east"):
        world.move(place)
        network.run(0.5)
        assert world.correspondent.care_of == world.agent.care_of == world.mobile.care_of
        with world.links[place].capture() as near, world.core.capture() as far:
            assert world.lost() == 0
        assert shapes(near) == shapes(far) == {"option", "routing"}


@pytest.mark.parametrize("optimise", [False, True], ids=["tunnel", "optimised"])
def test_home_again(network: Network, optimise: bool) -> None:
    """No binding is left, and packets are as they were."""
    world = build(network, optimise)
    world.move("west")
    network.run(0.5)
    world.move("home")
    network.run(0.5)
    assert world.agent.care_of is world.correspondent.care_of is world.mobile.care_of is None
    assert world.agent.updates == 2
    with world.links["home"].capture() as found:
        assert world.lost() == 0
    assert shapes(found) == {"plain"}


@pytest.mark.parametrize("optimise", [False, True], ids=["tunnel", "optimised"])
def test_a_stream_loses_little(network: Network, optimise: bool) -> None:
    """UDP to the home address, during two handovers and the way home: datagrams are lost while the
    node tells where it is, no others; and none twice."""
    world = build(network, optimise)
    interval, size = 0.005, 100
    flow = network.cbr(
        world.far, world.node, address=HOME, rate=size * 8 / interval, size=size, seconds=2.5,
        log=1000,
    )  # fmt: skip
    for place in ("west", "east", "home"):
        network.run(0.6)
        world.move(place)
    network.run()
    gaps = [later - earlier for earlier, later in pairwise(flow.arrivals)]
    long = [gap / 1e9 for gap in gaps if gap > 3e9 * interval]
    assert len(long) == 3 and max(long) <= handover(optimise) + interval
    assert 3 <= flow.lost <= 3 * (handover(optimise) / interval + 1)


@pytest.mark.parametrize("optimise", [False, True], ids=["tunnel", "optimised"])
def test_a_connection_survives(network: Network, optimise: bool) -> None:
    """TCP to the home address, over two handovers: every byte arrives."""
    world = build(network, optimise)
    flow = network.bulk(world.far, world.node, bytes=2_000_000, address=HOME)
    for place in ("west", "east"):
        network.run(0.5)
        world.move(place)
        assert not flow.done
    network.run()
    assert flow.moved == 2_000_000 and flow.retransmits > 0
    assert world.mobile.place == "east"
