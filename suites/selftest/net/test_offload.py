# SPDX-License-Identifier: GPL-2.0
"""What devices' hardware does for their stacks: links carry frames that are whole and no longer
than the MTU, whatever is around TCP."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from suites.selftest.kernel.offload import right

if TYPE_CHECKING:
    from anykernel.net import Network

SIZE = 200_000
TUNNELS: dict[str, dict[str, Any]] = {
    "none": {},
    "gre": {"kind": "gre"},
    "gre-csum": {"kind": "gre", "gre_iflags": 0x8000, "gre_oflags": 0x8000},
    "gretap": {"kind": "gretap"},
    "ipip": {"kind": "ipip"},
    "sit": {"kind": "sit"},
    "vxlan": {"kind": "vxlan", "vxlan_id": 5, "vxlan_port": 4789, "vxlan_udp_csum": 0},
    "vxlan-csum": {"kind": "vxlan", "vxlan_id": 5, "vxlan_port": 4789, "vxlan_udp_csum": 1},
}
ENDS = ("10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize("name", TUNNELS)
@pytest.mark.parametrize("plain", [False, True])
def test_tcp_through_tunnels(network: Network, name: str, plain: bool) -> None:
    a, b = network.node("a"), network.node("b")
    link = network.segment(rate="100Mbit", delay="1ms")
    for node, own in zip((a, b), ENDS, strict=True):
        eth0 = node.add_netdev("eth0", features=() if plain else None)
        link.plug(node, netdev=eth0, addresses=f"{own}/24")
    address = ENDS
    family = socket.AF_INET
    options = dict(TUNNELS[name])
    if options:
        kind = options.pop("kind")
        prefix = "gre" if kind == "gretap" else kind
        address = ("10.9.0.1", "10.9.0.2") if kind != "sit" else ("fd09::1", "fd09::2")
        family = socket.AF_INET6 if kind == "sit" else family
        bits = 64 if kind == "sit" else 24
        for i, node in enumerate((a, b)):
            remote = "vxlan_group" if kind == "vxlan" else f"{prefix}_remote"
            options |= {"mtu": 1400}  # nothing is fragmented
            options |= {f"{prefix}_local": ENDS[i], remote: ENDS[1 - i]}
            node.link_add(kind, "t0", addresses=[f"{address[i]}/{bits}"], **options)
    server = b.socket(family, socket.SOCK_STREAM)
    server.bind((address[1], 80))
    server.listen()
    client = a.socket(family, socket.SOCK_STREAM)
    client.connect((address[1], 80))
    far, _ = server.accept()
    data = bytes(i * 7 % 251 for i in range(SIZE))
    with link.capture() as passed:
        client.setblocking(False)
        at, got = 0, b""
        far.setblocking(False)
        while len(got) < SIZE:
            with suppress(BlockingIOError):
                at += client.send(data[at:]) if at < SIZE else 0
            network.run(0.01)
            with suppress(BlockingIOError):
                got += far.recv(SIZE)
    assert got == data
    frames = [bytes(one.data) for one in passed]
    assert max(map(len, frames)) <= 1514
    assert [frame.hex() for frame in frames if not right(frame)] == []
    assert sum(len(Ether(frame)[TCP].payload) for frame in frames if TCP in Ether(frame)) >= SIZE
    assert (VXLAN in Ether(frames[-1])) == name.startswith("vxlan")
    assert link.statistics["frames"] >= len(frames) >= SIZE // 1460
