# SPDX-License-Identifier: GPL-2.0
"""DCE's PMTU cases: path MTU discovery over a hop with a small MTU (RFC 1191, RFC 8201, RFC 4821).

The router says what fits, the sender learns it, TCP's segments shrink and all arrives; where the
router's message is filtered (a black hole) TCP stalls, unless it probes by itself.
"""

from __future__ import annotations

import errno
import hashlib
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest

from anykernel.kernel.tcpinfo import tcp_info
from anykernel.net.link import DROP, PASS, Frame, Verdict

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.link import Link
    from anykernel.net.node import Node
    from anykernel.net.wire import Passage

SMALL = 1380
IP_MTU_DISCOVER, IP_MTU, PMTUDISC_DO, PMTUDISC_DONT = 10, 14, 2, 0
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
HEADERS = {4: 20, 6: 40}
FORGET = 600
"""Seconds for which a path MTU is kept: net.ipv4.route.mtu_expires, net.ipv6.route.mtu_expires."""


class Path(NamedTuple):
    version: int
    nodes: list[Node]
    links: list[Link]
    address: str
    """Of the last node."""
    router: str
    """The address from which the router of the small hop says so."""

    @property
    def family(self) -> int:
        return socket.AF_INET if self.version == 4 else socket.AF_INET6


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def path(
    request: pytest.FixtureRequest, network: Network, needs_ipv6: Callable[[Node], None]
) -> Path:
    """a - r1 - r2 - b, where r1 - r2 is the small one."""
    nodes = [network.node(name) for name in ("a", "r1", "r2", "b")]
    links = [
        network.link(x, y, rate="100Mbit", delay="2ms", mtu=mtu)
        for x, y, mtu in zip(nodes, nodes[1:], (1500, SMALL, 1500), strict=False)
    ]
    version: int = request.param
    if version == 6:
        needs_ipv6(nodes[0])
    plan = network.address(ipv6="fd00::/48" if version == 6 else None)
    network.route()
    network.run(5)  # link-local addresses are no duplicates
    held = {
        end.node + "." + end.device: str(one.ip)
        for end, given in plan.items()
        for one in given
        if one.version == version
    }
    return Path(version, nodes, links, held["b.eth0"], held["r1.eth0"])


def too_big(path: Path, passage: Passage) -> int | None:
    """The MTU that an ICMP message from the first router says; None: it's something else."""
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
    from scapy.layers.l2 import Ether

    packet = Ether(passage.data)
    if IP in packet and ICMP in packet and (packet[ICMP].type, packet[ICMP].code) == (3, 4):
        assert packet[IP].src == path.router
        return int(packet[ICMP].nexthopmtu)
    if ICMPv6PacketTooBig in packet:
        assert packet[IPv6].src == path.router
        return int(packet[ICMPv6PacketTooBig].mtu)
    return None


def route_mtu(path: Path) -> int | None:
    """As `ip route get` tells on the first node."""
    (route,) = path.nodes[0].iproute.route("get", dst=path.address, family=path.family)
    metrics = route.get_attr("RTA_METRICS")
    mtu = None if metrics is None else metrics.get_attr("RTAX_MTU")
    return None if mtu is None else int(mtu)


