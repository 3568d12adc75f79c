# SPDX-License-Identifier: GPL-2.0
"""Bridges in a triangle: the spanning tree protocol (IEEE 802.1D) of net/bridge; stands for the
original suite's networks of several bridges (CSMA) and for what they never had, a loop.

Property: three kernels that bridge agree on the bridge with the lowest id as root and block
exactly one port, on the right link; a broadcast passes each link once; when a link dies, the
blocked port takes over in the time of the protocol's timers, to the second.  The control: without
the protocol one broadcast goes round until time ends.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.link import Link, Port
    from anykernel.net.node import Node
    from anykernel.net.traffic import Ping

FORWARD_DELAY, MAX_AGE, HELLO = 15, 20, 2
"""Seconds, as 802.1D recommends and Linux has them."""
FORWARDING, BLOCKING = 3, 4
EXPERIMENT = 0x88B5
BROADCAST = b"\xff" * 6
DELAY = 100e-6
INTERVAL = 0.5
LATE = 1 / 8
"""By which part a timer of the kernel's may be late (kernel/time/timer.c)."""


@dataclass
class Triangle:
    network: Network
    bridges: list[Node]
    hosts: list[Node]
    """hosts[i] is at bridges[i]."""
    trunks: list[Link]

    def trunk(self, one: Node, other: Node) -> Link:
        (found,) = (
            trunk for trunk in self.trunks if {port.node for port in trunk.ports} == {one, other}
        )
        return found

    def states(self) -> dict[Port, int]:
        """Of the ports between bridges."""
        return {
            port: int(port.node.read_text(f"/sys/class/net/{port.netdev.name}/brport/state"))
            for trunk in self.trunks
            for port in trunk.ports
        }

    def ranks(self) -> list[Node]:
        """The bridges, lowest id (priority, then MAC address) first."""
        return sorted(self.bridges, key=lambda node: told(node, "bridge_id"))

    def shout(self, host: Node, seconds: float) -> tuple[int, dict[str, int]]:
        """A broadcast: on how many trunks it went, and how often each other host heard it."""
        heard = {}

        def listen(process: Process, name: str) -> None:
            with process.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
                sock.bind(("eth0", EXPERIMENT))
                sock.settimeout(seconds * 0.9)
                heard[name] = 0
                with suppress(TimeoutError):
                    while sock.recv(2000):
                        heard[name] += 1

        def send(process: Process) -> None:
            with process.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
                source = host.ports[0].netdev.mac_bytes
                frame = BROADCAST + source + EXPERIMENT.to_bytes(2, "big")
                sock.sendto(frame.ljust(60, b"\0"), ("eth0", 0))

        for other in self.hosts:
            if other is not host:
                self.network.start(listen, other.name, on=other, daemon=True)
        with ExitStack() as stack:
            captures = [stack.enter_context(trunk.capture()) for trunk in self.trunks]
            self.network.start(send, on=host)
            self.network.run(seconds)
        wanted = EXPERIMENT.to_bytes(2, "big")
        frames = [one for found in captures for one in found if one.data[12:14] == wanted]
        return len(frames), heard


def told(node: Node, name: str) -> str:
    return node.read_text(f"/sys/class/net/br0/bridge/{name}").strip()


def triangle(network: Network, *, protocol: bool, priorities: dict[int, int]) -> Triangle:
    """Its third link is down until all else is there."""
    bridges = [network.node(f"bridge{number}") for number in range(3)]
    hosts = [network.node(f"host{number}") for number in range(3)]
    for node in network.nodes.values():  # nobody says anything by itself
        node.sysctl["net.ipv6.conf.default.disable_ipv6"] = 1
        node.sysctl["net.ipv6.conf.all.disable_ipv6"] = 1
    trunks = [
        network.link(bridges[one], bridges[other], delay=DELAY)
        for one, other in ((0, 1), (1, 2), (2, 0))
    ]
    trunks[2].down()
    for number, (bridge, host) in enumerate(zip(bridges, hosts, strict=True)):
        network.link(bridge, host, addresses=((), f"10.0.0.{number + 1}/24"))
        route = bridge.iproute
        route.link(
            "add",
            ifname="br0",
            kind="bridge",
            br_stp_state=int(protocol),
            br_forward_delay=100 * FORWARD_DELAY * protocol,
            br_priority=priorities.get(number, 0x8000),
        )
        (index,) = route.link_lookup(ifname="br0")
        for port in bridge.ports:
            route.link("set", index=port.netdev.ifindex, master=index)
        route.link("set", index=index, state="up")
    trunks[2].up()
    return Triangle(network, bridges, hosts, trunks)


