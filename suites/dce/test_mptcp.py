# SPDX-License-Identifier: GPL-2.0
"""DCE's MPTCP scripts (dce-iperf-mptcp): one connection over several paths (RFC 8684).

It carries more than one path does; when a path fails in the middle it goes on over the other,
where plain TCP stalls.  Paths are announced by the kernel's own path manager (mptcp_pm).
"""

from __future__ import annotations

import hashlib
import random
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.link import Link
    from anykernel.net.node import Node

MPTCP = 262
GENERIC = 16
SIGNAL, SUBFLOW, BACKUP = 1, 2, 4
"""Flags of an endpoint (include/uapi/linux/mptcp.h)."""
RATE = 10e6
LINE = RATE * 1448 / 1538
"""Bits per second of payload that TCP gets of one path."""


class Paths(NamedTuple):
    a: Node
    b: Node
    links: list[Link]
    """The bottleneck of each."""
    addresses: list[str]
    """Of b, by path."""


def skip_without(node: Node) -> None:
    try:
        node.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP).close()
    except OSError as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")


def direct(network: Network, delays: tuple[float, ...] = (0.010, 0.010)) -> Paths:
    """Two hosts with a cable for each path."""
    a, b = network.node("a"), network.node("b")
    skip_without(a)
    links = [
        network.link(a, b, name=f"path{i}", rate=RATE, delay=delay, queue=60,
                     addresses=([f"10.0.{i}.1/24"], [f"10.0.{i}.2/24"]))
        for i, delay in enumerate(delays)
    ]  # fmt: skip
    return Paths(a, b, links, [f"10.0.{i}.2" for i in range(len(delays))])


def routed(network: Network) -> Paths:
    """Two hosts with a router for each path."""
    a, b = network.node("a"), network.node("b")
    skip_without(a)
    links = []
    for i in range(2):
        router = network.node(f"router{i}")
        network.link(a, router, rate="100Mbit", delay="1ms",
                     addresses=([f"10.{i}.1.1/24"], [f"10.{i}.1.254/24"]))  # fmt: skip
        link = network.link(router, b, rate=RATE, delay="9ms", queue=60,
                            addresses=([f"10.{i}.2.254/24"], [f"10.{i}.2.1/24"]))  # fmt: skip
        links.append(link)
    network.route()
    return Paths(a, b, links, [f"10.{i}.2.1" for i in range(2)])


def manager(node: Node) -> Any:
    """pyroute2's mptcp_pm."""
    from pyroute2 import MPTCP as Manager

    return node.netlink(Manager, protocol=GENERIC)


def announce(paths: Paths, *addresses: str) -> None:
    """b tells a of further addresses, and a connects to them."""
    of_a, of_b = manager(paths.a), manager(paths.b)
    of_a.limits("set", subflows=4, rcv_add_addrs=4)
    of_b.limits("set", subflows=4, rcv_add_addrs=4)
    for address in addresses:
        of_b.endpoint("add", addr=address, flags=SIGNAL)


def counters(node: Node) -> dict[str, int]:
    return dict(node.snmp["MPTcpExt"])


class Transfer:
    """Bytes over a connection, and when they arrived."""

    def __init__(self, network: Network, paths: Paths, data: bytes, protocol: int) -> None:
        self.network, self.paths, self.data, self.protocol = network, paths, data, protocol
        self.got = hashlib.sha256()
        self.arrivals: list[tuple[float, int]] = []
        self.began = network.seconds
        network.start(self.server, on=paths.b)
        network.start(self.client, on=paths.a)

    def server(self, process: Process) -> None:
        listener = process.socket(socket.AF_INET, socket.SOCK_STREAM, self.protocol)
        listener.bind(("0.0.0.0", 5000))
        listener.listen()
        connection, _ = listener.accept()
        while part := connection.recv(1 << 18):
            self.got.update(part)
            self.arrivals.append((self.network.seconds, len(part)))
        connection.close()

    def client(self, process: Process) -> None:
        sock = process.socket(socket.AF_INET, socket.SOCK_STREAM, self.protocol)
        sock.connect((self.paths.addresses[0], 5000))
        sock.sendall(self.data)
        sock.close()

    @property
    def size(self) -> int:
        return sum(size for _, size in self.arrivals)

    def check(self) -> None:
        assert self.size == len(self.data)
        assert self.got.digest() == hashlib.sha256(self.data).digest()


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("shape", [direct, routed])
def test_two_paths_carry_more_than_one(network: Network, shape: Any) -> None:
    paths = shape(network)
    announce(paths, paths.addresses[1])
    plain = network.bulk(paths.a, paths.b, address=paths.addresses[0], bytes=4_000_000)
    network.run()
    assert 0.9 * LINE < plain.goodput < LINE, "plain TCP has one path"
    before = [link.port(paths.b).sent["frames"] for link in paths.links]
    multi = network.bulk(
        paths.a, paths.b, address=paths.addresses[0], bytes=8_000_000, protocol=MPTCP
    )
    network.run()
    assert multi.moved == 8_000_000
    assert 1.6 * LINE < multi.goodput < 2 * LINE
    after = [link.port(paths.b).sent["frames"] for link in paths.links]
    assert all(y - x > 500 for x, y in zip(before, after, strict=True)), "ACKs on both paths"
    assert counters(paths.a)["MPJoinSynAckRx"] == counters(paths.b)["MPJoinAckRx"] == 1


