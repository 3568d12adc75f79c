# SPDX-License-Identifier: GPL-2.0
"""DCE's "netlink socket" (dce-netlink-simple): programs on nodes talk rtnetlink to their kernels.

Dumps tell each program of its own kernel only, also when several ask at the same time; who listens
to a multicast group is told of each change, in virtual time, by RFC 3549's messages.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.node import Node

NEWLINK, NEWADDR, DELADDR = 16, 20, 21
GROUPS = 0x1 | 0x10
"""RTMGRP_LINK and RTMGRP_IPV4_IFADDR."""
UP, RUNNING = 0x1, 0x40
LINKWATCH = 1.0
"""Seconds within which the kernel tells of carriers (net/core/link_watch.c: once per second)."""


class Told:
    """What a raw socket in the multicast groups heard: (seconds, type, body)."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.messages: list[tuple[float, int, bytes]] = []

    def listen(self, process: Process) -> None:
        sock = process.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        sock.bind((0, GROUPS))
        while True:
            data = sock.recv(1 << 16)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                self.messages.append((self.network.seconds, kind, data[16:size]))
                data = data[size + -size % 4 :]

    def links(self, ifindex: int) -> list[tuple[float, bool]]:
        """When NEWLINK came for a device, and whether it was running."""
        found = []
        for seconds, kind, body in self.messages:
            if kind == NEWLINK and struct.unpack_from("=i", body, 4) == (ifindex,):
                found.append((seconds, bool(struct.unpack_from("=I", body, 8)[0] & RUNNING)))
        return found


def test_dumps_are_each_kernels_own(network: Network, needs_ipv6: Callable[[Node], None]) -> None:
    star = network.star(4)
    needs_ipv6(star.centre)
    plan = network.address(ipv6=True)
    network.route()

    def addresses(process: Process) -> set[str]:
        ip = process.netlink()
        network.sleep(0.001)  # all are in the middle of it at the same time
        return {
            f"{dict(one['attrs'])['IFA_ADDRESS']}/{one['prefixlen']}"
            for one in ip.get_addr()
            if one["scope"] == 0
        }

    def routes(process: Process) -> set[str]:
        found = process.netlink().get_routes(family=socket.AF_INET, table=254)
        return {f"{dict(one['attrs']).get('RTA_DST', 'any')}/{one['dst_len']}" for one in found}

    asked = [network.start(addresses, on=node) for node in network.nodes.values() for _ in "ab"]
    routed = [network.start(routes, on=node) for node in network.nodes.values()]
    network.run()
    for program in asked:
        mine = {
            str(one)
            for end, given in plan.items()
            if end.node == program.node.name
            for one in given
        }
        assert program.result == mine
    assert len({frozenset(program.result) for program in asked}) == 5
    subnets = {
        end.node: str(given[0].network) for end, given in plan.items() if end.node != "centre"
    }
    centre, *leaves = [program.result for program in routed]
    assert centre == set(subnets.values()) and len(centre) == 4
    assert leaves == [{subnets[leaf.name], "any/0"} for leaf in star.leaves]


def test_a_monitor_is_told_of_addresses_at_once(network: Network) -> None:
    a, b = network.chain(2)
    told, quiet = Told(network), Told(network)
    network.start(told.listen, on=b, daemon=True)
    network.start(quiet.listen, on=a, daemon=True)
    eth0 = b.netdevs["eth0"].ifindex

    def change(process: Process) -> None:
        ip = process.netlink()
        network.sleep(0.25)
        ip.addr("add", index=eth0, address="10.5.0.1", prefixlen=24)
        network.sleep(0.5)
        ip.addr("del", index=eth0, address="10.5.0.1", prefixlen=24)

    begin = network.seconds
    network.start(change, on=b)
    network.run()
    network.run(0.1)
    assert [(seconds - begin, kind) for seconds, kind, _ in told.messages] == [
        (0.25, NEWADDR),
        (0.75, DELADDR),
    ]
    for _, _, body in told.messages:
        assert struct.unpack_from("=BBBBI", body) == (socket.AF_INET, 24, 0x80, 0, eth0)
        assert ipaddress.ip_address("10.5.0.1").packed in body
    assert quiet.messages == [], "nothing happened on the other node"


