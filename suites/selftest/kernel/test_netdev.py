# SPDX-License-Identifier: GPL-2.0
"""Network devices: frames in and out, captures, link state, the simulated neighbour."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from anykernel.errors import UsageError
from anykernel.host import Instance
from anykernel.host.frames import LONGEST
from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev
from anykernel.kernel.pcap import read_pcap
from anykernel.kernel.peer import Peer


@pytest.fixture
def eth0(kernel: Kernel) -> Netdev:
    return kernel.add_netdev("eth0", addresses=["10.0.0.1/24", "fd00::1/64"])


@pytest.fixture
def peer(eth0: Netdev) -> Peer:
    return eth0.add_peer("10.0.0.2", "fd00::2")


def test_what_it_is(kernel: Kernel, eth0: Netdev) -> None:
    assert kernel.netdevs == {"eth0": eth0}
    assert eth0.mac == "02:00:00:00:00:01" and eth0.mtu == 1500 and eth0.ifindex > 1
    assert kernel.read_text("/sys/class/net/eth0/address").strip() == eth0.mac
    assert int(kernel.read_text("/sys/class/net/eth0/ifindex")) == eth0.ifindex
    eth0.mtu = 1400
    assert eth0.mtu == 1400
    other = kernel.add_netdev(mac="02:00:00:00:00:99", up=False, mtu=9000)
    assert other.name == "eth1" and other.mac.endswith("99") and other.mtu == 9000


def test_ping(eth0: Netdev, peer: Peer) -> None:
    assert peer.ping("10.0.0.1", b"hello") == b"hello"
    assert peer.ping("fd00::1", b"x" * 1400) == b"x" * 1400
    assert peer.ping("10.0.0.77") is None


def test_exchange(eth0: Netdev, peer: Peer) -> None:
    one = peer.echo_request("10.0.0.1", b"1")
    (answer,) = eth0.exchange(one)
    assert answer[:6] == peer.mac_bytes and answer.endswith(b"1")
    many = eth0.exchange([one, b"nonsense" * 10, peer.echo_request("10.0.0.1", b"2")])
    assert [len(group) for group in many] == [1, 0, 1]
    assert many[2][0].endswith(b"2")
    assert eth0.exchange([]) == []


def test_scapy(eth0: Netdev, peer: Peer) -> None:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.l2 import ARP, Ether

    packet = Ether(src=peer.mac, dst=eth0.mac) / IP(src="10.0.0.2", dst="10.0.0.1") / ICMP() / b"sc"
    (answer,) = eth0.exchange(packet)
    assert answer[ICMP].type == 0 and answer[IP].src == "10.0.0.1" and answer.load == b"sc"
    (group,) = eth0.exchange([packet])
    assert group[0][ICMP].type == 0
    with eth0.capture() as capture:
        eth0.inject(packet, Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(psrc="10.0.0.9", pdst="10.0.0.1"))
    assert [ICMP in p or ARP in p for p in capture.packets()] == [True] * 4


@pytest.mark.parametrize("frame", [b"", bytes(65558), bytes(100000)])
def test_impossible_frames(eth0: Netdev, frame: bytes) -> None:
    for use in (eth0.inject, eth0.exchange, lambda f: eth0.exchange([f])):
        with pytest.raises(UsageError, match="1 to 65557 bytes"):
            use(frame)


@pytest.mark.parametrize("size", [1, 13, 14, 15, 1514, 1515, 9000, 65535])
def test_odd_frames_are_survived(eth0: Netdev, peer: Peer, size: int) -> None:
    eth0.inject(peer.echo_request("10.0.0.1").ljust(size, b"\0")[:size])
    assert peer.ping("10.0.0.1") == b"anykernel"


def test_capture_and_pcap(kernel: Kernel, eth0: Netdev, peer: Peer, tmp_path: Path) -> None:
    peer.ping("10.0.0.1")
    with eth0.capture() as outer, eth0.capture() as inner:
        assert len(outer) == 0
        peer.ping("10.0.0.1", b"captured")
        assert len(inner.sent) == len(inner.received) == 1
    peer.ping("10.0.0.1")
    assert [frame.direction for frame in outer] == ["rx", "tx"]
    assert list(outer) == list(inner) and outer[0].time_ns <= kernel.clock.now
    path = tmp_path / "packets.pcap"
    with pytest.raises(ZeroDivisionError), eth0.pcap(path):
        print(1 // len(peer.ping("10.0.0.1", b"in the file", sequence=2)[:0]))  # type: ignore[index]
    packets = read_pcap(path)
    assert len(packets) == 2 and all(p.data.endswith(b"in the file") for p in packets)
    from scapy.utils import rdpcap

    assert [bytes(p) for p in rdpcap(str(path))] == [p.data for p in packets]


def test_link_state(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    assert eth0.carrier
    eth0.carrier = False
    assert not eth0.carrier
    eth0.carrier = True
    assert peer.ping("10.0.0.1") is not None
    eth0.down()
    assert peer.ping("10.0.0.1") is None
    eth0.up()
    with kernel.netdevs["eth0"].capture():
        eth0.add_neighbour("10.0.0.2", peer.mac)
    assert peer.ping("10.0.0.1") is not None


def test_statistics(eth0: Netdev, peer: Peer) -> None:
    before = eth0.statistics
    frame = peer.echo_request("10.0.0.1")
    eth0.inject(frame)
    after = eth0.statistics
    assert after["rx_packets"] == before["rx_packets"] + 1
    assert after["tx_packets"] >= before["tx_packets"] + 1
    assert after["rx_bytes"] > before["rx_bytes"]


def test_remove(kernel: Kernel, eth0: Netdev) -> None:
    eth0.remove()
    assert "eth0" not in kernel.netdevs and not kernel.os.exists("/sys/class/net/eth0")
    with pytest.raises(UsageError, match="removed"):
        eth0.inject(b"x" * 60)
    again = kernel.add_netdev("eth0", addresses="10.0.0.1/24")
    assert again.add_peer("10.0.0.2").ping("10.0.0.1") is not None


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 16},
        {"mac": "02:00"},
        {"mac": "zz:00:00:00:00:01"},
        {"mtu": 0},
        {"mtu": 1 << 20},
        {"addresses": ["10.0.0.300/24"]},
        {"addresses": ["nonsense"]},
    ],
)
def test_wrong_options(kernel: Kernel, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        kernel.add_netdev(**{"name": "eth9", **options})  # type: ignore[arg-type]


def test_a_name_twice(kernel: Kernel, eth0: Netdev) -> None:
    with pytest.raises(FileExistsError):
        kernel.add_netdev("eth0")


def test_the_neighbour_answers(kernel: Kernel, eth0: Netdev) -> None:
    import socket

    peer = Peer(eth0, ["10.0.0.9", "fd00::9"], bytes.fromhex("02000000ff09"))
    for family, host in [(socket.AF_INET, "10.0.0.9"), (socket.AF_INET6, "fd00::9")]:
        with eth0.capture() as capture, kernel.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"who are you", (host, 7))
        sent = peer.serve(capture.sent)
        assert any(frame.endswith(b"who are you") for frame in sent), host


def test_datagrams_from_the_neighbour(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    import socket

    for family, own, host in [
        (socket.AF_INET, "10.0.0.1", "10.0.0.2"),
        (socket.AF_INET6, "fd00::1", "fd00::2"),
    ]:
        with kernel.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((own, 7))
            eth0.inject(peer.datagram(own, 7, b"ping"))
            data, address = sock.recvfrom(100)
        assert data == b"ping" and address[:2] == (host, 40000)


def test_routes(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    import socket

    eth0.add_route("default", via="10.0.0.2")
    eth0.add_route("192.168.7.0/24")
    eth0.add_route("default", via="fd00::2")
    for family, host in [(socket.AF_INET, "8.8.8.8"), (socket.AF_INET6, "2001:db8::8")]:
        with eth0.capture() as capture, kernel.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"out", (host, 53))
        assert capture.sent[-1][:6] == peer.mac_bytes


def test_a_capture_has_all_frames_of_many_calls(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with eth0.capture() as capture:
        for number in range(5000):
            sock.sendto(number.to_bytes(4, "big") + bytes(1396), ("10.0.0.2", 9))
    sent = [int.from_bytes(frame[42:46], "big") for frame in capture.sent]
    assert sent == list(range(5000)), "7 MB, of which the host keeps 4"


def test_a_capture_has_all_frames_of_one_call(eth0: Netdev, peer: Peer, tmp_path: Path) -> None:
    eth0.kernel.sysctl["net.ipv4.icmp_ratelimit"] = 0
    pings = [peer.echo_request("10.0.0.1", n.to_bytes(4, "big") + bytes(1396)) for n in range(1400)]
    with eth0.pcap(tmp_path / "all.pcap") as capture:
        answers = eth0.exchange(pings * 3)
    assert capture.received == pings * 3
    assert capture.sent == [frame for group in answers for frame in group]
    assert len(capture.sent) == len(pings) * 3
    assert [p.data for p in read_pcap(tmp_path / "all.pcap")] == [f.data for f in capture]


def test_captures_end(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    instance = cast("Instance", kernel.instance)
    raw = instance._border.raw(instance.index)
    first, second = eth0.capture(), eth0.capture()
    assert raw.captures == 2
    first.stop()
    peer.ping("10.0.0.1")
    assert raw.captures == 2 and (len(first), len(second)) == (0, 2)
    # Nobody can ask it any more: the host needn't wait for it.
    del second
    peer.ping("10.0.0.1")
    eth0.capture().stop()
    assert raw.captures == 1 and len(eth0.recent()) >= 4


def test_a_capture_goes_on_behind_a_restore(kernel: Kernel, eth0: Netdev, peer: Peer) -> None:
    capture = eth0.capture()
    number = kernel.snapshot()
    peer.ping("10.0.0.1", b"first")
    kernel.restore(number)
    peer.ping("10.0.0.1", b"second")
    said = [
        data.endswith(end) for data, end in zip(capture.sent, (b"first", b"second"), strict=True)
    ]
    assert said == [True, True]


def test_the_longest_frames_can_come_back(kernel: Kernel) -> None:
    eth0 = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"], mtu=65535)
    eth0.add_neighbour("10.0.0.2", "02:00:00:00:00:99")
    sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with eth0.capture() as capture:
        sock.sendto(bytes(65507), ("10.0.0.2", 9))
    assert [len(frame) for frame in capture.sent] == [65535 + 14]
    eth0.inject(*capture.sent)
    eth0.inject(bytes(LONGEST))
    assert eth0.statistics["rx_packets"] == 2 and eth0.statistics["rx_length_errors"] == 0


@pytest.mark.parametrize("fails", [False, True])
def test_captures_end_with_their_block(
    eth0: Netdev, peer: Peer, tmp_path: Path, fails: bool
) -> None:
    path = tmp_path / "block.pcap"
    kept = []
    with suppress(ZeroDivisionError), eth0.capture() as first, eth0.pcap(path) as second:
        kept = [first, second]
        peer.ping("10.0.0.1")
        assert not fails or 1 // 0
    peer.ping("10.0.0.1")
    assert [len(capture) for capture in kept] == [2, 2]
    assert len(read_pcap(path)) == 2
