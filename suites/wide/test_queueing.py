# SPDX-License-Identifier: GPL-2.0
"""Qdiscs, classifiers and actions of tc."""

from __future__ import annotations

import socket
import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev

from . import wire

PEER = "02:00:00:00:00:99"
QDISCS = {
    "cbs": wire.attribute(1, struct.pack("=4B4i", 0, 0, 0, 0, 1500, -1500, 1000, -1000)),
    "choke": wire.attribute(1, struct.pack("=IIIBBBBI", 100, 10, 30, 1, 10, 9, 0, 0)[:20])
    + wire.attribute(2, bytes(256)),
    "fq_pie": b"",
    "hhf": b"",
    "pie": b"",
    "sfb": b"",
    "skbprio": b"",
    "plug": None,
    "ets": wire.nest(2, wire.u8(1, 3)),
}
"""Kinds with their options; None: it holds what comes."""
ACT_SHOT, ACT_PIPE, ACT_OK = 2, 3, 0


@pytest.fixture
def eth(kernel: Kernel) -> Netdev:
    made = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"], ipv6_chatter=False)
    made.add_neighbour("10.0.0.2", PEER)
    return made


def sent(
    kernel: Kernel, eth: Netdev, count: int = 1, mark: int = 0, wait: float = 0
) -> list[Ether]:
    with eth.capture() as frames, kernel.socket(type=socket.SOCK_DGRAM) as sock:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, 36, mark)  # SO_MARK
        for number in range(count):
            sock.sendto(bytes([number]) * 50, ("10.0.0.2", 9))
        kernel.clock.advance(wait)
    return list(frames.packets())


@pytest.mark.parametrize("kind", ["cbs", "fq_pie", "hhf", "pie", "sfb", "skbprio", "plug"])
def test_a_qdisc_passes_packets_in_order(kernel: Kernel, eth: Netdev, kind: str) -> None:
    if f"CONFIG_NET_SCH_{kind.upper()}" not in kernel.config:
        pytest.skip(f"this kernel has no CONFIG_NET_SCH_{kind.upper()}: --kernel-flavour=wide")
    options = QDISCS[kind]
    wire.tc(kernel, wire.NEWQDISC, eth, kind, *([options] if options else []))
    found = [bytes(one[UDP].payload)[0] for one in sent(kernel, eth, 3, wait=1)]
    assert found == ([] if options is None else [0, 1, 2])
    qdisc, *_ = kernel.iproute.get_qdiscs(index=eth.ifindex)
    assert qdisc.get_attr("TCA_KIND") == kind


@pytest.mark.needs("NET_SCH_DRR", "NET_CLS_FW")
def test_drr_by_marks(kernel: Kernel, eth: Netdev) -> None:
    """What the fw classifier puts into no class is dropped."""
    wire.tc(kernel, wire.NEWQDISC, eth, "drr")
    wire.tc(kernel, wire.NEWCLASS, eth, "drr", wire.u32(1, 1500), parent=0x10000, handle=0x10005)
    wire.tc(
        kernel, wire.NEWFILTER, eth, "fw", wire.u32(1, 0x10005), parent=0x10000, handle=7,
        info=1 << 16 | socket.htons(3),
    )  # fmt: skip
    assert [len(sent(kernel, eth, mark=mark)) for mark in (7, 8)] == [1, 0]


def act(kind: str, *options: bytes) -> bytes:
    """TCA_ACT_TAB's first action."""
    return wire.nest(1, wire.text(1, kind), wire.nest(2, *options))


def gen(kind: str, action: int, more: bytes = b"") -> bytes:
    """The struct that each action begins with (tc_gen), as TCA_*_PARMS, number 2 but for some."""
    return struct.pack("=IIiii", 0, 0, action, 0, 0) + more


def matchall(kernel: Kernel, eth: Netdev, direction: str, *actions: bytes) -> None:
    wire.block(kernel, eth)
    parent = wire.EGRESS_BLOCK if direction == "out" else wire.INGRESS_BLOCK
    wire.tc(
        kernel, wire.NEWFILTER, eth, "matchall", wire.nest(2, *actions), parent=parent, handle=1,
        info=1 << 16 | socket.htons(3),
    )  # fmt: skip


@pytest.mark.needs("NET_ACT_VLAN")
def test_an_action_pushes_a_vlan(kernel: Kernel, eth: Netdev) -> None:
    push = act(
        "vlan", wire.attribute(2, gen("vlan", ACT_PIPE, struct.pack("=i", 2))), wire.u16(3, 42),
        wire.attribute(4, struct.pack("!H", 0x8100)),
    )  # fmt: skip
    matchall(kernel, eth, "out", push)
    (frame,) = sent(kernel, eth)
    assert frame[Dot1Q].vlan == 42 and frame[IP].dst == "10.0.0.2"


@pytest.mark.needs("NET_ACT_NAT")
def test_an_action_translates_addresses(kernel: Kernel, eth: Netdev) -> None:
    rewrite = gen("nat", ACT_OK) + socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.77")
    nat = act(
        "nat",
        wire.attribute(1, rewrite + socket.inet_aton("255.255.255.255") + struct.pack("=I", 1)),
    )
    matchall(kernel, eth, "out", nat)
    (frame,) = sent(kernel, eth)
    assert (frame[IP].src, frame[IP].dst) == ("10.0.0.77", "10.0.0.2")
    checked = IP(bytes(frame[IP]))
    del checked.chksum, checked[UDP].chksum
    assert bytes(IP(bytes(checked))) == bytes(frame[IP]), "with checksums that fit"


@pytest.mark.needs("NET_ACT_POLICE")
def test_an_action_polices(kernel: Kernel, eth: Netdev) -> None:
    """1000 bytes a second, of which 200 may come at once: two frames of 92 bytes."""
    from pyroute2 import protocols

    wire.block(kernel, eth)
    action = {"kind": "police", "rate": "8kbit", "burst": 200, "action": "drop", "mtu": 2000}
    kernel.iproute.tc(
        "add-filter", "matchall", eth.ifindex, parent=wire.EGRESS_BLOCK, prio=1,
        protocol=protocols.ETH_P_ALL, action=action,
    )  # fmt: skip
    first = len(sent(kernel, eth, 5))
    assert 0 < first < 5
    kernel.clock.advance(10)
    assert len(sent(kernel, eth, 5)) == first


@pytest.mark.needs("NET_ACT_CSUM", "NET_ACT_PEDIT")
def test_actions_edit_and_mend_the_checksum(kernel: Kernel, eth: Netdev) -> None:
    """The TTL becomes 5 (offset 8 of IP's header), and its checksum right again."""
    key = struct.pack("=IIIIII", 0xFFFFFF00, 5, 8, 0, 0, 0)
    edit = act(
        "pedit", wire.attribute(2, gen("pedit", ACT_PIPE) + struct.pack("=BBxx", 1, 0) + key)
    )
    mend = wire.nest(
        2,
        wire.text(1, "csum"),
        wire.nest(2, wire.attribute(1, gen("csum", ACT_OK, struct.pack("=I", 1)))),
    )
    matchall(kernel, eth, "in", edit, mend)
    frame = Ether(dst=eth.mac, src=PEER) / IP(src="10.0.0.2", dst="10.0.0.1") / ICMP()
    with kernel.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        eth.inject(frame)
        heard = IP(sock.recv(1000))
    assert heard.ttl == 5