def test_a_monitor_is_told_of_a_cable(network: Network) -> None:
    a, b, c = network.chain(3)
    told = {node.name: Told(network) for node in (a, b, c)}
    for node in (a, b, c):
        network.start(told[node.name].listen, on=node, daemon=True)
    network.run(2)
    for one in told.values():
        one.messages.clear()
    cut, changes = network.links[0], []
    for move in (cut.down, cut.up):
        changes.append(network.seconds)
        move()
        network.run(3)
    for node, port in zip((a, b), cut.ports, strict=True):
        heard = told[node.name].links(port.netdev.ifindex)
        assert [running for _, running in heard] == [False, True]
        for (seconds, _), changed in zip(heard, changes, strict=True):
            assert changed <= seconds <= changed + LINKWATCH
        assert len(told[node.name].messages) == 2, "b is told of one of its two links"
    assert told["n2"].messages == []


@pytest.mark.parametrize("late", [False, True])
def test_a_monitor_written_with_pyroute2(network: Network, late: bool) -> None:
    """IPRoute.bind() and get(); a message that is older than the question waits in the socket."""
    a, _ = network.chain(2)

    def monitor(process: Process) -> list[tuple[str, float]]:
        ip = process.netlink()
        ip.bind(GROUPS)
        if late:
            network.sleep(5)
        found: list[tuple[str, float]] = []
        while len(found) < 2:
            found += [(one["event"], network.seconds) for one in ip.get()]
        return found

    def change(process: Process) -> None:
        ip: Any = process.netlink()
        network.sleep(1)
        ip.link("add", ifname="dummy7", kind="dummy")
        (index,) = ip.link_lookup(ifname="dummy7")
        network.sleep(1)
        ip.addr("add", index=index, address="10.7.0.1", prefixlen=24)

    begin = network.seconds
    program = network.start(monitor, on=a)
    network.start(change, on=a)
    network.run()
    times = (5, 5) if late else (1, 2)
    assert [(event, seconds - begin) for event, seconds in program.result] == [
        ("RTM_NEWLINK", times[0]),
        ("RTM_NEWADDR", times[1]),
    ]


def test_what_one_program_sets_up_others_use(network: Network) -> None:
    """A node is configured from within: address, link, route; the packets follow."""
    a, r, b = network.chain(3, delay="1ms")
    network.link(a, r, name="spare", delay="5ms")

    def configure(process: Process, device: str, own: str, via: str) -> None:
        ip: Any = process.netlink()
        (index,) = ip.link_lookup(ifname=device)
        ip.addr("add", index=index, address=own, prefixlen=24)
        if via:
            ip.route("add", dst="10.0.0.0/8", gateway=via)

    for node, device, own, via in (
        (a, "eth0", "10.0.1.1", "10.0.1.2"),
        (r, "eth0", "10.0.1.2", ""),
        (r, "eth1", "10.0.2.1", ""),
        (b, "eth0", "10.0.2.2", "10.0.2.1"),
    ):
        network.start(configure, device, own, via, on=node)
    network.run()
    r.sysctl["net.ipv4.ip_forward"] = 1
    ping = network.ping(a, address="10.0.2.2", count=3)
    network.run()
    assert ping.lost == 0
    assert ping.rtts[1:] == [pytest.approx(0.004, abs=1e-6)] * 2

    def reroute(process: Process) -> None:
        ip: Any = process.netlink()
        ip.route("del", dst="10.0.0.0/8", gateway="10.0.1.2")

    network.start(reroute, on=a)
    network.run()
    gone = network.ping(a, address="10.0.2.2", count=1)
    network.run()
    assert gone.lost == 1
