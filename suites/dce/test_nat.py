# SPDX-License-Identifier: GPL-2.0
"""Two home networks with the same addresses behind routers that translate them (nf_tables); the
original suite, which had no netfilter, could not run this case.

Property: outside only the routers' addresses are seen, with right checksums; flows that look alike
inside don't outside, and each answer comes back to who asked; a forwarded port reaches its host,
others reach nobody; errors (ICMP) are translated, too; conntrack counts flows, and forgets them.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.fuzz import nft
from anykernel.kernel.netdev import to_scapy

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.link import Link
    from anykernel.net.node import Node

PREROUTING, POSTROUTING = 0, 4
DESTINATION, SOURCE = -100, 100
"""Priorities of NAT's hooks."""
META_INPUT, META_OUTPUT = 4, 5
SERVER, OUTSIDE = "198.51.100.10", {"west": "198.51.100.1", "east": "198.51.100.2"}
HOSTS = {"anna": "192.168.1.10", "bert": "192.168.1.11", "carl": "192.168.1.10"}
"""anna and bert live in the west, carl in the east."""
PUBLIC, PRIVATE = 8080, 80
SERVICE, CLIENT = 7000, 5000
FORGOTTEN = 120 + 60
"""Seconds: nf_conntrack_udp_timeout_stream, and a round of the garbage collector."""


def device(kind: int, ifindex: int) -> list[bytes]:
    """Matches packets by the device that they come from or go to."""
    return [
        nft.expression("meta", nft.u32(1, 1), nft.u32(2, kind)),
        nft.equal(ifindex.to_bytes(4, "little")),
    ]


def translate(router: Node, ifindex: int) -> None:
    """Masquerades what leaves by the device; TCP to PUBLIC that arrives there goes to anna."""
    try:
        batch = nft.Batch(router)
        batch.chain("out", POSTROUTING, SOURCE, "nat")
        batch.rule("out", *device(META_OUTPUT, ifindex), nft.expression("masq"))
        batch.chain("in", PREROUTING, DESTINATION, "nat")
        batch.rule(
            "in",
            *device(META_INPUT, ifindex),
            nft.payload(nft.NETWORK, 9, 1),
            nft.equal(bytes([socket.IPPROTO_TCP])),
            nft.payload(nft.TRANSPORT, 2, 2),
            nft.equal(PUBLIC.to_bytes(2, "big")),
            nft.load(1, socket.inet_aton(HOSTS["anna"])),
            nft.load(2, PRIVATE.to_bytes(2, "big")),
            nft.expression(
                "nat", nft.u32(1, 1), nft.u32(2, socket.AF_INET), nft.u32(3, 1), nft.u32(5, 2)
            ),
        )
        batch.commit()
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ENOENT, errno.EOPNOTSUPP):
            pytest.skip(f"this kernel has no NAT in nf_tables ({error})")
        raise


@dataclass
class World:
    network: Network
    west: Node
    east: Node
    anna: Node
    bert: Node
    carl: Node
    server: Node
    inside: Link
    """In the west."""
    outside: Link

    def flows(self, router: Node) -> int:
        return int(router.sysctl["net.netfilter.nf_conntrack_count"])

    def check_outside(self, found: list[Any]) -> None:
        """No packet has a private address or a wrong checksum: scapy computes them afresh."""
        from scapy.layers.inet import IP

        packets = [to_scapy(one.data) for one in found]
        packets = [packet[IP] for packet in packets if IP in packet]
        assert packets
        for packet in packets:
            assert {packet.src, packet.dst} <= {SERVER, *OUTSIDE.values()}
            fresh = packet.copy()
            del fresh.chksum, fresh.payload.chksum
            fresh = IP(bytes(fresh))
            assert packet.chksum == fresh.chksum
            # 0 and 0xffff are the same sum: the kernel, which adds the difference only, comes to
            # the one where scapy, which adds everything, comes to the other.
            assert packet.payload.chksum % 0xFFFF == fresh.payload.chksum % 0xFFFF


@pytest.fixture
def world(network: Network) -> World:
    nodes = {name: network.node(name) for name in ("west", "east", *HOSTS, "server")}
    outside = network.switch(name="outside", delay="1ms")
    outside.plug(nodes["server"], addresses=f"{SERVER}/24")
    homes = {"west": ("anna", "bert"), "east": ("carl",)}
    for home, members in homes.items():
        router = nodes[home]
        leaving = outside.plug(router, addresses=f"{OUTSIDE[home]}/24")
        inside = network.switch(name=home, delay="1ms")
        # Not by plug(): no two ports of a network may have the same address.
        inside.plug(router).netdev.add_address("192.168.1.1/24")
        for member in members:
            netdev = inside.plug(nodes[member]).netdev
            netdev.add_address(f"{HOSTS[member]}/24")
            netdev.add_route("default", via="192.168.1.1")
        router.sysctl["net.ipv4.ip_forward"] = 1
        translate(router, leaving.netdev.ifindex)
    west = next(link for link in network.links if link.name == "west")
    return World(network, inside=west, outside=outside, **nodes)


