# SPDX-License-Identifier: GPL-2.0
"""Pictures of a network that ran: topology, packets, curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import UsageError
from anykernel.net.passages import label, steps

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network

pytest.importorskip("matplotlib", reason="pip install pytest-anykernel[plot]")


def test_handshake(network: Network, tmp_path: Path) -> None:
    """The three segments of RFC 9293's handshake, with the times of a 10 ms link."""
    a, b = network.chain(2, delay="10ms", rate="10Mbit")
    network.address()
    link = network.links[0]

    def server(process: Process) -> None:
        sock = process.socket()
        sock.bind(("0.0.0.0", 80))
        sock.listen()
        sock.accept()[0].close()

    def client(process: Process) -> None:
        process.socket().connect(("10.0.0.2", 80))

    network.start(server, on=b)
    network.start(client, on=a)
    with link.capture() as found:
        network.run()
    arrows = steps(network, found)
    words = ("SYN", "SYN ACK", "ACK")
    tcp = [(one.sender, one.receiver, one.label) for one in arrows if one.label in words]
    assert tcp[:3] == [("n0", "n1", "SYN"), ("n1", "n0", "SYN ACK"), ("n0", "n1", "ACK")]
    syn, answer = (one for one in arrows if "SYN" in one.label)
    assert syn.received_ns == answer.time_ns
    assert syn.received_ns - syn.time_ns == 10_000_000 + (74 + 24) * 8 * 100
    for name in ("packets.svg", "packets.png"):
        network.plot_packets(tmp_path / name, found)
        assert (tmp_path / name).stat().st_size > 1000
    assert "SYN ACK" in (tmp_path / "packets.svg").read_text()


def test_lost_frames_are_marked(network: Network) -> None:
    a, b = network.chain(2, loss=1.0)
    network.address()
    with network.links[0].capture() as found:
        network.ping(a, b, count=1)
        network.run()
    assert found and all(one.lost and "(lost)" in one.label for one in steps(network, found))


def test_topology_and_curves(network: Network, tmp_path: Path) -> None:
    rig = network.dumbbell(2, 2, rate="100Mbit", bottleneck={"rate": "10Mbit", "delay": "5ms"})
    network.address()
    network.route()
    flow = network.bulk(rig.left[0], rig.right[0], seconds=2.0, sample=0.05)
    network.run()
    network.plot(tmp_path / "topology.svg")
    text = (tmp_path / "topology.svg").read_text()
    assert all(name in text for name in network.nodes)
    assert "10Mbit" in text and "5ms" in text
    flow.plot(tmp_path / "cwnd.svg", "snd_cwnd", "snd_ssthresh")
    assert "snd_cwnd" in (tmp_path / "cwnd.svg").read_text()
    curve = flow.curve("snd_cwnd")
    assert curve[0][1] == 10  # RFC 6928
    assert max(value for _, value in curve) > 20
    assert len(curve) == pytest.approx(flow.seconds / 0.05, abs=3)


def test_other_formats_are_refused(network: Network, tmp_path: Path) -> None:
    network.chain(2)
    with pytest.raises(UsageError, match=r"png|svg"):
        network.plot(tmp_path / "picture.gif")


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        (
            "IPv6(dst='ff02::16')/RA/ICMPv6MLReport2(records=REC)",
            "MLD report v2",
        ),
        ("IPv6()/RA/ICMPv6MLReport(mladdr='ff02::5')", "MLD report"),
        ("IPv6()/RA/ICMPv6MLDone(mladdr='ff02::5')", "MLD done"),
        ("IPv6()/RA/ICMPv6MLQuery()", "MLD query"),
        ("IPv6()/RA/ICMPv6MLQuery2()", "MLD query"),
        ("IPv6()/ICMPv6ND_NS(tgt='fe80::1')", "NDP neighbour solicitation"),
        ("IPv6()/ICMPv6EchoRequest(data=b'1')", "ICMPv6 echo-request"),
        ("IPv6()/ICMPv6DestUnreach()/IPv6()/UDP()", "ICMPv6 dest-unreach"),
        ("IPv6()/UDP()/b'12345'", "UDP 5"),
        ("IP()/ICMP()", "ICMP echo-request"),
        ("IP()/TCP(flags='PA')/b'123'", "PSH ACK 3"),
        ("ARP()", "ARP who-has"),
    ],
)
def test_what_a_frame_is_called(layers: str, text: str) -> None:
    from scapy.layers import inet, inet6, l2

    names = {**vars(inet), **vars(inet6), **vars(l2)}
    names["RA"] = inet6.IPv6ExtHdrHopByHop(options=inet6.RouterAlert())
    names["REC"] = [inet6.ICMPv6MLDMultAddrRec()]
    assert label(bytes(l2.Ether() / eval(layers, names))) == text


def test_reports_of_multicast_groups_are_told(network: Network) -> None:
    a, _ = network.chain(2)
    with network.links[0].capture() as found:
        a.ports[0].netdev.add_address("fd00::1/64", dad=True)
        network.run(5)
    labels = {one.label for one in steps(network, found) if one.sender == a.name}
    assert {"MLD report v2", "NDP neighbour solicitation"} <= labels
