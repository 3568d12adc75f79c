# SPDX-License-Identifier: GPL-2.0
"""Which addresses a port has: whoever gave or took them, the kernel says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anykernel.errors import KernelCrash, UsageError
from suites.selftest.net.raw import crash

if TYPE_CHECKING:
    from anykernel.net import Network


def test_those_that_the_network_gave(network: Network) -> None:
    a, b = network.chain(2)
    assert a.ports[0].addresses == []
    plan = network.address(ipv6=True)
    for node in (a, b):
        (port,) = node.ports
        given = next(items for end, items in plan.items() if end.node == node.name)
        assert port.addresses == [str(item) for item in given] and len(given) == 2
        assert all(address in repr(port) for address in port.addresses)
    assert a.ports[0].addresses[0] == "10.0.0.1/30"
    network.address(ipv6=True)  # nothing is missing now
    assert a.ports[0].addresses == ["10.0.0.1/30", "fd00::1/64"]


def test_those_of_a_link_and_by_hand(network: Network) -> None:
    a, b = network.node(), network.node()
    link = network.link(a, b, addresses=(["10.1.0.1/24", "fe80::77/64"], "10.1.0.2/24"))
    (port,) = a.ports
    assert port.addresses == ["10.1.0.1/24", "fe80::77/64"]
    assert link.port(b).addresses == ["10.1.0.2/24"]
    port.netdev.add_address("192.0.2.5/32")
    a.iproute.addr("delete", index=port.netdev.ifindex, address="10.1.0.1", prefixlen=24)
    assert port.addresses == ["192.0.2.5/32", "fe80::77/64"]
    # What was taken away is free for others; what is there is not.
    other = network.node()
    with pytest.raises(UsageError, match="clashes"):
        network.link(other, a, addresses=("10.1.0.2/24", ()))
    assert network.link(other, a, addresses=("10.1.0.1/24", ())).port(other).addresses


def test_a_cable_is_pulled_and_plugged_in_again(network: Network) -> None:
    a, _ = network.chain(2)
    network.address()
    port = a.ports[0]
    port.unplug()
    assert port.addresses == ["10.0.0.1/30"], "they stay"
    again = network.links[0].plug(a, netdev=port.netdev, addresses="10.0.0.1/30")
    assert again.addresses == ["10.0.0.1/30"]


def test_snapshots(network: Network) -> None:
    a, _ = network.chain(2)
    here = network.snapshot()
    for _ in range(2):
        network.address()
        assert a.ports[0].addresses == ["10.0.0.1/30"]
        network.restore(here)
        assert a.ports[0].addresses == [] and "10.0" not in repr(a.ports[0])


def test_describe(network: Network) -> None:
    hub = network.node("a-router-with-a-name-that-is-longer-than-forty-characters")
    leaf = network.node("leaf")
    network.node("alone")
    network.link(hub, leaf, name="access", rate="10Mbit", delay="2ms")
    network.switch(hub, leaf, name="sw")
    network.address()
    network.links[1].down()
    text = network.describe()
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["access", "(p2p,", "10Mbit,", "2ms)"]
    assert lines[1] == [hub.name, "eth0", hub.ports[0].netdev.mac, "10.0.0.1/30"]
    assert lines[2] == ["leaf", "eth0", leaf.ports[0].netdev.mac, "10.0.0.2/30"]
    assert lines[3] == ["sw", "(switch,", "down)"]
    assert lines[-1] == ["alone:", "no", "link"]
    assert network.nodes["alone"].ports == []


@pytest.mark.kernel(allow_crash=True)
def test_of_nothing_and_of_the_dead(network: Network) -> None:
    assert network.describe() == ""
    a, b = network.chain(2)
    network.address()
    with pytest.raises(KernelCrash, match=a.name):
        crash(a)
    assert "10.0.0.1/30, crashed" in network.describe()
    assert a.ports[0].addresses == ["10.0.0.1/30"]
    assert b.ports[0].addresses == ["10.0.0.2/30"]