def lulls(made: Triangle, seconds: float) -> tuple[Ping, Ping]:
    """Pings between two hosts, both ways, for that long."""
    one, other = made.hosts[1], made.hosts[2]
    count = int(seconds / INTERVAL)
    there = made.network.ping(one, other, interval=INTERVAL, count=count)
    return there, made.network.ping(other, one, interval=INTERVAL, count=count)


def lull(ping: Ping) -> float:
    """The longest time between two answered pings, or to the end."""
    answered = [echo.sent for echo in ping.echoes if echo.rtt is not None]
    return max(later - earlier for earlier, later in pairwise([*answered, ping.echoes[-1].sent]))


@pytest.mark.parametrize("priorities", [{}, {1: 0x7000, 2: 0x1000}], ids=["by address", "given"])
def test_exactly_one_port_blocks(network: Network, priorities: dict[int, int]) -> None:
    """The root is the lowest id; the link that is cut out is the one that the root has no end of,
    and its end that blocks is that of the highest id."""
    made = triangle(network, protocol=True, priorities=priorities)
    network.run(2 * FORWARD_DELAY + HELLO)
    root, middle, last = made.ranks()
    assert root is made.bridges[2 if priorities else 0]
    assert {told(bridge, "root_id") for bridge in made.bridges} == {told(root, "bridge_id")}
    assert [told(bridge, "root_path_cost") == "0" for bridge in (root, middle, last)] == [
        True,
        False,
        False,
    ]
    blocked = made.trunk(middle, last).port(last)
    assert made.states() == {
        port: BLOCKING if port is blocked else FORWARDING
        for trunk in made.trunks
        for port in trunk.ports
    }


def test_a_broadcast_passes_each_link_once(network: Network) -> None:
    made = triangle(network, protocol=True, priorities={})
    network.run(2 * FORWARD_DELAY + HELLO)
    frames, heard = made.shout(made.hosts[0], 0.01)
    assert frames == 3, "also on the link to the blocked port, which drops it"
    assert heard == {"host1": 1, "host2": 1}


def test_without_the_protocol_it_never_ends(network: Network) -> None:
    """The control: one copy goes round each way, a link in each DELAY."""
    made = triangle(network, protocol=False, priorities={})
    assert set(made.states().values()) == {FORWARDING}
    seconds = 0.005
    frames, heard = made.shout(made.hosts[0], seconds)
    rounds = round(seconds / DELAY)
    assert 2 * rounds <= frames <= 2 * rounds + 2
    assert all(10 < count <= 2 * rounds / 3 + 2 for count in heard.values())


@pytest.mark.parametrize("direct", [True, False], ids=["own link", "another's link"])
def test_the_blocked_port_takes_over(network: Network, direct: bool) -> None:
    """When the link between root and the bridge with the blocked port dies, that bridge knows it,
    and waits twice the forward delay.  When the root's other link dies, what it knows of the root
    must get too old first.  Hosts are cut off no longer than that.  In the end all is as it
    was."""
    made = triangle(network, protocol=True, priorities={})
    network.run(2 * FORWARD_DELAY + HELLO)
    root, middle, last = made.ranks()
    first = made.states()
    dying = made.trunk(root, last if direct else middle)
    blocked = made.trunk(middle, last).port(last)
    least, most = 2 * FORWARD_DELAY, 2 * FORWARD_DELAY + (0 if direct else MAX_AGE)
    pings = lulls(made, 60)
    network.run(5)
    dying.down()
    network.run(least - 1)
    assert made.states()[blocked] != FORWARDING, "too early"
    network.run(most - least + 2)
    assert made.states()[blocked] == FORWARDING
    network.run()
    for ping in pings:
        assert least <= lull(ping) <= most * (1 + LATE) + 3 * INTERVAL

    dying.up()
    pings = lulls(made, 90)
    network.run()
    assert made.states() == first
    # Linux looks for old entries of its tables only from time to time, and uses them until then,
    # also after a change of the tree: if they mislead both ways, hosts must ask by ARP first.
    asked = (45 + 5 + 3) * (1 + LATE)
    for ping in pings:
        assert lull(ping) <= asked + 3 * INTERVAL
