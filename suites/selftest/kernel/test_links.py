# SPDX-License-Identifier: GPL-2.0
"""Links, addresses, routes, nexthop objects and filters in one line each, shown by packets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1Q, Ether

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.kernel.nft import (
    accept,
    counter,
    destination,
    dnat,
    drop,
    goto,
    incoming,
    jump,
    leave,
    mark,
    masquerade,
    outgoing,
    protocol,
    set_mark,
    snat,
    source,
    state,
    tcp,
    udp,
)

CLONE_NEWNET = 0x40000000
PEER = "02:00:00:00:00:99"


def device(kernel: Kernel, name: str, *addresses: str) -> Netdev:
    made = kernel.add_netdev(name, addresses=addresses, ipv6_chatter=False)
    for address in addresses:
        host = address.split("/")[0]
        made.add_neighbour(host[:-1] + "2", PEER)
    return made


def packet(eth: Netdev, src: str, dst: str, inner: Any) -> Any:
    layer = IPv6 if ":" in src else IP
    return Ether(dst=eth.mac, src=PEER) / layer(src=src, dst=dst) / inner


@pytest.fixture
def router(kernel: Kernel) -> tuple[Netdev, Netdev]:
    """Two devices, between which packets of both versions are forwarded."""
    left = device(kernel, "left", "10.0.0.1/24", "fd00::1/64")
    right = device(kernel, "right", "10.1.0.1/24", "fd01::1/64")
    kernel.sysctl["net.ipv4.ip_forward"] = 1
    kernel.sysctl["net.ipv6.conf.all.forwarding"] = 1
    return left, right


def forwarded(left: Netdev, right: Netdev, frame: Any) -> list[Any]:
    with right.capture() as frames:
        left.inject(frame)
    return [one for one in frames.packets() if one.src == right.mac]


def test_link_add_returns_the_index(kernel: Kernel) -> None:
    bridge = kernel.link_add("bridge", "br0", addresses=["192.0.2.1/24", "2001:db8::1/64"])
    assert bridge == kernel.ifindex("br0") == int(kernel.read_text("/sys/class/net/br0/ifindex"))
    eth = kernel.add_netdev("eth0")
    kernel.link_set("eth0", master="br0", mtu=1400)
    assert kernel.os.listdir("/sys/class/net/br0/brif") == ["eth0"]
    assert eth.mtu == 1400
    down = kernel.link_add("dummy", "d0", up=False, mtu=1234)
    up = kernel.link_add("dummy", "d1", master=bridge)
    flags = [int(kernel.read_text(f"/sys/class/net/{n}/flags"), 16) & 1 for n in ("d0", "d1")]
    assert flags == [0, 1] and down != up
    assert kernel.read_text("/sys/class/net/d0/mtu") == "1234\n"
    kernel.link_del("d0")
    with pytest.raises(UsageError, match="no network device 'd0'"):
        kernel.ifindex("d0")
    with pytest.raises(FileExistsError):
        kernel.link_add("dummy", "br0")
    with pytest.raises(OSError, match="nknown device type"):
        kernel.link_add("nonsense", "x0")
    with pytest.raises(UsageError, match="no address with a prefix"):
        kernel.link_add("dummy", "x0", addresses=["10.0.0.300/24"])
    assert not kernel.os.exists("/sys/class/net/x0")


def test_a_vlan_on_a_named_link(kernel: Kernel) -> None:
    eth = kernel.add_netdev("eth0", ipv6_chatter=False)
    kernel.link_add("vlan", "eth0.5", link="eth0", vlan_id=5, addresses="10.5.0.1/24")
    kernel.neighbour_add("eth0.5", "10.5.0.2", PEER)
    frame = Ether(dst=eth.mac, src=PEER) / Dot1Q(vlan=5) / IP(src="10.5.0.2", dst="10.5.0.1")
    replies = [one for one in eth.exchange(frame / ICMP()) if ICMP in one]
    assert [(one[Dot1Q].vlan, one[ICMP].type) for one in replies] == [(5, 0)]


def test_in_a_namespace_of_its_own(kernel: Kernel) -> None:
    with kernel.fork() as child:
        child.os.unshare(CLONE_NEWNET)
        index = child.link_add("dummy", "mine", addresses=["10.9.0.1/24"])
        child.route_add("default", via="10.9.0.2")
        assert child.ifindex("mine") == index
        assert "mine" in child.read_text("/proc/net/route")
        assert "mine" not in kernel.read_text("/proc/net/dev")


@pytest.mark.parametrize("version", [4, 6])
def test_routes_by_gateway_device_and_nexthop(
    kernel: Kernel, router: tuple[Netdev, Netdev], version: int
) -> None:
    left, right = router
    via = "10.1.0.2" if version == 4 else "fd01::2"
    src = "10.0.0.2" if version == 4 else "fd00::2"
    inner = ICMP() if version == 4 else ICMPv6EchoRequest()

    def network(number: int) -> str:
        return f"10.{number}.0.0/16" if version == 4 else f"fd{number}::/16"

    def host(number: int) -> str:
        return f"10.{number}.0.9" if version == 4 else f"fd{number}::9"

    kernel.route_add(network(20), via=via)
    kernel.route_add(network(30), via=via, device=right)
    kernel.nexthop_add(7, via=via, device="right")
    kernel.nexthop_add(8, blackhole=True, version=version)
    kernel.nexthop_add(9, group=[7])
    kernel.nexthop_add(10, group=[(7, 200)])
    kernel.route_add(network(40), nexthop=7)
    kernel.route_add(network(50), nexthop=9)
    kernel.route_add(network(60), nexthop=8)
    for number in (20, 30, 40, 50):
        (got,) = forwarded(left, right, packet(left, src, host(number), inner))
        assert got.dst == PEER and got.payload.dst == host(number)
    assert not forwarded(left, right, packet(left, src, host(60), inner))
    assert not forwarded(left, right, packet(left, src, host(70), inner))
    with pytest.raises(FileExistsError):
        kernel.nexthop_add(7, via=via, device=right)


def test_an_ipv4_route_through_an_ipv6_gateway(
    kernel: Kernel, router: tuple[Netdev, Netdev]
) -> None:
    left, right = router
    kernel.route_add("10.20.0.0/16", via="fd01::2", device=right)
    (got,) = forwarded(left, right, packet(left, "10.0.0.2", "10.20.0.1", ICMP()))
    assert (got.dst, got[IP].dst) == (PEER, "10.20.0.1")


def test_a_table_of_its_own(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    for table in (100, 1000):
        kernel.route_add("10.20.0.0/16", via="10.1.0.2", table=table)
        routes = kernel.iproute.get_routes(table=table, family=2)
        assert [one.get_attr("RTA_DST") for one in routes] == ["10.20.0.0"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"network": "10.0.0.0/8"}, "leads somewhere"),
        ({"network": "10.0.0.1/8", "device": 1}, "is no network"),
        ({"network": "default", "via": "here"}, "no IP address"),
        ({"network": "default", "device": "absent"}, "no network device"),
    ],
)
def test_what_is_no_route(kernel: Kernel, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kernel.route_add(**given)


def test_what_is_no_nexthop(kernel: Kernel) -> None:
    for given in ({}, {"via": "10.0.0.1", "blackhole": True}, {"device": 1, "group": [1]}):
        with pytest.raises(UsageError, match="a nexthop is one of"):
            kernel.nexthop_add(1, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [4, 6])
def test_flower(kernel: Kernel, router: tuple[Netdev, Netdev], version: int) -> None:
    left, right = router
    src, dst = ("10.0.0.2", "10.1.0.2") if version == 4 else ("fd00::2", "fd01::2")
    kind = "ip" if version == 4 else "ipv6"
    kernel.flower_add(
        "left", protocol=kind, ip_proto="tcp", dst_port=80,
        src_ip="10.0.0.0/24" if version == 4 else "fd00::/64", prio=1,
    )  # fmt: skip

    def passes(inner: Any) -> int:
        return len(forwarded(left, right, packet(left, src, dst, inner)))

    assert [passes(TCP(dport=80)), passes(TCP(dport=81)), passes(UDP(dport=80))] == [0, 1, 1]
    to = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": right.ifindex}
    kernel.flower_add(left, ip_proto="udp", protocol=kind, action=to, prio=2)
    kernel.flower_add(right, direction="egress", src_mac=right.mac, action="drop", prio=3)
    frame = packet(left, src, dst, UDP(dport=80))
    with right.capture() as frames:
        left.inject(frame)
    assert frames.sent == [bytes(frame)]
    assert passes(TCP(dport=81)) == 0


def test_what_flower_cant_have(kernel: Kernel) -> None:
    for given, said in (
        ({"direction": "sideways"}, "direction is one of"),
        ({"protocol": "appletalk"}, "protocol is a number or one of"),
        ({"dst_port": 80}, "needs ip_proto"),
        ({"src_ip": "nowhere"}, "no address or network"),
        ({"src_mac": "x"}, "no MAC address"),
    ):
        with pytest.raises(UsageError, match=said):
            kernel.flower_add("lo", **given)


@pytest.mark.parametrize(("family", "version"), [("ip", 4), ("ip6", 6), ("inet", 4), ("inet", 6)])
def test_nft_filters(
    kernel: Kernel, router: tuple[Netdev, Netdev], family: str, version: int
) -> None:
    left, right = router
    src, dst = ("10.0.0.2", "10.1.0.2") if version == 4 else ("fd00::2", "fd01::2")
    near = "10.0.0.0/24" if version == 4 else "fd00::/64"
    nft = kernel.nft(family)
    nft.table("t")
    nft.chain("t", "f", hook="forward", policy="drop")
    nft.chain("t", "more")
    nft.chain("t", "end")
    nft.rule("t", "f", incoming("left"), tcp(dport=80), counter(), accept())
    nft.rule("t", "f", udp(sport=5, dport=6), source(near), destination(dst), jump("more"))
    nft.rule("t", "f", mark(77), outgoing("right"), accept())
    nft.rule("t", "more", set_mark(77), leave())
    nft.rule("t", "f", tcp(dport=82), goto("end"))
    nft.rule("t", "f", protocol("tcp"), accept())
    nft.rule("t", "end", drop())

    def passes(inner: Any) -> int:
        return len(forwarded(left, right, packet(left, src, dst, inner)))

    assert [passes(TCP(dport=port)) for port in (80, 81, 82)] == [1, 1, 0]
    assert [passes(UDP(sport=sport, dport=6)) for sport in (5, 6)] == [1, 0]


@pytest.mark.parametrize("version", [4, 6])
def test_nft_nat_and_states(kernel: Kernel, router: tuple[Netdev, Netdev], version: int) -> None:
    left, right = router
    src, dst, own = (
        ("10.0.0.2", "10.1.0.2", "10.1.0.1") if version == 4 else ("fd00::2", "fd01::2", "fd01::1")
    )
    nft = kernel.nft("ip" if version == 4 else "ip6")
    nft.table("t")
    nft.chain("t", "post", hook="postrouting", kind="nat", priority=100)
    nft.chain("t", "pre", hook="prerouting", kind="nat", priority=-100)
    nft.chain("t", "f", hook="forward", policy="drop")
    nft.rule("t", "f", incoming("left"), state("new", "established"), accept())
    nft.rule("t", "f", state("established", "related"), accept())
    nft.rule("t", "pre", udp(dport=53), dnat(dst, 5353))
    nft.rule("t", "post", udp(sport=9), snat(own, 99))
    nft.rule("t", "post", outgoing("right"), masquerade())
    (got,) = forwarded(left, right, packet(left, src, own, UDP(sport=7, dport=53)))
    assert (got.payload.src, got.payload.dst, got[UDP].dport) == (own, dst, 5353)
    (got,) = forwarded(left, right, packet(left, src, dst, UDP(sport=9, dport=10)))
    assert (got.payload.src, got[UDP].sport) == (own, 99)
    back = packet(right, dst, own, UDP(sport=10, dport=99))
    (got,) = forwarded(right, left, back)
    assert (got.payload.dst, got[UDP].dport) == (src, 9)
    assert not forwarded(right, left, packet(right, dst, src, UDP(sport=1, dport=2)))


def test_what_nft_cant_have(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="a family is one of"):
        kernel.nft("ipv6")
    nft = kernel.nft("ip")
    with pytest.raises(UsageError, match="a policy is"):
        nft.chain("t", "c", hook="input", policy="reject")
    with pytest.raises(FileNotFoundError):
        nft.chain("absent", "c")
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: source("x"), "no address"),
        (lambda: dnat("x"), "no IP address"),
        (lambda: protocol("ipx"), "a protocol is"),
        (lambda: state("old"), "states are"),
    ]
    for make, said in wrong:
        with pytest.raises(UsageError, match=said):
            make()