def test_without_a_path_manager_there_is_one_path(network: Network) -> None:
    paths = direct(network)
    multi = network.bulk(
        paths.a, paths.b, address=paths.addresses[0], bytes=4_000_000, protocol=MPTCP
    )
    network.run()
    assert 0.9 * LINE < multi.goodput < LINE
    assert paths.links[1].statistics["bytes"] < 2000
    assert counters(paths.b)["MPCapableACKRX"] == 1 and counters(paths.b)["MPJoinSynRx"] == 0


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("shape", [direct, routed])
def test_a_path_fails_in_the_middle(network: Network, shape: Any, silent: bool) -> None:
    """Its carrier is lost, or only all of its frames; what was on it goes over the other."""
    paths = shape(network)
    announce(paths, paths.addresses[1])
    transfer = Transfer(network, paths, content(6_000_000), MPTCP)
    network.run(1)
    assert 0 < transfer.size < 3_000_000
    if silent:
        paths.links[0].set(loss=1)
    else:
        paths.links[0].down()
    failed = network.seconds
    network.run(limit=60)
    transfer.check()
    assert transfer.arrivals[-1][0] < failed + 8e6 * 6 / LINE + 3
    bulk = [seconds for seconds, _ in transfer.arrivals if seconds > failed]
    silence = max(y - x for x, y in zip([failed, *bulk], bulk, strict=False))
    assert silence < 3, "a few retransmission timeouts"


@pytest.mark.parametrize("silent", [False, True])
def test_plain_tcp_stalls(network: Network, silent: bool) -> None:
    """The control: the same failure without MPTCP."""
    paths = direct(network)
    transfer = Transfer(network, paths, content(6_000_000), socket.IPPROTO_TCP)
    network.run(1)
    if silent:
        paths.links[0].set(loss=1)
    else:
        paths.links[0].down()
    network.run(0.1)
    before = transfer.size
    assert 0 < before < 3_000_000
    network.run(60)
    assert transfer.size == before
    if silent:
        paths.links[0].set(loss=0)
    else:
        paths.links[0].up()
    network.run(limit=300)
    transfer.check()


def test_a_backup_path_is_used_when_it_is_needed(network: Network) -> None:
    """RFC 8684, 3.3.8: data goes to a backup subflow only when there is no other."""
    paths = direct(network)
    announce(paths)
    manager(paths.b).endpoint("add", addr=paths.addresses[1], flags=SIGNAL | BACKUP)
    manager(paths.a).endpoint("add", addr="10.0.1.1", flags=SUBFLOW | BACKUP)
    transfer = Transfer(network, paths, content(3_000_000), MPTCP)
    network.run(1)
    assert counters(paths.b)["MPJoinAckRx"] >= 1, "it is there"
    backup = paths.links[1].port(paths.a)
    assert backup.sent["bytes"] < 5000 < 500_000 < transfer.size
    paths.links[0].set(loss=1)
    network.run(limit=60)
    transfer.check()
    assert backup.sent["bytes"] > 1_000_000


def test_who_speaks_no_mptcp_gets_tcp(network: Network) -> None:
    """RFC 8684, 3.7: fallback; one end is a plain socket."""
    paths = direct(network)
    announce(paths, paths.addresses[1])
    data = content(500_000)
    got = bytearray()

    def server(process: Process) -> None:
        listener = process.socket()
        listener.bind(("0.0.0.0", 5000))
        listener.listen()
        connection, _ = listener.accept()
        while part := connection.recv(1 << 16):
            got.extend(part)

    def client(process: Process) -> None:
        sock = process.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
        sock.connect((paths.addresses[0], 5000))
        sock.sendall(data)
        sock.close()

    network.start(server, on=paths.b)
    network.start(client, on=paths.a)
    network.run()
    assert bytes(got) == data
    assert counters(paths.a)["MPCapableFallbackSYNACK"] == 1
    assert counters(paths.a)["MPJoinSynAckRx"] == 0


def test_three_paths_of_different_delay(network: Network) -> None:
    """What comes over the short path waits for what comes over the long ones: all in order."""
    paths = direct(network, (0.005, 0.020, 0.040))
    announce(paths, *paths.addresses[1:])
    for node in (paths.a, paths.b):  # room for all that has to wait
        for name in ("rmem", "wmem"):
            node.sysctl[f"net.ipv4.tcp_{name}"] = "4096 2000000 8000000"
    data = content(6_000_000)
    transfer = Transfer(network, paths, data, MPTCP)
    network.run()
    transfer.check()
    took = transfer.arrivals[-1][0] - transfer.began
    assert len(data) * 8 / took > 1.5 * LINE
    assert all(link.port(paths.a).sent["bytes"] > 500_000 for link in paths.links)
    assert sum(link.port(paths.a).sent["bytes"] for link in paths.links) < 1.1 * len(data)
