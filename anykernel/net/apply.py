# SPDX-License-Identifier: GPL-2.0
"""Plans of addresses and routes, carried out on a network's kernels.

One netlink socket and a few system calls for each node, however many addresses and routes it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anykernel.kernel.rtnl import Rtnl
from anykernel.net.addressing import End, Plan, Wire, check, plan_addresses
from anykernel.net.routing import Route, plan_routes

PROTOCOL = 97
"""Marks our routes (``ip route`` shows "proto 97"), so that planning again replaces them."""
FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}


def wires(
    network: Any, cost: Callable[[Any], float] | None = None
) -> tuple[list[Wire], dict[End, Any]]:
    """The network's links, as plans see them, and the port of each end."""
    found = []
    ports: dict[End, Any] = {}
    for link in network.links:
        ends = []
        for port in link.ports:
            end = End(port.node.name, port.netdev.name)
            ports[end] = port
            ends.append(end)
        found.append(Wire(link.name, tuple(ends), cost(link) if cost else 1))
    return found, ports


def given(network: Any, ports: Mapping[End, Any]) -> Plan:
    """The addresses that ports have now, as their kernels say; without link-local ones."""
    devices = {(end.node, port.netdev.ifindex): end for end, port in ports.items()}
    found: dict[End, list[Any]] = {}
    for name, node in network.nodes.items():
        with Rtnl(node) as rtnl:
            for ifindex, address in rtnl.addresses():
                end = devices.get((name, ifindex))
                if end is not None and not address.ip.is_link_local:
                    found.setdefault(end, []).append(address)
    return {end: tuple(items) for end, items in found.items()}


def address(network: Any, ipv4: str | None = "10.0.0.0/8", ipv6: str | bool | None = None) -> Plan:
    """Gives each port that has none an address (see plan_addresses()); the result has those that
    were there, too.  Raises UsageError for addresses that clash and when there is no room."""
    lines, ports = wires(network)
    known = given(network, ports)
    plan = plan_addresses(lines, ipv4, ipv6, known)
    new: dict[str, list[tuple[int, str]]] = {}
    for end, items in plan.items():
        for item in items[len(known.get(end, ())) :]:
            new.setdefault(end.node, []).append((ports[end].netdev.ifindex, str(item)))
    for name, added in new.items():
        with Rtnl(network.nodes[name]) as rtnl, rtnl.batch():
            for ifindex, text in added:
                rtnl.add_address(ifindex, text)
    for end, items in plan.items():
        ports[end].given = [str(item) for item in items]
    return plan


def route(
    network: Any, *, ecmp: bool = False, cost: Callable[[Any], float] | None = None
) -> dict[str, list[Route]]:
    """Adds the routes of plan_routes() on every node, in place of those of an earlier call, and
    lets nodes with several ports pass packets on.  `cost` gives a link's, 1 if not given; nothing
    goes over links that are down.  Raises UsageError for addresses that clash."""
    lines, ports = wires(network, cost)
    known = given(network, ports)
    check(lines, known)
    down = {link.name for link in network.links if not link.is_up}
    usable = [line for line in lines if line.name not in down]
    plan: dict[str, list[Route]] = {name: [] for name in network.nodes}
    plan |= plan_routes(usable, known, ecmp=ecmp)
    versions = sorted({item.version for items in known.values() for item in items})
    count: dict[str, int] = {}
    for end in ports:
        count[end.node] = count.get(end.node, 0) + 1
    for name, routes in plan.items():
        node = network.nodes[name]
        for version in versions if count.get(name, 0) > 1 else ():
            node.sysctl[FORWARDING[version]] = 1
        with Rtnl(node) as rtnl:
            rtnl.remove_routes(PROTOCOL)
            with rtnl.batch():
                for item in routes:
                    hops = [(ports[hop.end].netdev.ifindex, hop.via) for hop in item.hops]
                    rtnl.add_routes(item.network, hops, PROTOCOL)
    return plan
