# SPDX-License-Identifier: GPL-2.0
"""Captures of any device, and tun and tap devices."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel

NEWNET = 0x40000000


def test_loopback(kernel: Kernel) -> None:
    """Each frame once, as tcpdump has it."""
    from scapy.layers.inet import IP, UDP

    with kernel.capture("lo") as capture, kernel.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 7))
        began = kernel.clock.now
        sock.sendto(b"one", ("127.0.0.1", 7))
        kernel.clock.advance(2)
        sock.sendto(b"two", ("127.0.0.1", 7))
        assert [bytes(packet[UDP].payload) for packet in capture.packets()] == [b"one", b"two"]
    assert {packet[IP].dst for packet in capture.packets()} == {"127.0.0.1"}
    times = [frame.time_ns - began for frame in capture]
    assert 0 <= times[0] < 10**9 and times[1] - times[0] >= 2 * 10**9
    kernel.socket(type=socket.SOCK_DGRAM).sendto(b"three", ("127.0.0.1", 7))
    assert len(capture) == 2


def test_both_ways_with_tags(kernel: Kernel) -> None:
    """A bridge, and the device below it, where a card has taken the tag out."""
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.l2 import Dot1Q, Ether

    eth0 = kernel.add_netdev("eth0")
    ip = kernel.iproute
    ip.link("add", ifname="eth0.7", kind="vlan", link=eth0.ifindex, vlan_id=7)
    (vlan,) = ip.link_lookup(ifname="eth0.7")
    ip.link("set", index=vlan, state="up")
    ip.addr("add", index=vlan, address="10.7.0.1", prefixlen=24)
    mac = "02:00:00:00:00:99"
    ip.neigh("add", dst="10.7.0.2", lladdr=mac, ifindex=vlan, state=0x80)
    echo = IP(src="10.7.0.2", dst="10.7.0.1") / ICMP() / b"payload"
    frame = bytes(Ether(src=mac, dst=eth0.mac) / Dot1Q(vlan=7) / echo)
    with kernel.capture("eth0") as below, kernel.capture("eth0.7") as above:
        (reply,) = eth0.exchange(frame)
    assert (below.received, below.sent) == ([frame], [reply])
    assert [Ether(data)[ICMP].type for data in above.received + above.sent] == [8, 0]
    assert Dot1Q not in Ether(above.received[0])


def test_pcap_of_a_tunnel(kernel: Kernel, tmp_path: Path) -> None:
    """Packets without a link's header: the file says so."""
    from scapy.utils import rdpcap

    tun = kernel.add_tun(addresses=["10.9.0.1/24", "fd09::1/64"])
    file = tmp_path / "tun.pcap"
    with kernel.pcap("tun0", file), kernel.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", ("10.9.0.2", 7))
    last = rdpcap(str(file))[-1]
    assert last.haslayer("IP") and not last.haslayer("Ether") and bytes(last) == tun.receive()[-1]


def test_another_namespace(kernel: Kernel) -> None:
    with kernel.fork() as child:
        child.os.unshare(NEWNET)
        with child.capture("lo") as capture, kernel.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("127.0.0.1", 7))
        assert not capture


def test_what_can_not_be_captured(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="can't capture on 'eth7': No such device"):
        kernel.capture("eth7")


def test_frames_that_are_lost(kernel: Kernel) -> None:
    """It's said, not hidden."""
    with kernel.socket(type=socket.SOCK_DGRAM) as sock:
        capture = kernel.capture("lo")
        for _ in range(300):
            sock.sendto(bytes(60000), ("127.0.0.1", 7))
        with pytest.raises(UsageError, match=r"\d+ frames of lo are lost: more than 16 MiB"):
            len(capture)


@pytest.mark.parametrize("tap", [False, True])
def test_tun(kernel: Kernel, tap: bool) -> None:
    from scapy.layers.inet import ICMP, IP
    from scapy.layers.l2 import Ether

    tun = kernel.add_tun("vpn%d", tap=tap, addresses=["10.9.0.1/24"], mtu=1400)
    assert tun.name == "vpn0"
    folder = f"/sys/class/net/{tun.name}"
    assert kernel.read_text(f"{folder}/mtu") == "1400\n"
    assert kernel.read_text(f"{folder}/ifindex") == f"{tun.ifindex}\n"
    request = IP(src="10.9.0.2", dst="10.9.0.1") / ICMP() / b"payload"
    if tap:
        mac = kernel.read_text(f"{folder}/address").strip()
        request = Ether(src="02:00:00:00:00:99", dst=mac) / request
        kernel.iproute.neigh(
            "add", dst="10.9.0.2", lladdr="02:00:00:00:00:99", ifindex=tun.ifindex, state=0x80
        )
    tun.receive()  # what IPv6 says at first
    with tun.capture() as capture:
        (reply,) = tun.exchange(request)
    assert reply[ICMP].type == 0 and bytes(reply[ICMP].payload) == b"payload"
    assert (capture.received, capture.sent) == ([bytes(request)], [bytes(reply)])
    assert isinstance(reply, Ether if tap else IP)
    (answer,) = tun.exchange(bytes(request))
    assert answer[-7:] == b"payload"
    tun.remove()
    assert not kernel.os.exists(folder)
    with pytest.raises(UsageError, match="vpn0 was removed"):
        tun.receive()


def test_a_tun_of_another_state(kernel: Kernel) -> None:
    here = kernel.snapshot()
    tun = kernel.add_tun()
    kernel.restore(here)
    with pytest.raises(UsageError, match="tun0 belongs to a state that was restored away"):
        tun.receive()
    kernel.add_tun()
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.add_tun("x").inject(struct.pack("!Q", 0))