def ask(process: Process, name: str) -> bytes:
    """A question over UDP, and its answer."""
    with process.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", CLIENT))
        sock.connect((SERVER, SERVICE))
        sock.settimeout(1)
        sock.send(name.encode())
        return bytes(sock.recv(100))


def answer(process: Process, count: int) -> list[tuple[str, int]]:
    """Answers questions after all have come; who asked."""
    with process.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", SERVICE))
        questions = [sock.recvfrom(100) for _ in range(count)]
        for name, peer in questions:
            sock.sendto(b"for " + name, peer)
        return [peer for _, peer in questions]


def test_flows_that_look_alike(world: World) -> None:
    """Three hosts ask from the same port, two of them from the same address."""
    network = world.network
    server = network.start(answer, 3, on=world.server)
    asking = {}
    for delay, name in enumerate(HOSTS):
        at = network.seconds + delay / 100
        asking[name] = network.start(ask, name, on=name, at=at)
    with world.outside.capture() as found:
        network.run()
    assert {name: program.result for name, program in asking.items()} == {
        name: f"for {name}".encode() for name in HOSTS
    }
    anna, bert, carl = server.result
    assert anna == (OUTSIDE["west"], CLIENT) and carl == (OUTSIDE["east"], CLIENT)
    assert bert[0] == OUTSIDE["west"] and bert[1] != CLIENT, "that port is taken"
    world.check_outside(found)
    assert (world.flows(world.west), world.flows(world.east)) == (2, 1)
    network.run(FORGOTTEN)
    assert (world.flows(world.west), world.flows(world.east)) == (0, 0)


def test_a_stream_from_inside(world: World) -> None:
    """Bulk TCP: all arrives, every packet outside is right, and it is one flow."""
    with world.outside.capture() as found:
        bulk = world.network.bulk(world.bert, world.server, bytes=200_000, address=SERVER)
        world.network.run()
    assert (bulk.moved, bulk.retransmits) == (200_000, 0)
    world.check_outside(found)
    assert world.flows(world.west) == 1


def serve(process: Process) -> tuple[str, int]:
    """Greets one guest; whom it saw."""
    with process.socket() as listener:
        listener.bind(("", PRIVATE))
        listener.listen()
        sock, peer = listener.accept()
        with sock:
            sock.sendall(b"welcome")
        return tuple(peer)


def visit(process: Process, port: int) -> tuple[tuple[str, int], bytes]:
    with process.socket() as sock:
        sock.connect((OUTSIDE["west"], port))
        return sock.getsockname(), sock.recv(100)


@pytest.mark.parametrize("guest", ["server", "carl"])
def test_a_forwarded_port(world: World, guest: str) -> None:
    """anna, who has carl's own address, sees guests by their outside address."""
    serving = world.network.start(serve, on=world.anna)
    visiting = world.network.start(visit, PUBLIC, on=guest)
    with world.outside.capture() as found:
        world.network.run()
    (_, port), greeting = visiting.result
    assert greeting == b"welcome"
    assert serving.result == (SERVER if guest == "server" else OUTSIDE["east"], port)
    world.check_outside(found)


def test_other_ports_lead_nowhere(world: World) -> None:
    """The router itself refuses, and nothing is sent inside."""
    world.network.start(serve, on=world.anna, daemon=True)

    def knock(process: Process) -> None:
        with pytest.raises(ConnectionRefusedError):
            visit(process, PRIVATE)

    world.network.start(knock, on=world.server)
    with world.inside.capture() as found:
        world.network.run()
    assert [one for one in found if one.data[12:14] == b"\x08\x00"] == []


def test_errors_find_their_way(world: World) -> None:
    """Nobody listens at the server: its ICMP error quotes the translated packet, and is
    translated back for the socket that asked."""

    def refused(process: Process) -> None:
        with pytest.raises(ConnectionRefusedError):
            ask(process, "anybody?")

    for name in ("anna", "bert"):
        world.network.start(refused, on=name)
    with world.outside.capture() as found:
        world.network.run()
    world.check_outside(found)
