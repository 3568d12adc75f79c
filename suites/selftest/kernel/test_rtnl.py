# SPDX-License-Identifier: GPL-2.0
"""Setting up a netdev without pyroute2; pyroute2 then tells what came of it."""

from __future__ import annotations

import errno
import ipaddress
import socket
import subprocess
import sys
from typing import Any

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.kernel.rtnl import Rtnl


@pytest.fixture
def eth0(kernel: Kernel) -> Netdev:
    return kernel.add_netdev("eth0", addresses=["10.0.0.1/24", "fd00::1/64"])


def addresses(kernel: Kernel, index: int) -> dict[str, Any]:
    return {m.get_attr("IFA_ADDRESS"): m for m in kernel.iproute.get_addr(index=index)}


def test_addresses(kernel: Kernel, eth0: Netdev) -> None:
    found = addresses(kernel, eth0.ifindex)
    assert {"10.0.0.1", "fd00::1"} <= set(found)
    assert found["10.0.0.1"].get_attr("IFA_BROADCAST") == "10.0.0.255"
    assert (found["10.0.0.1"]["prefixlen"], found["fd00::1"]["prefixlen"]) == (24, 64)
    tentative = 0x40
    assert not found["fd00::1"]["flags"] & tentative, "usable at once"
    eth0.add_address("fd00::7/64", dad=True)
    assert addresses(kernel, eth0.ifindex)["fd00::7"]["flags"] & tentative
    kernel.clock.advance(3)
    assert not addresses(kernel, eth0.ifindex)["fd00::7"]["flags"] & tentative


def test_an_address_of_a_point_to_point_link(kernel: Kernel, eth0: Netdev) -> None:
    eth0.add_address("10.9.0.1/32", "10.8.0.0/31")
    found = addresses(kernel, eth0.ifindex)
    assert found["10.9.0.1"].get_attr("IFA_BROADCAST") is None
    assert found["10.8.0.0"]["prefixlen"] == 31


@pytest.mark.parametrize("text", ["10.0.0.1/33", "fd00::/129", "host/24", "", "10.0.0.1/24/1"])
def test_what_is_no_address(eth0: Netdev, text: str) -> None:
    with pytest.raises(UsageError, match=r"such as 10.0.0.1/24"):
        eth0.add_address(text)


def test_an_address_is_removed(kernel: Kernel, eth0: Netdev) -> None:
    with Rtnl(kernel) as rtnl:
        rtnl.remove_address(eth0.ifindex, "10.0.0.1/24")
        assert "10.0.0.1" not in addresses(kernel, eth0.ifindex)
        rtnl.remove_address(eth0.ifindex, "fd00::1/64")
        assert "fd00::1" not in addresses(kernel, eth0.ifindex)
        with pytest.raises(OSError) as caught:
            rtnl.remove_address(eth0.ifindex, "10.0.0.1/24")
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_an_address_twice(eth0: Netdev) -> None:
    with pytest.raises(FileExistsError):
        eth0.add_address("10.0.0.1/24")


def test_routes(kernel: Kernel, eth0: Netdev) -> None:
    eth0.add_route("10.5.0.0/16")
    eth0.add_route("10.6.0.0/16", "10.0.0.9")
    eth0.add_route("default", "10.0.0.8")
    eth0.add_route("fd05::/32")
    eth0.add_route("default", "fd00::8")
    route = kernel.iproute

    def way(to: str) -> Any:
        (found,) = route.route("get", dst=to)
        assert found.get_attr("RTA_OIF") == eth0.ifindex
        return found.get_attr("RTA_GATEWAY")

    assert [way(to) for to in ("10.5.1.1", "10.6.1.1", "192.0.2.1")] == [
        None,
        "10.0.0.9",
        "10.0.0.8",
    ]
    assert [way(to) for to in ("fd05::1", "2001:db8::1")] == [None, "fd00::8"]
    with pytest.raises(OSError, match="unreachable"):
        eth0.add_route("10.7.0.0/16", "172.16.0.1")


def test_neighbours(kernel: Kernel, eth0: Netdev) -> None:
    for address in ("10.0.0.2", "fd00::2"):
        eth0.add_neighbour(address, "02:00:00:00:00:22")
        eth0.add_neighbour(address, "02:00:00:00:00:23")
    found = {
        m.get_attr("NDA_DST"): (m.get_attr("NDA_LLADDR"), m["state"])
        for m in kernel.iproute.get_neighbours(ifindex=eth0.ifindex)
    }
    permanent = 0x80
    for address in ("10.0.0.2", "fd00::2"):
        assert found[address] == ("02:00:00:00:00:23", permanent)


