# SPDX-License-Identifier: GPL-2.0
"""What the netdevs' driver can: a new MAC while up, checksums, the largest frames."""

from __future__ import annotations

import socket
import struct

import pytest

from anykernel.kernel import Kernel


def test_a_new_mac_of_a_device_that_is_up(kernel: Kernel) -> None:
    eth0 = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])
    peer = eth0.add_peer("192.0.2.2")
    kernel.iproute.link("set", index=eth0.ifindex, address="02:00:00:aa:bb:cc")
    assert eth0.mac == "02:00:00:aa:bb:cc"
    eth0.add_neighbour("192.0.2.2", peer.mac)  # those of before are flushed
    assert peer.ping("192.0.2.1") == b"anykernel"


def test_the_largest_frames_come_back(kernel: Kernel) -> None:
    big = kernel.add_netdev("big", addresses=["10.0.0.1/24"], mtu=65535)
    big.add_neighbour("10.0.0.2", "02:00:00:00:00:99")
    with big.capture() as capture, kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(bytes(65507), ("10.0.0.2", 9))
    assert [len(frame) for frame in capture.sent] == [65549]
    before = big.statistics
    big.inject(*capture.sent)
    after = big.statistics
    assert after["rx_packets"] == before["rx_packets"] + 1
    assert after["rx_errors"] == before["rx_errors"]


def offload(kernel: Kernel, on: bool) -> None:
    """ethtool -K eth0 tx on|off, as ethtool does it: ETHTOOL_STXCSUM by SIOCETHTOOL."""
    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, kernel.memory() as memory:
        value = memory.put(struct.pack("=II", 0x17, on))
        request = struct.pack("=16sQ16x", b"eth0", value)
        kernel.syscall("ioctl", sock.fileno(), 0x8946, request)


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_checksums_are_whole_on_the_wire(kernel: Kernel, on: bool, version: int) -> None:
    """Whoever computes them: TCP and UDP, IPv4 and IPv6, also of a datagram that is cut up."""
    from scapy.layers.l2 import Ether

    own, peer = ("10.0.0.1/24", "10.0.0.2") if version == 4 else ("fd00::1/64", "fd00::2")
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    eth0 = kernel.add_netdev("eth0", addresses=[own])
    eth0.add_neighbour(peer, "02:00:00:00:00:99")
    offload(kernel, on)
    udp = kernel.socket(family, socket.SOCK_DGRAM)
    tcp = kernel.socket(family, socket.SOCK_STREAM)
    tcp.setblocking(False)
    with eth0.capture() as capture:
        for size in (0, 1, 2, 999, 1400, 4000):
            udp.sendto(bytes(range(256)) * 16 if size == 4000 else bytes(size), (peer, 7))
        with pytest.raises(BlockingIOError):
            tcp.connect((peer, 7))
    assert len(capture.sent) >= 8
    for frame in capture.sent:
        packet = Ether(frame)
        again = packet.copy()
        for layer in ("IP", "TCP", "UDP", "ICMPv6ND_RS", "ICMPv6MLReport2"):
            if layer in again:
                again[layer].fields.pop("chksum", None)
                again[layer].fields.pop("cksum", None)
        assert bytes(Ether(bytes(again))) == frame


@pytest.mark.parametrize("size", [900, 1000, 4500])
def test_udp_segmentation(kernel: Kernel, size: int) -> None:
    """UDP_SEGMENT needs a device that computes checksums."""
    eth0 = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"])
    eth0.add_neighbour("10.0.0.2", "02:00:00:00:00:99")
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_UDP, 103, 1000)
    data = bytes(i % 251 for i in range(size))
    with eth0.capture() as capture:
        sock.sendto(data, ("10.0.0.2", 7))
    parts = [frame[42:] for frame in capture.sent]
    assert b"".join(parts) == data
    assert all(len(part) == 1000 for part in parts[:-1])
    offload(kernel, False)
    if size > 1000:
        with pytest.raises(OSError, match="Input/output error"):
            sock.sendto(data, ("10.0.0.2", 7))