class Transfer:
    """Bytes over TCP, their digest, and what the sender's TCP says of itself."""

    def __init__(self, network: Network, path: Path, size: int = 300_000) -> None:
        self.network, self.path = network, path
        self.data = random.Random(1).randbytes(size)
        self.size = 0
        self.digest = hashlib.sha256()
        self.info: dict[str, int] = {}
        self.server = network.start(self.serve, on=path.nodes[-1])
        self.client = network.start(self.send, on=path.nodes[0])

    def serve(self, process: Process) -> None:
        listener = process.socket(self.path.family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0" if self.path.version == 4 else "::", 80))
        listener.listen()
        connection, _ = listener.accept()
        while part := connection.recv(1 << 16):
            self.digest.update(part)
            self.size += len(part)
        connection.close()
        listener.close()

    def send(self, process: Process) -> None:
        sock = process.socket(self.path.family)
        sock.connect((self.path.address, 80))
        sock.sendall(self.data)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
        self.info = tcp_info(sock)

    @property
    def arrived(self) -> bool:
        return self.digest.digest() == hashlib.sha256(self.data).digest()


def black_hole(frame: Frame) -> Verdict:
    """Takes frag-needed and packet-too-big, and nothing else."""
    data = frame.data
    if data[12:14] == b"\x08\0" and data[23] == 1 and data[34:36] == b"\x03\x04":
        return DROP
    if data[12:14] == b"\x86\xdd" and data[20] == 58 and data[54] == 2:
        return DROP
    return PASS


def test_tcp_learns_what_fits(network: Network, path: Path) -> None:
    transfer = Transfer(network, path)
    with path.links[0].capture() as first, path.links[1].capture() as small:
        network.run()
    assert transfer.arrived
    said = [mtu for one in first if (mtu := too_big(path, one)) is not None]
    assert said and set(said) == {SMALL}
    assert transfer.info["pmtu"] == SMALL == route_mtu(path)
    assert transfer.info["snd_mss"] == SMALL - HEADERS[path.version] - 32
    assert transfer.info["advmss"] == 1500 - HEADERS[path.version] - 32
    assert max(one.length for one in small) == SMALL + 14
    # The first window was too large, and nothing after it.
    sent = [one for one in first if network.ends(one)[1] == "a"]
    large = [one for one in sent if one.length > SMALL + 14]
    assert 0 < len(large) <= 10
    assert len(large) == len(said)
    assert max(one.time_ns for one in large) - min(one.time_ns for one in large) < 5_000_000


def test_a_second_connection_knows_it(network: Network, path: Path) -> None:
    Transfer(network, path)
    network.run()
    second = Transfer(network, path)
    with path.links[0].capture() as first:
        network.run()
    assert second.arrived
    assert [one for one in first if too_big(path, one)] == []
    assert max(one.length for one in first) == SMALL + 14
    assert second.info["total_retrans"] == 0


def test_it_is_forgotten_after_a_while(network: Network, path: Path) -> None:
    Transfer(network, path)
    network.run()
    assert route_mtu(path) == SMALL
    network.run(FORGET - 30)
    assert route_mtu(path) == SMALL
    network.run(60)
    assert route_mtu(path) is None
    again = Transfer(network, path)
    with path.links[0].capture() as first:
        network.run()
    assert again.arrived
    assert [one for one in first if too_big(path, one)], "it is asked for anew"


def test_udp_is_told(network: Network, path: Path) -> None:
    """With DF: the datagram is lost, the next one is refused with EMSGSIZE, IP_MTU says what fits;
    and one that fits arrives."""
    level = socket.IPPROTO_IP if path.version == 4 else socket.IPPROTO_IPV6
    discover, mtu = (
        (IP_MTU_DISCOVER, IP_MTU) if path.version == 4 else (IPV6_MTU_DISCOVER, IPV6_MTU)
    )
    room = SMALL - HEADERS[path.version] - 8

    def server(process: Process) -> int:
        sock = process.socket(path.family, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0" if path.version == 4 else "::", 9))
        return len(sock.recv(2000))

    def client(process: Process) -> None:
        sock = process.socket(path.family, socket.SOCK_DGRAM)
        sock.setsockopt(level, discover, PMTUDISC_DO)
        sock.connect((path.address, 9))
        assert sock.getsockopt(level, mtu) == 1500
        sock.send(bytes(1400))
        network.sleep(1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EMSGSIZE, "by ICMP"
        assert sock.getsockopt(level, mtu) == SMALL
        with pytest.raises(OSError) as caught:
            sock.send(bytes(room + 1))
        assert caught.value.errno == errno.EMSGSIZE
        sock.send(bytes(room))

    got = network.start(server, on=path.nodes[-1])
    network.start(client, on=path.nodes[0])
    network.run()
    assert got.result == room


def test_who_may_be_fragmented_is(network: Network, path: Path) -> None:
    """IPv4 without DF: by the router.  IPv6: only by the sender, once it knows (RFC 8200, 5)."""
    level = socket.IPPROTO_IP if path.version == 4 else socket.IPPROTO_IPV6
    discover = IP_MTU_DISCOVER if path.version == 4 else IPV6_MTU_DISCOVER
    data = [bytes([number]) * 1420 for number in range(3)]

    def server(process: Process) -> list[bytes]:
        sock = process.socket(path.family, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0" if path.version == 4 else "::", 9))
        sock.settimeout(20)
        found: list[bytes] = []
        while len(found) < 3:
            try:
                found.append(sock.recv(2000))
            except TimeoutError:
                break
        return found

    def client(process: Process) -> None:
        sock = process.socket(path.family, socket.SOCK_DGRAM)
        sock.setsockopt(level, discover, PMTUDISC_DONT)
        for one in data:
            sock.sendto(one, (path.address, 9))
            network.sleep(1)

    got = network.start(server, on=path.nodes[-1])
    network.start(client, on=path.nodes[0])
    with path.links[0].capture() as first:
        network.run()
    assert got.result == (data if path.version == 4 else data[1:])
    said = [one for one in first if too_big(path, one)]
    assert len(said) == (0 if path.version == 4 else 1)
    router = path.nodes[1]
    if path.version == 4:
        assert router.snmp["Ip"]["FragOKs"] == 3 and router.snmp["Ip"]["FragCreates"] == 6


def test_a_black_hole_stalls(network: Network, path: Path) -> None:
    for node in path.nodes:
        node.sysctl["net.ipv4.tcp_mtu_probing"] = 0
    with path.links[0].rule(black_hole, sender=path.nodes[1]) as rule:
        transfer = Transfer(network, path)
        network.run(60)
        assert transfer.size == 0 and not transfer.client.done
        assert path.links[0].port(path.nodes[1]).sent["dropped"] > 3
        assert rule.seen > 3
    network.run(limit=300)
    assert transfer.arrived, "without the filter it goes on"


def test_tcp_finds_its_way_out_of_a_black_hole(network: Network, path: Path) -> None:
    """RFC 4821: after some timeouts (tcp_mtu_probing=1) it tries smaller segments."""
    path.nodes[0].sysctl["net.ipv4.tcp_mtu_probing"] = 1
    with path.links[0].rule(black_hole, sender=path.nodes[1]):
        transfer = Transfer(network, path)
        network.run(limit=60)
    assert transfer.arrived
    assert path.links[0].port(path.nodes[1]).sent["dropped"] > 1
    assert route_mtu(path) is None, "the route has learnt nothing"
    assert transfer.info["snd_mss"] <= SMALL - HEADERS[path.version] - 32


def test_a_path_that_grows_small_under_a_connection(network: Network, path: Path) -> None:
    """The hop's MTU shrinks in the middle; the router's next message says so."""
    transfer = Transfer(network, path, 5_000_000)
    network.run(0.2)
    assert 0 < transfer.size < 4_000_000
    for port in path.links[1].ports:
        port.netdev.mtu = 1300
    network.run(limit=60)
    assert transfer.arrived
    assert transfer.info["pmtu"] == 1300 == route_mtu(path)
    assert transfer.info["snd_mss"] == 1300 - HEADERS[path.version] - 32
