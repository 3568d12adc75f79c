# SPDX-License-Identifier: GPL-2.0
"""pyroute2 on the kernel under test: links, addresses, events, snapshots, other protocols."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from anykernel.errors import Deadlock, UsageError
from anykernel.kernel import Kernel

NETLINK_NETFILTER = 12

CLONE_NEWNET = 0x40000000


def names(route: Any) -> set[str]:
    return {link.get_attr("IFLA_IFNAME") for link in route.get_links()}


def test_a_vlan_on_a_bridge_on_a_veth(kernel: Kernel) -> None:
    route = kernel.iproute
    route.link("add", ifname="br0", kind="bridge")
    route.link("add", ifname="left", kind="veth", peer="right")
    (bridge,), (left,), (right,) = (route.link_lookup(ifname=x) for x in ("br0", "left", "right"))
    route.link("set", index=left, master=bridge)
    route.link("add", ifname="br0.7", kind="vlan", link=bridge, vlan_id=7)
    for index in (left, right, bridge):
        route.link("set", index=index, state="up")
    assert {"br0", "left", "right", "br0.7"} <= names(route)
    (link,) = route.link("get", index=left)
    assert link.get_attr("IFLA_MASTER") == bridge and link["state"] == "up"
    route.link("del", index=right)
    assert not {"left", "right"} & names(route)


def test_addresses_routes_rules_and_neighbours(kernel: Kernel) -> None:
    eth0 = kernel.add_netdev("eth0")
    route = kernel.iproute
    route.addr("add", index=eth0.ifindex, address="10.1.0.1", prefixlen=24)
    route.route("add", dst="10.2.0.0/16", gateway="10.1.0.7")
    route.rule("add", table=10, priority=32_000)
    route.neigh(
        "add", dst="10.1.0.7", lladdr="02:00:00:00:00:07", ifindex=eth0.ifindex, state="permanent"
    )
    (found,) = route.get_addr(index=eth0.ifindex, family=socket.AF_INET)
    assert found.get_attr("IFA_ADDRESS") == "10.1.0.1"
    (way,) = route.route("get", dst="10.2.3.4")
    assert way.get_attr("RTA_GATEWAY") == "10.1.0.7"
    assert 32_000 in [rule.get_attr("FRA_PRIORITY") for rule in route.get_rules()]
    (neighbour,) = route.get_neighbours(ifindex=eth0.ifindex, family=socket.AF_INET)
    assert neighbour.get_attr("NDA_LLADDR") == "02:00:00:00:00:07"
    route.flush_addr(index=eth0.ifindex)
    assert not list(route.get_addr(index=eth0.ifindex, family=socket.AF_INET))


def test_netem_delays_in_virtual_time(kernel: Kernel) -> None:
    eth0 = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"])
    peer = eth0.add_peer("10.0.0.2")
    kernel.iproute.tc("add", "netem", index=eth0.ifindex, handle="1:", delay=250_000)
    capture = eth0.capture()
    eth0.inject(peer.echo_request("10.0.0.1"))
    assert not capture.sent
    kernel.clock.advance(1)
    request, reply = [frame for frame in capture if frame.data[12:14] == b"\x08\x00"]
    assert reply.time_ns - request.time_ns == pytest.approx(250e6, rel=0.01)


def test_events(kernel: Kernel) -> None:
    with kernel.netlink() as monitor:
        monitor.bind()
        kernel.iproute.link("add", ifname="d0", kind="dummy")
        events = [(m["event"], m.get_attr("IFLA_IFNAME")) for m in monitor.get()]
        assert ("RTM_NEWLINK", "d0") in events


def test_waiting_for_an_event_that_never_comes(kernel: Kernel) -> None:
    with kernel.netlink() as monitor:
        monitor.bind()
        kernel.clock.advance(60)
        while True:  # what the kernel still had to say
            try:
                monitor.asyncore.use_socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
        with pytest.raises(Deadlock):
            monitor.get()


def test_it_follows_snapshots(kernel: Kernel) -> None:
    outer = kernel.snapshot()
    route = kernel.iproute
    inner = kernel.snapshot()
    route.link("add", ifname="d7", kind="dummy")
    kernel.restore(inner)
    assert kernel.iproute is route, "it is older than the snapshot"
    assert "d7" not in names(route)
    kernel.restore(outer)
    assert kernel.iproute is not route
    assert "lo" in names(kernel.iproute)
    with pytest.raises(UsageError, match="restored away"):
        route.link("get", index=1)


def test_each_network_namespace_has_its_own(kernel: Kernel) -> None:
    kernel.iproute.link("add", ifname="d0", kind="dummy")
    with kernel.fork() as child:
        child.os.unshare(CLONE_NEWNET)
        with child.netlink() as route:
            assert "d0" not in names(route) and "lo" in names(route)


def test_a_tun_device_is_not_made_on_the_machine(kernel: Kernel) -> None:
    """pyroute2 would open the machine's own /dev/net/tun."""
    from pyroute2 import NetlinkError

    with pytest.raises(NetlinkError):
        kernel.iproute.link("add", ifname="tun7", kind="tuntap", mode="tun")


def test_nftables(kernel: Kernel) -> None:
    if kernel.config.get("CONFIG_NF_TABLES") not in ("y", "m"):
        pytest.skip("this kernel has no nftables")
    from pyroute2.nftables.main import NFTables

    with kernel.netlink(NFTables, protocol=NETLINK_NETFILTER) as nft:
        nft.begin()
        nft.table("add", name="filter")
        nft.commit()
        assert [table.get_attr("NFTA_TABLE_NAME") for table in nft.get_tables()] == ["filter"]
