# SPDX-License-Identifier: GPL-2.0
"""What a netdev's hardware does for the stack: what is on the wire is judged by scapy."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from anykernel.errors import UsageError
from anykernel.kernel.features import FEATURES
from suites.selftest.kernel.offload import PEER, features, right, switch

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.netdev import Netdev

ENDS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
UDP_SEGMENT, UDP_GRO = 103, 104
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_CSUM_VALID = 263, 8, 1 << 7
DATA = bytes(i % 251 for i in range(60_000))


def device(kernel: Kernel, **options: Any) -> Netdev:
    made = kernel.add_netdev(
        "eth0", addresses=["10.0.0.1/24", "fd00::1/64"], ipv6_chatter=False, **options
    )
    for version in ENDS:
        made.add_neighbour(ENDS[version][1], PEER)
    return made


def ip(eth0: Netdev, version: int, inner: Any) -> Any:
    own, peer = ENDS[version]
    return Ether(src=PEER, dst=eth0.mac) / (IP if version == 4 else IPv6)(src=peer, dst=own) / inner


def test_all_features_of_the_hardware_are_on_and_can_be_switched(kernel: Kernel) -> None:
    device(kernel)
    found = features(kernel, "eth0")
    assert {found[name] for name in FEATURES} == {(True, True)}
    assert found["tx-tcp-mangleid-segmentation"] == (True, False)
    switch(kernel, "eth0", tx_tcp_segmentation=False, rx_checksum=False)
    found = features(kernel, "eth0")
    off = {name for name in FEATURES if not found[name][1]}
    assert off == {"tx-tcp-segmentation", "rx-checksum", "rx-gro-hw"}  # which needs rx-checksum


def test_hardware_without_features(kernel: Kernel) -> None:
    device(kernel, features=["tx-checksum-ip-generic", "tx-scatter-gather"])
    found = features(kernel, "eth0")
    on = {name for name in FEATURES if found[name][0]}
    assert on == {"tx-checksum-ip-generic", "tx-scatter-gather"}
    kernel.add_netdev("eth1", features=())
    found = features(kernel, "eth1")
    assert not any(found[name][1] for name in FEATURES)
    with pytest.raises(UsageError, match="no feature 'tso'"):
        kernel.add_netdev("eth2", features=["tso"])


def connected(kernel: Kernel, eth0: Netdev, version: int, mss: int = 1000) -> Any:
    """A TCP socket that is connected to port 7 of the peer, and what that acknowledges."""
    sock = kernel.socket(FAMILIES[version], socket.SOCK_STREAM)
    sock.setblocking(False)
    with eth0.capture() as capture, pytest.raises(BlockingIOError):
        sock.connect((ENDS[version][1], 7))
    syn = Ether(capture.sent[-1])[TCP]
    eth0.inject(
        ip(
            eth0,
            version,
            TCP(
                sport=7, dport=syn.sport, seq=1000, ack=syn.seq + 1, flags="SA", window=65535,
                options=[("MSS", mss), ("WScale", 7)],
            ),
        )
    )  # fmt: skip
    sock.setblocking(True)
    return sock, syn.seq + 1


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("names", [None, (), ("tx-scatter-gather", "tx-checksum-ip-generic")])
def test_tcp_is_segmented_on_the_wire(kernel: Kernel, version: int, names: Any) -> None:
    """Whoever does it: the device, the stack just before it, or TCP."""
    eth0 = device(kernel, features=names)
    sock, seq = connected(kernel, eth0, version)
    before = eth0.statistics
    with eth0.capture() as capture:
        sock.send(DATA[:10_000])
    assert all(right(frame) for frame in capture.sent)
    segments = [Ether(frame)[TCP] for frame in capture.sent]
    assert [(one.seq - seq, bytes(one.payload)) for one in segments] == [
        (at, DATA[at : at + 1000]) for at in range(0, 10_000, 1000)
    ]
    after = eth0.statistics
    assert after["tx_packets"] - before["tx_packets"] == 10
    assert after["tx_bytes"] - before["tx_bytes"] == sum(map(len, capture.sent))
    assert after["tx_dropped"] == before["tx_dropped"]


@pytest.mark.parametrize("version", [4, 6])
def test_super_frames_of_tcp(kernel: Kernel, version: int) -> None:
    """What the driver gets is what a test gets that asks for it: so TSO is at work."""
    eth0 = device(kernel, super_frames=True)
    sock, _ = connected(kernel, eth0, version)
    with eth0.capture() as capture:
        sock.send(DATA[:10_000])
    # TCP gives half of its congestion window, which is 10 segments, in one.
    found = [bytes(Ether(frame)[TCP].payload) for frame in capture.sent]
    assert found == [DATA[:5000], DATA[5000:10_000]]
    assert all(right(frame) for frame in capture.sent)
    switch(kernel, "eth0", tx_tcp_segmentation=False, tx_tcp6_segmentation=False)
    switch(kernel, "eth0", tx_generic_segmentation=False)
    another, _ = connected(kernel, eth0, version)
    with eth0.capture() as capture:
        another.send(DATA[:10_000])
    assert [len(Ether(frame)[TCP].payload) for frame in capture.sent] == [1000] * 10


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("super_frames", [False, True])
def test_udp_is_segmented_on_the_wire(kernel: Kernel, version: int, super_frames: bool) -> None:
    eth0 = device(kernel, super_frames=super_frames)
    sock = kernel.socket(FAMILIES[version], socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    with eth0.capture() as capture:
        sock.sendto(DATA[:4500], (ENDS[version][1], 7))
    sizes = [4500] if super_frames else [1000] * 4 + [500]
    found = [bytes(Ether(frame)[UDP].payload) for frame in capture.sent]
    assert [len(one) for one in found] == sizes and b"".join(found) == DATA[:4500]
    assert all(right(frame) for frame in capture.sent)


@pytest.mark.parametrize("names", [None, ()])
def test_vlan_tags_are_on_the_wire(kernel: Kernel, names: Any) -> None:
    """Whoever puts them in and takes them out: pings and TCP segments."""
    eth0 = device(kernel, features=names)
    kernel.link_add("vlan", "eth0.5", link="eth0", vlan_id=5, addresses="10.5.0.1/24")
    kernel.iproute.neigh("add", dst="10.5.0.2", lladdr=PEER, ifindex=kernel.ifindex("eth0.5"))
    tagged = (
        Ether(src=PEER, dst=eth0.mac)
        / Dot1Q(vlan=5)
        / IP(src="10.5.0.2", dst="10.5.0.1")
    )  # fmt: skip
    (reply,) = eth0.exchange(tagged / ICMP(id=1, seq=2) / b"x")
    assert (reply[Dot1Q].vlan, reply[ICMP].type, reply[ICMP].seq) == (5, 0, 2)
    assert right(bytes(reply))
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000) if names is None else None
    with eth0.capture() as capture:
        sock.sendto(DATA[:1400], ("10.5.0.2", 7))
    assert [Ether(frame)[Dot1Q].vlan for frame in capture.sent] == [5] * (2 if names is None else 1)
    assert all(right(frame) for frame in capture.sent)
    for short in (b"\0", b"\0\0", b"\0\5\x08", b"\0\5\x08\0"):  # no more than a part of a tag
        header = bytes(Ether(src=PEER, dst=eth0.mac, type=0x8100))
        assert eth0.exchange(header + short) == []


def errors(kernel: Kernel, version: int, protocol: str) -> int:
    """InCsumErrors as /proc/net has it."""
    if version == 6 and protocol == "Udp":
        lines = dict(line.split() for line in kernel.read_text("/proc/net/snmp6").splitlines())
        return int(lines["Udp6InCsumErrors"])
    names, values = [
        line.split() for line in kernel.read_text("/proc/net/snmp").splitlines()
        if line.startswith(f"{protocol}:")
    ]  # fmt: skip
    return int(values[names.index("InCsumErrors")])


def sum_of(packet: Any, layer: Any) -> int:
    return int(Ether(bytes(packet))[layer].chksum)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("on", [True, False])
def test_received_checksums(kernel: Kernel, version: int, on: bool) -> None:
    """A right one is looked at once, by the device if it can; a wrong one is dropped and counted
    by the stack."""
    eth0 = device(kernel)
    switch(kernel, "eth0", rx_checksum=on, rx_gro=False)  # GRO would look at it, too
    sock = kernel.socket(FAMILIES[version], socket.SOCK_DGRAM)
    sock.bind((ENDS[version][0], 9))
    sniffer = kernel.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sniffer.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    sock.setblocking(False)
    valid = []
    for damage in (0, 1, 0x100):
        good = ip(eth0, version, UDP(sport=7, dport=9) / DATA[:777])
        good[UDP].chksum = sum_of(good, UDP) ^ damage
        before = errors(kernel, version, "Udp")
        eth0.inject(good)
        _, messages, _, _ = sniffer.recvmsg(2000, 200)
        status = struct.unpack_from("=I", messages[0][2])[0]
        valid.append(bool(status & TP_STATUS_CSUM_VALID))
        if damage:
            with pytest.raises(BlockingIOError):
                sock.recv(1000)
        else:
            assert sock.recv(1000) == DATA[:777]
        assert errors(kernel, version, "Udp") == before + bool(damage)
    assert valid == [on, False, False]


@pytest.mark.parametrize("version", [4, 6])
def test_received_datagrams_that_were_put_together(kernel: Kernel, version: int) -> None:
    eth0 = device(kernel)
    one, other = (kernel.socket(FAMILIES[version], socket.SOCK_DGRAM) for _ in range(2))
    for port, sock in ((9, one), (10, other)):
        sock.bind((ENDS[version][0], port))
        sock.setblocking(False)
    one.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    for port in (9, 10):
        frame = ip(eth0, version, UDP(sport=7, dport=port) / DATA[:30_300])
        eth0.inject(frame, gso_size=1000)
    data, messages, _, _ = one.recvmsg(65535, 100)
    assert data == DATA[:30_300]
    assert [(level, kind, struct.unpack("=i", value)[0]) for level, kind, value in messages] == [
        (socket.IPPROTO_UDP, UDP_GRO, 1000)
    ]
    assert b"".join(other.recv(65535) for _ in range(31)) == DATA[:30_300]
    with pytest.raises(BlockingIOError):
        other.recv(1)


@pytest.mark.parametrize("version", [4, 6])
def test_received_segments_that_were_put_together(kernel: Kernel, version: int) -> None:
    """They are read, and acknowledged once; with a wrong checksum, dropped and counted."""
    eth0 = device(kernel)
    sock, ack = connected(kernel, eth0, version)
    sock.setblocking(False)
    port = sock.getsockname()[1]
    segment = TCP(sport=7, dport=port, seq=1001, ack=ack, flags="PA", window=500)
    frame = ip(eth0, version, segment / DATA[:20_000])
    wrong = frame.copy()
    wrong[TCP].chksum = sum_of(frame, TCP) ^ 1
    before = errors(kernel, 4, "Tcp"), eth0.statistics["rx_length_errors"]
    eth0.inject(wrong, gso_size=1000)
    eth0.inject(frame)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    # Nobody puts together what has a wrong checksum: both are frames that are too long.
    assert eth0.statistics["rx_length_errors"] == before[1] + 2
    short = ip(eth0, version, segment / DATA[:500])
    short[TCP].chksum = sum_of(short, TCP) ^ 1
    eth0.inject(short, gso_size=100)
    assert errors(kernel, 4, "Tcp") == before[0] + 1
    with eth0.capture() as capture:
        eth0.inject(frame, gso_size=1000)
    assert b"".join(iter(lambda: sock.recv(65535) if sock_has(sock) else b"", b"")) == DATA[:20_000]
    assert Ether(capture.sent[-1])[TCP].ack == 1001 + 20_000


def sock_has(sock: Any) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("version", [4, 6])
def test_what_was_put_together_is_forwarded_as_segments(kernel: Kernel, version: int) -> None:
    left = device(kernel)
    right_ = kernel.add_netdev("eth1", addresses=["10.1.0.1/24", "fd01::1/64"], ipv6_chatter=False)
    far = {4: "10.1.0.2", 6: "fd01::2"}[version]
    right_.add_neighbour(far, PEER)
    kernel.sysctl["net.ipv4.ip_forward"] = 1
    kernel.sysctl["net.ipv6.conf.all.forwarding"] = 1
    for inner, layer in ((TCP(sport=7, dport=8, seq=5, flags="A"), TCP), (UDP(dport=9), UDP)):
        frame = ip(left, version, inner / DATA[:10_500])
        frame[IP if version == 4 else IPv6].dst = far
        with right_.capture() as capture:
            left.inject(frame, gso_size=1000)
        found = [bytes(Ether(one)[layer].payload) for one in capture.sent]
        assert [len(one) for one in found] == [1000] * 10 + [500]
        assert b"".join(found) == DATA[:10_500]
        assert all(right(one) for one in capture.sent)


def test_gso_sizes(kernel: Kernel) -> None:
    eth0 = device(kernel)
    for wrong in (-1, 65535, 1.0, True):
        with pytest.raises(UsageError, match="gso_size"):
            eth0.inject(b"x" * 60, gso_size=wrong)  # type: ignore[arg-type]
    # What can't be in segments is a frame like others: a ping is answered.
    ping = ip(eth0, 4, ICMP() / DATA[:900])
    with eth0.capture() as capture:
        eth0.inject(ping, gso_size=100)
        switch(kernel, "eth0", rx_gro_hw=False)
        eth0.inject(ping, gso_size=100)
    assert [Ether(frame)[ICMP].type for frame in capture.sent] == [0, 0]


@pytest.mark.parametrize("names", [None, ()])
@pytest.mark.parametrize("mtu", [68, 69, 1280, 9000, 65535])
def test_pings_of_any_mtu(kernel: Kernel, mtu: int, names: Any) -> None:
    """A full frame comes in, and one as long goes out."""
    eth0 = kernel.add_netdev("eth0", mtu=mtu, features=names)
    eth0.add_address("10.0.0.1/24")
    eth0.add_neighbour("10.0.0.2", PEER)
    ping = ip(eth0, 4, ICMP(id=3) / DATA[:0] / (DATA * 2)[: mtu - 28])
    replies = [one for one in eth0.exchange(ping) if ICMP in one or one[IP].frag]
    assert [len(bytes(one)) for one in replies] == [mtu + 14]
    assert right(bytes(replies[0]))
    assert bytes(replies[0][ICMP].payload) == (DATA * 2)[: mtu - 28]
