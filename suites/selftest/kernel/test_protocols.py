# SPDX-License-Identifier: GPL-2.0
"""Other families and protocols than TCP and UDP, and devices made by netlink."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import pytest

from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.kernel.peer import IPV4, Peer, checksum

SCTP, DCCP, MPTCP, UDPLITE = 132, 33, 262, 136


@pytest.fixture
def eth0(kernel: Kernel) -> Netdev:
    return kernel.add_netdev("eth0", addresses=["10.0.0.1/24", "fd00::1/64"])


@pytest.fixture
def peer(eth0: Netdev) -> Peer:
    return eth0.add_peer("10.0.0.2", "fd00::2")


def test_packet_socket(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    sock = kernel.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)  # ETH_P_ALL, network order
    sock.bind(("eth0", 3))
    name = sock.getsockname()
    assert name == ("eth0", 3, 0, 1, eth0.mac_bytes)
    frame = peer.echo_request("10.0.0.1")
    eth0.inject(frame)
    data, address = sock.recvfrom(2000)
    assert data == frame and address[0] == "eth0" and address[1] == IPV4
    assert address[4] == peer.mac_bytes
    reply, address = sock.recvfrom(2000)
    assert reply[:6] == peer.mac_bytes and address[2] == socket.PACKET_OUTGOING
    with eth0.capture() as capture:
        sock.send(frame)
        sock.sendto(frame, ("eth0", IPV4))
    assert capture.sent == [frame, frame]


def test_raw_socket(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    sock = kernel.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    request = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"raw"
    request = request[:2] + struct.pack("!H", checksum(request)) + request[4:]
    with eth0.capture() as capture:
        sock.sendto(request, ("10.0.0.2", 0))
    peer.serve(capture.sent)
    data, address = sock.recvfrom(2000)
    assert address == ("10.0.0.2", 0) and data[20] == 0 and data.endswith(b"raw")


def test_netlink_socket(kernel: Kernel) -> None:
    sock = kernel.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.bind((0, 1))  # RTMGRP_LINK
    assert sock.getsockname()[1] == 1
    kernel.add_netdev("eth7", up=False)
    message, address = sock.recvfrom(1 << 16)
    assert address == (0, 1) and b"eth7\0" in message
    assert struct.unpack_from("=H", message, 4) == (16,)  # RTM_NEWLINK


@pytest.mark.parametrize("protocol", [SCTP, MPTCP, socket.IPPROTO_TCP])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_streams(kernel: Kernel, family: int, protocol: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    server = kernel.socket(family, socket.SOCK_STREAM, protocol)
    server.bind((host, 0))
    server.listen()
    client = kernel.socket(family, socket.SOCK_STREAM, protocol)
    accepting = kernel.submit(server.accept)
    client.connect(server.getsockname()[:2])
    accepted, _ = accepting.result()
    data = os.urandom(100_000)
    sending = kernel.submit(client.sendall, data)
    got = b""
    while len(got) < len(data):
        got += accepted.recv(1 << 16)
    sending.result()
    assert got == data
    client.close()
    assert accepted.recv(1) == b""


def test_dccp(kernel: Kernel) -> None:
    if "CONFIG_IP_DCCP" not in kernel.config:
        pytest.skip("this kernel has no DCCP any more")
    kind, level, service = 6, 269, 2
    server = kernel.socket(socket.AF_INET, kind, DCCP)
    client = kernel.socket(socket.AF_INET, kind, DCCP)
    for sock in (server, client):
        sock.setsockopt(level, service, struct.pack("!I", 42))
    server.bind(("127.0.0.1", 0))
    server.listen()
    accepting = kernel.submit(server.accept)
    client.connect(server.getsockname())
    accepted, _ = accepting.result()
    client.send(b"datagram")
    assert accepted.recv(100) == b"datagram"


def test_udplite(kernel: Kernel) -> None:
    if "UDP-Lite" not in kernel.read_text("/proc/net/protocols"):
        pytest.skip("this kernel has no UDP-Lite")
    one = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM, UDPLITE)
    one.bind(("127.0.0.1", 0))
    one.sendto(b"lite", one.getsockname())
    assert one.recv(10) == b"lite"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_unix(kernel: Kernel, kind: int) -> None:
    one, two = kernel.socketpair(socket.AF_UNIX, kind)
    one.send(b"a")
    one.send(b"b")
    assert two.recv(10) == (b"ab" if kind == socket.SOCK_STREAM else b"a")


def test_a_tcp_session_over_the_wire(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    """Handshake, data and reset with hand-made segments."""
    server = kernel.socket()
    server.bind(("10.0.0.1", 80))
    server.listen()

    def segment(flags: int, seq: int, ack: int, data: bytes = b"") -> bytes:
        raw = struct.pack("!HHIIBBHHH", 5555, 80, seq, ack, 0x50, flags, 65535, 0, 0) + data
        source, target = socket.inet_aton("10.0.0.2"), socket.inet_aton("10.0.0.1")
        value = checksum(source + target + struct.pack("!HH", 6, len(raw)) + raw)
        return peer.ip("10.0.0.1", 6, raw[:16] + struct.pack("!H", value) + raw[18:])

    (answer,) = eth0.exchange(segment(0x02, 1000, 0))
    theirs, ours = struct.unpack_from("!II", answer, 38)
    assert answer[47] == 0x12 and ours == 1001
    assert eth0.exchange(segment(0x10, 1001, theirs + 1)) == []
    accepted, address = server.accept()
    assert address == ("10.0.0.2", 5555)
    (answer,) = eth0.exchange(segment(0x18, 1001, theirs + 1, b"GET /")) or [b""]
    assert accepted.recv(100) == b"GET /"
    with eth0.capture() as capture:
        accepted.send(b"200")
    assert capture.sent[-1].endswith(b"200")
    eth0.inject(segment(0x04, 1006, theirs + 4))
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)


# Devices made by netlink


def test_bridge(kernel: Kernel) -> None:
    ports = [kernel.add_netdev(f"port{i}") for i in range(3)]
    ip: Any = kernel.iproute
    ip.link("add", ifname="br0", kind="bridge")
    (br0,) = ip.link_lookup(ifname="br0")
    for port in ports:
        ip.link("set", index=port.ifindex, master=br0)
    ip.link("set", index=br0, state="up")
    kernel.clock.advance(60)
    captures = [port.capture() for port in ports]
    frame = b"\xff" * 6 + b"\2\0\0\0\0\x77" + b"\x88\xb5" + bytes(50)
    ports[0].inject(frame)
    assert [frame in capture.sent for capture in captures] == [False, True, True]


def test_vlan(kernel: Kernel, eth0: Netdev) -> None:
    ip: Any = kernel.iproute
    ip.link("add", ifname="eth0.5", kind="vlan", link=eth0.ifindex, vlan_id=5)
    (index,) = ip.link_lookup(ifname="eth0.5")
    ip.addr("add", index=index, address="10.5.0.1", prefixlen=24)
    ip.link("set", index=index, state="up")
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with eth0.capture() as capture:
        sock.connect(("10.5.0.2", 9))
        sock.send(b"x")
    assert capture.sent[-1][12:16] == bytes.fromhex("81000005")
    assert kernel.sysctl["net/ipv4/conf/eth0.5/forwarding"] == "0"
    assert "net.ipv4.conf.eth0/5.forwarding" in kernel.sysctl


def test_veth_between_namespaces(kernel: Kernel) -> None:
    ip: Any = kernel.iproute
    with kernel.fork() as other:
        other.os.unshare(0x40000000)
        ip.link("add", ifname="v0", kind="veth", peer={"ifname": "v1"})
        (v0,), (v1,) = ip.link_lookup(ifname="v0"), ip.link_lookup(ifname="v1")
        ip.link("set", index=v1, net_ns_pid=other.os.getpid())
        ip.addr("add", index=v0, address="10.9.0.1", prefixlen=24)
        ip.link("set", index=v0, state="up")
        from anykernel.kernel.netlink import open_netlink

        theirs = open_netlink(other)
        (v1,) = theirs.link_lookup(ifname="v1")
        theirs.addr("add", index=v1, address="10.9.0.2", prefixlen=24)
        theirs.link("set", index=v1, state="up")
        server = other.socket()
        server.bind(("10.9.0.2", 80))
        server.listen()
        client = kernel.socket()
        client.connect(("10.9.0.2", 80))
        accepted, address = server.accept()
        assert address[0] == "10.9.0.1"
        accepted.send(b"across")
        assert client.recv(10) == b"across"


def test_netem_delays_in_virtual_time(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    kernel.iproute.tc("add", "netem", eth0.ifindex, "1:", delay=100_000)
    assert peer.ping("10.0.0.1") is None, "not yet"
    with eth0.capture() as capture:
        kernel.clock.advance(0.09)
        assert not any(frame.endswith(b"anykernel") for frame in capture.sent)
        kernel.clock.advance(0.02)
        assert any(frame.endswith(b"anykernel") for frame in capture.sent)


def test_an_ipv6_address_is_announced(kernel: Kernel) -> None:
    dev = kernel.add_netdev("eth0", up=False)
    with dev.capture() as capture:
        dev.up()
        dev.add_address("fd00::5/64", dad=True)
        kernel.clock.advance(5)
    solicitations = [f for f in capture.sent if f[12:14] == b"\x86\xdd" and f[54:55] == b"\x87"]
    assert {frame[62:78] for frame in solicitations} == {
        socket.inet_pton(socket.AF_INET6, "fd00::5"),
        socket.inet_pton(socket.AF_INET6, "fe80::ff:fe00:1"),
    }


def test_a_forwarded_packet(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    kernel.sysctl["net.ipv4.ip_forward"] = 1
    eth1 = kernel.add_netdev("eth1", addresses=["10.1.0.1/24"])
    other = eth1.add_peer("10.1.0.2", mac="02:00:00:00:ff:02")
    with eth1.capture() as capture:
        eth0.inject(peer.echo_request("10.1.0.2", b"through"))
    (frame,) = capture.sent
    assert frame[:6] == other.mac_bytes and frame[22] == 63 and frame.endswith(b"through")
    answer = other.answer(frame)
    assert answer is not None
    with eth0.capture() as back:
        eth1.inject(answer)
    assert back.sent[0][:6] == peer.mac_bytes and back.sent[0].endswith(b"through")
