# SPDX-License-Identifier: GPL-2.0
"""Devices over other devices, and those of other kinds of links."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.net import Network

from . import wire

PEER = "02:00:00:00:00:99"
CLONE_NEWNET = 0x40000000
CAN_FRAME = struct.Struct("=IB3x8s")
HSR_TAG = 0x892F


@pytest.fixture
def eth(kernel: Kernel) -> Netdev:
    return kernel.add_netdev("eth0", ipv6_chatter=False)


def echo(eth: Netdev, mac: str, dst: str) -> list[Ether]:
    frame = Ether(dst=mac, src=PEER) / IP(src="10.0.0.2", dst=dst) / ICMP(id=7)
    return [one for one in eth.exchange(frame) if ICMP in one]


@pytest.mark.needs("IPVLAN")
def test_ipvlans_share_an_address_of_ethernet(kernel: Kernel, eth: Netdev) -> None:
    """By the address of IP it is decided whose a packet is."""
    with kernel.fork() as first, kernel.fork() as second:
        for number, process in enumerate((first, second), 5):
            process.os.unshare(CLONE_NEWNET)
            name = f"ipvl{number}"
            wire.link_add(kernel, "ipvlan", name, wire.u16(1, 0), over="eth0")
            kernel.link_set(name, net_ns_pid=process.pid)
            process.link_set(name, state="up")
            process.address_add(name, f"10.0.0.{number}/24")
            process.neighbour_add(name, "10.0.0.2", PEER)
        for address in ("10.0.0.5", "10.0.0.6"):
            (answer,) = echo(eth, eth.mac, address)
            assert (answer[IP].src, answer.src, answer[ICMP].type) == (address, eth.mac, 0)
        assert not echo(eth, eth.mac, "10.0.0.7")


@pytest.mark.needs("MACVTAP")
def test_a_macvtap_is_a_file(kernel: Kernel, eth: Netdev) -> None:
    index = wire.link_add(kernel, "macvtap", "tap0", wire.u32(1, 4), over="eth0")
    mac = kernel.read_text("/sys/class/net/tap0/address").strip()
    with kernel.open(f"/dev/tap{index}", "r+b", buffering=0) as file:
        # TUNSETIFF: a tap without a header (IFF_TAP | IFF_NO_PI)
        kernel.syscall(
            "ioctl", file.fileno(), 0x400454CA, bytearray(struct.pack("=16sH22x", b"", 0x1002))
        )
        frame = Ether(dst=mac, src=PEER, type=0x1234) / bytes(range(60))
        eth.inject(frame)
        assert file.read(2000) == bytes(frame)
        back = Ether(dst=PEER, src=mac, type=0x1234) / bytes(50)
        with eth.capture() as frames:
            file.write(bytes(back))
        assert frames.sent == [bytes(back)]


@pytest.mark.needs("MACSEC")
def test_macsec_between_two_kernels(network: Network) -> None:
    nodes = network.chain(2, delay="1ms")
    network.address()
    key = bytes(range(16))
    devices = [next(iter(node.netdevs)) for node in nodes]
    macs = [
        bytes.fromhex(node.netdevs[name].mac.replace(":", ""))
        for node, name in zip(nodes, devices, strict=True)
    ]
    for number, (node, device) in enumerate(zip(nodes, devices, strict=True)):
        index = wire.link_add(
            node, "macsec", "sec0", wire.u16(2, socket.htons(1)), wire.u8(7, 1), over=device
        )
        sci = int.from_bytes(macs[1 - number] + struct.pack("!H", 1), "little")
        sa = [
            wire.u8(1, 0),
            wire.u8(2, 1),
            wire.u32(3, 1),
            wire.attribute(5, bytes(16)),
            wire.attribute(4, key),
        ]
        with wire.Genl(node, "macsec") as macsec:
            macsec.ask(4, wire.u32(1, index), wire.nest(3, *sa))
            macsec.ask(1, wire.u32(1, index), wire.nest(2, wire.u64(1, sci), wire.u8(2, 1)))
            macsec.ask(7, wire.u32(1, index), wire.nest(2, wire.u64(1, sci)), wire.nest(3, *sa))
        node.address_add("sec0", f"192.168.9.{1 + number}/24")
    with (
        network.links[0].capture() as passed,
        nodes[0].socket(type=socket.SOCK_DGRAM) as ours,
        nodes[1].socket(type=socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("192.168.9.1", 7))
        ours.settimeout(10)
        theirs.sendto(b"What is told in confidence", ("192.168.9.1", 7))
        assert ours.recv(100) == b"What is told in confidence"
    assert {one.data[12:14].hex() for one in passed} == {"88e5"}
    assert not any(b"in confidence" in one.data for one in passed)


@pytest.mark.needs("NET_TEAM", "NET_TEAM_MODE_ACTIVEBACKUP", "NET_TEAM_MODE_BROADCAST")
@pytest.mark.parametrize("mode", ["activebackup", "broadcast"])
def test_a_team(kernel: Kernel, mode: str) -> None:
    ports = [kernel.add_netdev(f"eth{n}", up=False, ipv6_chatter=False) for n in range(2)]
    index = wire.link_add(kernel, "team", "team0")

    def option(name: str, kind: int, data: bytes) -> None:
        one = wire.text(1, name) + wire.u8(3, kind) + wire.attribute(4, data)
        with suppress(ProcessLookupError):  # nobody listens for the event of the change
            team.ask(1, wire.u32(1, index), wire.nest(2, wire.nest(1, one)))

    with wire.Genl(kernel, "team") as team:
        option("mode", 5, mode.encode() + b"\0")
        for port in ports:
            kernel.link_set(port, master="team0")
            kernel.link_set(port, state="up")
        if mode == "activebackup":
            option("activeport", 3, struct.pack("=I", ports[1].ifindex))
    kernel.address_add("team0", "10.0.0.1/24")
    kernel.neighbour_add("team0", "10.0.0.2", PEER)
    with (
        ports[0].capture() as first,
        ports[1].capture() as second,
        kernel.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.sendto(b"x", ("10.0.0.2", 9))
    udp = [sum(IP in Ether(one) for one in frames.sent) for frames in (first, second)]
    assert udp == ([0, 1] if mode == "activebackup" else [1, 1])


@pytest.mark.needs("HSR")
def test_hsr_sends_both_ways_and_hears_once(kernel: Kernel) -> None:
    ports = [kernel.add_netdev(f"eth{n}", ipv6_chatter=False) for n in range(2)]
    slaves = [wire.u32(1 + number, port.ifindex) for number, port in enumerate(ports)]
    wire.link_add(kernel, "hsr", "hsr0", *slaves, wire.u8(6, 1))  # version 1, IEC 62439-3:2012
    kernel.address_add("hsr0", "10.0.0.1/24")
    kernel.neighbour_add("hsr0", "10.0.0.2", PEER)
    kernel.clock.advance(1)  # it has a carrier
    with (
        ports[0].capture() as first,
        ports[1].capture() as second,
        kernel.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.bind(("10.0.0.1", 9))
        sock.sendto(b"ring", ("10.0.0.2", 9))
        sent = [[one for one in frames.sent if b"ring" in one] for frames in (first, second)]
        assert [len(one) for one in sent] == [1, 1]
        left, right = sent[0][0], sent[1][0]
        assert int.from_bytes(left[12:14], "big") == HSR_TAG
        # The same sequence number on both ways; the path's number (LanId) tells them apart.
        assert left[16:] == right[16:] and left[14:16] != right[14:16]
        # The same frame from the other node, on both ways.
        mac = bytes.fromhex(ports[0].mac.replace(":", ""))
        peer = bytes.fromhex(PEER.replace(":", ""))
        datagram = bytes(IP(src="10.0.0.2", dst="10.0.0.1", proto=17) / udp(b"back"))
        for port, lan in zip(ports, (0, 1), strict=True):
            size = len(datagram) + 6
            tag = struct.pack("!HHHH", HSR_TAG, lan << 12 | size, 77, 0x0800)
            port.inject(mac + peer + tag + datagram)
        sock.settimeout(1)
        assert sock.recv(100) == b"back"
        with pytest.raises(TimeoutError):
            sock.recv(100)


def udp(data: bytes) -> bytes:
    """A UDP datagram from port 9 to port 9, without a checksum."""
    return struct.pack("!HHHH", 9, 9, 8 + len(data), 0) + data


@pytest.mark.needs("CAN", "CAN_RAW", "CAN_VCAN")
def test_can_frames(kernel: Kernel) -> None:
    wire.link_add(kernel, "vcan", "vcan0")
    with (
        kernel.socket(socket.AF_CAN, socket.SOCK_RAW, 1) as ours,
        kernel.socket(socket.AF_CAN, socket.SOCK_RAW, 1) as theirs,
    ):
        # Of identifiers only 0x100 to 0x1ff (CAN_RAW_FILTER).
        ours.setsockopt(101, 1, struct.pack("=II", 0x100, 0x700))
        for sock in (ours, theirs):
            sock.bind(("vcan0",))
        for number, data in ((0x222, b"no"), (0x123, b"\x11\x22\x33")):
            theirs.send(CAN_FRAME.pack(number, len(data), data))
        raw, address = ours.recvfrom(16)
        number, size, data = CAN_FRAME.unpack(raw)
        assert (number, data[:size], address) == (0x123, b"\x11\x22\x33", ("vcan0",))
        ours.settimeout(1)
        with pytest.raises(TimeoutError):
            ours.recv(16)


@pytest.mark.needs("CAN_ISOTP", "CAN_VCAN")
def test_iso_tp_segments_a_message(kernel: Kernel) -> None:
    wire.link_add(kernel, "vcan", "vcan0")
    message = bytes(range(100))
    with (
        kernel.socket(socket.AF_CAN, socket.SOCK_DGRAM, 6) as ours,
        kernel.socket(socket.AF_CAN, socket.SOCK_DGRAM, 6) as theirs,
        kernel.socket(socket.AF_CAN, socket.SOCK_RAW, 1) as seen,
    ):
        seen.bind(("vcan0",))
        ours.bind(("vcan0", 0x123, 0x321))
        theirs.bind(("vcan0", 0x321, 0x123))
        theirs.send(message)
        assert ours.recv(200) == message
        kinds = [CAN_FRAME.unpack(seen.recv(16))[2][0] >> 4 for _ in range(16)]
    # ISO 15765-2: a first frame with 6 bytes, flow control, consecutive frames with 7 each.
    assert kinds == [1, 3] + [2] * 14


@pytest.mark.needs("NETDEVSIM")
def test_netdevsim(kernel: Kernel) -> None:
    kernel.write_text("/sys/bus/netdevsim/new_device", "1 2")
    folder = "/sys/bus/netdevsim/devices/netdevsim1/net"
    assert len(kernel.os.listdir(folder)) == 2
    kernel.write_text("/sys/bus/netdevsim/del_device", "1")
    assert not kernel.os.exists(folder)


@pytest.mark.needs("IEEE802154_FAKELB", "IEEE802154_6LOWPAN", "MAC802154")
@pytest.mark.kernel(cmdline="fakelb.numlbs=2")
def test_6lowpan_compresses_ipv6(kernel: Kernel) -> None:
    """Two radios of one kernel hear each other."""
    with wire.Genl(kernel, "nl802154") as radio:
        for number in range(2):
            index = kernel.ifindex(f"wpan{number}")
            radio.ask(10, wire.u32(3, index), wire.u16(9, 0xABCD))  # SET_PAN_ID
    for number in range(2):
        kernel.link_set(f"wpan{number}", state="up")
        wire.link_add(kernel, "lowpan", f"lowpan{number}", over=f"wpan{number}")
    line = next(
        one
        for one in kernel.read_text("/proc/net/if_inet6").splitlines()
        if one.endswith("lowpan1")
    )
    address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
    kernel.clock.advance(3)  # its address is looked for
    with (
        kernel.capture("wpan1") as frames,
        kernel.socket(socket.AF_INET6, socket.SOCK_DGRAM) as ours,
        kernel.socket(socket.AF_INET6, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind((address, 7, 0, kernel.ifindex("lowpan1")))
        theirs.sendto(b"over the air", (address, 7, 0, kernel.ifindex("lowpan0")))
        ours.settimeout(5)
        assert ours.recv(100) == b"over the air"
        (data,) = {one.data for one in frames if b"over the air" in one.data}
    # IPv6's and UDP's headers have 48 bytes, the radio's 21 and 2; LOWPAN_IPHC is 0b011.
    assert len(data) < 21 + 2 + 12 + 20
