# SPDX-License-Identifier: GPL-2.0
"""Tunnels between two kernels, and what they make of a packet on the wire."""

from __future__ import annotations

import base64
import socket
import struct

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.ppp import PPP, PPPoE

from anykernel.kernel import Kernel, Process
from anykernel.kernel.netdev import Netdev
from anykernel.net import Network, Node

from . import wire

PEER = "02:00:00:00:00:99"
KEYS = [
    (
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f",
    ),
    (
        "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
        "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254",
    ),
]
"""Private and public keys of X25519; the second pair is that of tls13.xargs.org."""
AF_PPPOX = 24
PPPIOCGCHAN, PPPIOCATTCHAN, PPPIOCCONNECT = 0x80047437, 0x40047438, 0x4004743A
PPPIOCNEWUNIT = 0xC004743E


@pytest.fixture
def eth(kernel: Kernel) -> Netdev:
    made = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"], ipv6_chatter=False)
    made.add_neighbour("10.0.0.2", PEER)
    return made


def carries(network: Network, ends: tuple[Process, Process], addresses: list[str]) -> list[bytes]:
    """Sends a datagram from the first end to the second, which has addresses[1]; what passed the
    link between their nodes meanwhile."""
    with (
        network.links[0].capture() as passed,
        ends[1].socket(type=socket.SOCK_DGRAM) as ours,
        ends[0].socket(type=socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind((addresses[1], 7))
        ours.settimeout(10)
        theirs.bind((addresses[0], 8))
        theirs.sendto(b"What is told in confidence", (addresses[1], 7))
        assert ours.recvfrom(100) == (b"What is told in confidence", (addresses[0], 8))
    return [bytes(one.data) for one in passed]


@pytest.mark.needs("WIREGUARD")
def test_wireguard_between_two_kernels(network: Network) -> None:
    from pyroute2 import WireGuard

    nodes = network.chain(2, delay="1ms")
    network.address()
    inner = ["192.168.9.1", "192.168.9.2"]
    keys = [[base64.b64encode(bytes.fromhex(one)).decode() for one in pair] for pair in KEYS]
    for number, node in enumerate(nodes):
        wire.link_add(node, "wireguard", "wg0")
        node.address_add("wg0", f"{inner[number]}/24")
        peer = {
            "public_key": keys[1 - number][1],
            "endpoint_addr": f"10.0.0.{2 - number}",
            "endpoint_port": 51820,
            "allowed_ips": [f"{inner[1 - number]}/32"],
        }
        with node.netlink(WireGuard) as wg:
            wg.set("wg0", private_key=keys[number][0], listen_port=51820, peer=peer)
            (info,) = wg.info("wg0")
            assert info.get_attr("WGDEVICE_A_PUBLIC_KEY") == keys[number][1].encode()
    passed = [Ether(one) for one in carries(network, (nodes[0], nodes[1]), inner)]
    assert all(b"in confidence" not in bytes(one) for one in passed)
    # Handshake initiation, its response, data (the protocol's 1, 2 and 4), each with its size.
    messages = [bytes(one[UDP].payload) for one in passed if UDP in one]
    assert [one[0] for one in messages[:3]] == [1, 2, 4]
    assert [len(one) for one in messages[:2]] == [148, 92]


@pytest.mark.needs("GENEVE")
def test_geneve(kernel: Kernel, eth: Netdev) -> None:
    wire.link_add(
        kernel, "geneve", "gnv0", wire.u32(1, 0x123456), wire.attribute(2, bytes([10, 0, 0, 2]))
    )
    kernel.address_add("gnv0", "192.168.9.1/24")
    kernel.neighbour_add("gnv0", "192.168.9.2", PEER)
    mac = kernel.read_text("/sys/class/net/gnv0/address").strip()
    inner = Ether(dst=mac, src=PEER) / IP(src="192.168.9.2", dst="192.168.9.1") / ICMP(id=5)
    outer = IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=9999, dport=6081, chksum=0)
    frame = Ether(dst=eth.mac, src=PEER) / outer / GENEVE(vni=0x123456, proto=0x6558) / inner
    (answer,) = eth.exchange(frame)
    assert (answer[IP].dst, answer[UDP].dport) == ("10.0.0.2", 6081)
    assert answer[GENEVE].vni == 0x123456
    assert (answer[GENEVE][IP].dst, answer[ICMP].type, answer[ICMP].id) == ("192.168.9.2", 0, 5)


def l2tp(node: Node, number: int, udp: bool) -> None:
    """One end of an L2TPv3 Ethernet tunnel, `number` 0 or 1."""
    ours, theirs = (bytes([10, 0, 0, 1 + one]) for one in (number, 1 - number))
    with wire.Genl(node, "l2tp") as l2tp:
        tunnel = [
            wire.u16(2, 0 if udp else 1), wire.u8(7, 3), wire.u32(9, 1 + number),
            wire.u32(10, 2 - number), wire.attribute(24, ours), wire.attribute(25, theirs),
        ]  # fmt: skip
        if udp:
            tunnel += [wire.u16(26, 1701), wire.u16(27, 1701)]
        l2tp.ask(1, *tunnel)
        l2tp.ask(
            5, wire.u32(9, 1 + number), wire.u32(10, 2 - number), wire.u32(11, 10 + number),
            wire.u32(12, 11 - number), wire.u16(1, 5), wire.text(8, "l2tpeth0"),
        )  # fmt: skip
    node.link_set("l2tpeth0", state="up")
    node.address_add("l2tpeth0", f"192.168.9.{1 + number}/24")


@pytest.mark.needs("L2TP", "L2TP_V3", "L2TP_IP", "L2TP_ETH")
@pytest.mark.parametrize("udp", [True, False])
def test_l2tp_version_3(network: Network, udp: bool) -> None:
    nodes = network.chain(2, delay="1ms")
    network.address()
    for number, node in enumerate(nodes):
        l2tp(node, number, udp)
    passed = carries(network, (nodes[0], nodes[1]), ["192.168.9.1", "192.168.9.2"])
    (frame,) = (Ether(one) for one in passed if b"in confidence" in one)
    assert frame[IP].proto == (17 if udp else 115)
    body = bytes(frame[UDP].payload) if udp else bytes(frame[IP].payload)
    session = struct.unpack_from("!I", body, 4 if udp else 0)[0]
    assert session == 11, "that of the receiver"


def ioctl(kernel: Kernel, fd: int, request: int, value: int = 0) -> int:
    data = bytearray(struct.pack("=i", value))
    kernel.syscall("ioctl", fd, request, data)
    return int(struct.unpack("=i", data)[0])


@pytest.mark.needs("PPP", "PPPOE")
def test_a_pppoe_session(kernel: Kernel, eth: Netdev) -> None:
    """What pppd does when PADS has come: PPP's frames of the device are those of the session."""
    with kernel.socket(AF_PPPOX, socket.SOCK_STREAM, 0) as sock:
        sock.connect((0x1234, PEER, "eth0"))
        channel = ioctl(kernel, sock.fileno(), PPPIOCGCHAN)
        with kernel.open("/dev/ppp", "r+b", buffering=0) as unit:
            number = ioctl(kernel, unit.fileno(), PPPIOCNEWUNIT, -1)
            with kernel.open("/dev/ppp", "r+b", buffering=0) as link:
                ioctl(kernel, link.fileno(), PPPIOCATTCHAN, channel)
                ioctl(kernel, link.fileno(), PPPIOCCONNECT, number)
                kernel.link_set(f"ppp{number}", state="up")
                kernel.iproute.addr(
                    "add", index=kernel.ifindex("ppp0"), local="192.168.9.1",
                    address="192.168.9.2", prefixlen=32,
                )  # fmt: skip
                session = Ether(dst=eth.mac, src=PEER, type=0x8864) / PPPoE(sessionid=0x1234)
                echo = IP(src="192.168.9.2", dst="192.168.9.1") / ICMP(id=9)
                (answer,) = eth.exchange(session / PPP(proto=0x21) / echo)
                assert (answer.type, answer.dst) == (0x8864, PEER)
                assert (answer[PPPoE].sessionid, answer[PPP].proto) == (0x1234, 0x21)
                assert (answer[ICMP].type, answer[ICMP].id) == (0, 9)
                other = Ether(dst=eth.mac, src=PEER, type=0x8864) / PPPoE(sessionid=0x1235)
                assert not eth.exchange(other / PPP(proto=0x21) / echo)


@pytest.mark.needs("NET_FOU", "NET_FOU_IP_TUNNELS")
def test_foo_over_udp(kernel: Kernel, eth: Netdev) -> None:
    """IPIP in UDP: port 5555 is IP's protocol 4."""
    with wire.Genl(kernel, "fou") as fou:
        fou.ask(1, wire.attribute(1, struct.pack("!H", 5555)), wire.u8(3, 4), wire.u8(4, 1))
    kernel.link_add(
        "ipip", "t0", ipip_local="10.0.0.1", ipip_remote="10.0.0.2", addresses="192.168.9.1/24"
    )
    inner = IP(src="192.168.9.2", dst="192.168.9.1") / ICMP(id=3)
    outer = IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=5555, dport=5555)
    (answer,) = eth.exchange(Ether(dst=eth.mac, src=PEER) / outer / inner)
    assert (answer[IP].proto, answer[ICMP].type, answer[ICMP].id) == (4, 0, 3)