def test_up_and_down(kernel: Kernel, eth0: Netdev) -> None:
    def state() -> str:
        (link,) = kernel.iproute.link("get", index=eth0.ifindex)
        return str(link["state"])

    assert state() == "up"
    eth0.down()
    assert state() == "down"
    eth0.up()
    assert state() == "up"
    with pytest.raises(OSError, match="No such device"), Rtnl(kernel) as rtnl:
        rtnl.up(9999)


def test_pyroute2_is_not_imported_for_it() -> None:
    code = (
        "import sys, anykernel.kernel.kernel, anykernel.kernel.netdev, anykernel.kernel.peer;"
        "heavy = {'pyroute2', 'scapy', 'hypothesis', 'pytest', 'cffi', 'drgn'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"


def test_many_at_once(kernel: Kernel, eth0: Netdev) -> None:
    """More than fit in one message."""
    with Rtnl(kernel) as rtnl:
        with rtnl.batch():
            for number in range(1, 700):
                rtnl.add_address(eth0.ifindex, f"10.1.{number >> 8}.{number & 255}/32")
        assert sum(str(found).startswith("10.1.") for _, found in rtnl.addresses()) == 699
        with rtnl.batch():
            pass


def test_one_of_many_fails(kernel: Kernel, eth0: Netdev) -> None:
    def add(rtnl: Rtnl, *texts: str) -> None:
        with rtnl.batch():
            for text in texts:
                rtnl.add_address(eth0.ifindex, text)

    with Rtnl(kernel) as rtnl:
        with pytest.raises(FileExistsError):
            add(rtnl, "10.0.1.1/24", "10.0.0.1/24", "10.0.2.1/24")
        found = {str(address) for index, address in rtnl.addresses() if index == eth0.ifindex}
        assert {"10.0.0.1/24", "10.0.1.1/24", "10.0.2.1/24", "fd00::1/64"} <= found
        with pytest.raises(UsageError):
            add(rtnl, "10.0.4.1/24", "nonsense")
        assert "10.0.4.1/24" not in {str(address) for _, address in rtnl.addresses()}
        rtnl.up(eth0.ifindex)


def test_routes_of_several_hops_and_their_removal(kernel: Kernel, eth0: Netdev) -> None:
    eth0.add_route("10.5.0.0/16")
    hops = {4: ["10.0.0.8", "10.0.0.9"], 6: ["fd00::8", "fd00::9"]}
    networks = {4: "10.6.0.0/16", 6: "fd06::/32"}

    def routes() -> dict[str, Any]:
        return {
            route.get_attr("RTA_DST"): route
            for family in (socket.AF_INET, socket.AF_INET6)
            for route in kernel.iproute.get_routes(family=family, table=254)
        }

    with Rtnl(kernel) as rtnl:
        for version, network in networks.items():
            ways = [(eth0.ifindex, ipaddress.ip_address(hop)) for hop in hops[version]]
            rtnl.add_routes(ipaddress.ip_network(network), ways, 97)
        found = routes()
        for version, to in ((4, "10.6.0.0"), (6, "fd06::")):
            ways_found = found[to].get_attr("RTA_MULTIPATH")
            assert [way.get_attr("RTA_GATEWAY") for way in ways_found] == hops[version]
            assert found[to]["proto"] == 97
        rtnl.remove_routes(97)
        assert not {"10.6.0.0", "fd06::"} & set(routes()) and "10.5.0.0" in routes()


def test_a_route_is_replaced_and_removed(kernel: Kernel, eth0: Netdev) -> None:
    targets = [ipaddress.ip_network(text) for text in ("198.51.100.0/24", "fd77::/64")]
    hops = {4: ("10.0.0.2", "10.0.0.3"), 6: ("fd00::2", "fd00::3")}
    with Rtnl(kernel) as rtnl:
        for target in targets:
            for hop in hops[target.version]:
                rtnl.replace_route(target, [(eth0.ifindex, ipaddress.ip_address(hop))], 99)
            family = socket.AF_INET if target.version == 4 else socket.AF_INET6
            (route,) = kernel.iproute.get_routes(family=family, proto=99)
            assert route.get_attr("RTA_GATEWAY") == hops[target.version][1]
            with pytest.raises(ProcessLookupError):
                rtnl.remove_route(target, 98)
            rtnl.remove_route(target, 99)
            assert not list(kernel.iproute.get_routes(family=family, proto=99))


def test_devices(kernel: Kernel, eth0: Netdev) -> None:
    eth0.add_address("fd00::7/64", dad=True)
    with Rtnl(kernel) as rtnl:
        devices = {device.name: device for device in rtnl.devices()}
        usable = [str(address.ip) for _, address in rtnl.addresses(tentative=False)]
        every = [str(address.ip) for _, address in rtnl.addresses()]
    running = 0x1 | 0x40
    assert devices["eth0"].ifindex == eth0.ifindex and devices["eth0"].mtu == 1500
    assert devices["eth0"].flags & running == running
    assert "fd00::7" in every and "fd00::7" not in usable and "fd00::1" in usable
