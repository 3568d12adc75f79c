# SPDX-License-Identifier: GPL-2.0
"""Plans on real kernels: what pyroute2 reads back, and a packet that a router passes on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.net import apply
from anykernel.net.addressing import End


@dataclass
class Lines:
    """A network's nodes and links; frames go nowhere."""

    nodes: dict[str, Kernel]
    links: list[Any] = field(default_factory=list)

    def link(self, *names: str) -> Any:
        ports = []
        for name in names:
            netdev = self.nodes[name].add_netdev()
            ports.append(SimpleNamespace(node=SimpleNamespace(name=name), netdev=netdev))
        self.links.append(SimpleNamespace(name="-".join(names), ports=ports, is_up=True))
        return self.links[-1]


@pytest.fixture
def network(kernel_factory: Callable[[], Kernel]) -> Lines:
    """a - r - b, and r - s - b."""
    made = Lines({name: kernel_factory() for name in ("a", "r", "b", "s")})
    for names in (("a", "r"), ("r", "b"), ("r", "s"), ("s", "b")):
        made.link(*names)
    return made


def routes(kernel: Kernel, family: int = socket.AF_INET) -> dict[str, Any]:
    """Networks of our protocol: their gateways."""
    found = {}
    for route in kernel.iproute.get_routes(family=family, table=254):
        if route["proto"] == apply.PROTOCOL:
            several = route.get_attr("RTA_MULTIPATH") or [route]
            to = f"{route.get_attr('RTA_DST') or 'default'}/{route['dst_len']}"
            found[to] = [hop.get_attr("RTA_GATEWAY") for hop in several]
    return found


def test_addresses_and_routes(network: Lines) -> None:
    network.links[0].ports[0].netdev.add_address("192.0.2.77/24")
    plan = apply.address(network, ipv6=True)
    assert [str(item) for items in list(plan.values())[:2] for item in items] == [
        "192.0.2.77/24",
        "fd00::1/64",
        "192.0.2.1/24",
        "fd00::2/64",
    ]
    assert apply.address(network, ipv6=True) == plan, "nothing is left to give"
    lines, ports = apply.wires(network)
    assert [line.name for line in lines] == ["a-r", "r-b", "r-s", "s-b"]
    assert apply.given(network, ports) == plan

    apply.route(network, ecmp=True)
    nodes = network.nodes
    assert routes(nodes["a"]) == {"default/0": ["192.0.2.1"]}
    assert routes(nodes["a"], socket.AF_INET6) == {"default/0": ["fd00::2"]}
    assert routes(nodes["r"]) == {"10.0.0.8/30": ["10.0.0.2", "10.0.0.6"]}
    assert routes(nodes["r"], socket.AF_INET6) == {
        "fd00:0:0:3::/64": ["fd00:0:0:1::2", "fd00:0:0:2::2"]
    }
    forwarding = {
        name: (node.sysctl["net.ipv4.ip_forward"], node.sysctl["net.ipv6.conf.all.forwarding"])
        for name, node in nodes.items()
    }
    assert forwarding == {"a": ("0", "0"), "r": ("1", "1"), "b": ("1", "1"), "s": ("1", "1")}

    # Dearer, r's way by b: in place of the routes that were there.
    apply.route(network, cost=lambda link: 3 if link.name == "r-b" else 1)
    assert routes(nodes["r"]) == {"10.0.0.8/30": ["10.0.0.6"]}
    assert set(routes(nodes["a"])) == {"default/0"}
    network.links[2].is_up = False
    apply.route(network)
    assert routes(nodes["r"]) == {"10.0.0.8/30": ["10.0.0.2"]}
    network.links[0].is_up = False
    apply.route(network)
    assert routes(nodes["a"]) == {}


def test_a_router_passes_on(network: Lines) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    plan = apply.address(network)
    apply.route(network)
    first, second = network.links[0].ports[1].netdev, network.links[2].ports[0].netdev
    (neighbour,) = plan[End("s", "eth0")]
    second.add_neighbour(str(neighbour.ip), "02:00:00:00:00:99")
    capture = second.capture()
    packet = IP(src="10.0.0.1", dst=str(neighbour.ip), ttl=9) / UDP(dport=7) / b"on"
    first.inject(Ether(dst=first.mac, src="02:00:00:00:00:01") / packet)
    (passed,) = (frame for frame in capture.packets() if UDP in frame)
    assert (passed[IP].dst, passed[IP].ttl, passed.dst) == (
        str(neighbour.ip),
        8,
        "02:00:00:00:00:99",
    )


def test_clashes_are_found_in_the_kernels(network: Lines) -> None:
    for port in network.links[0].ports:
        port.netdev.add_address("10.0.0.1/24")
    for plan in (apply.address, apply.route):
        with pytest.raises(UsageError, match="a eth0 and r eth0 have the same address"):
            plan(network)
