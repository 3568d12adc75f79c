# SPDX-License-Identifier: GPL-2.0
"""Linux kernels on ns-3's own channels: what they measure is what the channel's rate, delay and
access rules allow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import HostDied, KernelCrash, UsageError

if TYPE_CHECKING:
    from anykernel.net.ns3 import Ns3Network

ADDRESSES = ("10.0.0.1/24", "10.0.0.2/24")
SLOT, SIFS, DIFS = 9.0, 16.0, 34.0
"""Of 802.11a, in us."""
WINDOW = 15
"""Slots of the first backoff, at most."""
LLC, MAC, ACK = 8, 28, 14
"""Bytes that 802.11 adds to a packet (with FCS), and those of an acknowledgement."""
SEGMENT, FULL, BARE = 1448, 1500, 52
"""Bytes of data in a TCP segment with timestamps; of IP packets: such a segment, a lone ACK."""


def ethernet(packet: int, rate: float, delay: float) -> float:
    """us that a frame takes over ns-3's CSMA: header and FCS, no preamble."""
    return (max(packet, 46) + 18) * 8 / rate * 1e6 + delay * 1e6


def ofdm(frame: int, mbit: int) -> float:
    """us of a frame in the air: preamble and SIGNAL, then symbols of 4 us with service and tail
    bits (IEEE 802.11, 17.3.2)."""
    return 20 + 4 * math.ceil((16 + 8 * frame + 6) / (4 * mbit))


def turn(packet: int, mbit: int, backoff: float) -> float:
    """us of a packet's whole exchange: access, frame, acknowledgement."""
    answer = ofdm(ACK, max(basic for basic in (6, 12, 24) if basic <= mbit))
    return DIFS + backoff * SLOT + ofdm(packet + LLC + MAC, mbit) + SIFS + answer


def transfer(network: Ns3Network, size: int) -> tuple[float, int]:
    """Goodput of a TCP connection in bits per second, and its retransmits."""
    a, b = network.nodes.values()
    flow = network.bulk(a, b, bytes=size)
    network.run()
    assert flow.moved == size
    return flow.goodput, flow.retransmits


@contextmanager
def another(network: Ns3Network, seed: int = 0) -> Iterator[Ns3Network]:
    """A second simulation beside the first, in a process of its own."""
    from anykernel.net.ns3 import simulation

    made = simulation(network.image, kernels=4, seed=seed)
    try:
        yield made
    finally:
        made.host.close()


@pytest.mark.parametrize(("rate", "delay"), [(10e6, 100e-6), (100e6, 10e-6), (1e9, 1e-6)])
def test_ping_over_csma(ns3_network: Ns3Network, rate: float, delay: float) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    ns3_network.csma(a, b, rate=rate, delay=delay, addresses=ADDRESSES)
    ping = ns3_network.ping(a, b, count=5)
    ns3_network.run()
    assert ping.lost == 0
    # 20 bytes of IP, 8 of ICMP, 56 of data, twice.
    least = 2 * ethernet(84, rate, delay)
    for rtt in ping.rtts[1:]:  # the first waits for ARP
        # Who answers finds the bus still busy with what it heard: a slot (1 us) or two.
        assert least <= rtt * 1e6 <= least + 4
    assert ping.rtts[0] > ping.rtts[1] + ethernet(28, rate, delay) * 1e-6


@pytest.mark.parametrize(("rate", "delay"), [(10e6, 100e-6), (100e6, 1e-6)])
def test_tcp_over_csma(ns3_network: Ns3Network, rate: float, delay: float) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    bus = ns3_network.csma(a, b, rate=rate, delay=delay, addresses=ADDRESSES)
    goodput, retransmits = transfer(ns3_network, 4_000_000)
    # Half duplex, and nobody sends before the last bit is everywhere; every second segment
    # is acknowledged.
    cycle = 2 * ethernet(FULL, rate, delay) + ethernet(BARE, rate, delay)
    best = 2 * SEGMENT * 8 / cycle * 1e6
    assert 0.8 * best < goodput <= best
    # A full queue makes the kernel wait: nothing is lost.
    assert retransmits == 0
    assert bus.statistics["dropped"] == 0


@pytest.mark.parametrize("mbit", [6, 24, 54])
def test_ping_over_wifi(ns3_network: Ns3Network, mbit: int) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    ns3_network.wifi(a, b, rate=mbit * 1e6, addresses=ADDRESSES)
    ping = ns3_network.ping(a, b, count=8)
    ns3_network.run()
    assert ping.lost == 0
    # Both find the air free for long enough, so no backoff: the answer only waits for the
    # request's acknowledgement.  10 m are 33 ns.
    there = turn(84, mbit, 0)
    back = DIFS + ofdm(84 + LLC + MAC, mbit)
    for rtt in ping.rtts[1:]:  # the first waits for ARP
        assert rtt * 1e6 == pytest.approx(there + back + 2 * 0.033, abs=0.002)


@pytest.mark.parametrize("mbit", [6, 54])
def test_tcp_over_wifi(ns3_network: Ns3Network, mbit: int) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    ns3_network.wifi(a, b, rate=mbit * 1e6, addresses=ADDRESSES)
    goodput, _ = transfer(ns3_network, 2_000_000)
    mean = WINDOW / 2
    cycle = 2 * turn(FULL, mbit, mean) + turn(BARE, mbit, mean)
    expected = 2 * SEGMENT * 8 / cycle * 1e6
    # Stations count their backoffs down at the same time, and sometimes collide.
    assert 0.85 * expected < goodput < 1.2 * expected


def test_out_of_range(ns3_network: Ns3Network) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    cell = ns3_network.wifi(a, b, range=50, positions=[(0, 0), (40, 0)], addresses=ADDRESSES)
    near = ns3_network.ping(a, b, count=2)
    ns3_network.run()
    assert near.lost == 0
    cell.move(b, velocity=(5, 0))  # leaves after 2 s
    leaving = ns3_network.ping(a, b, count=6)
    ns3_network.run()
    assert [echo.rtt is not None for echo in leaving.echoes] == [True] * 2 + [False] * 4
    cell.move(b, position=(0, 49))
    back = ns3_network.ping(a, b, count=2)
    ns3_network.run()
    assert back.lost == 0


def test_chain(ns3_network: Ns3Network) -> None:
    """Topologies, addresses and routes are those of `network`."""
    nodes = ns3_network.chain(4, rate="100Mbit", delay="1ms")
    ns3_network.address()
    ns3_network.route()
    ping = ns3_network.ping(nodes[0], nodes[-1], count=2)
    ns3_network.run()
    assert ping.lost == 0
    assert 6e-3 < ping.rtts[1] < 6.2e-3


@pytest.mark.parametrize(("standard", "rate"), [("a", None), ("b", "11Mbit"), ("g", "54Mbit")])
def test_standards(ns3_network: Ns3Network, standard: str, rate: str | None) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    ns3_network.wifi(a, b, standard=standard, rate=rate, addresses=ADDRESSES)
    ping = ns3_network.ping(a, b, count=3)
    ns3_network.run()
    assert ping.lost == 0


def test_from_wifi_to_csma(ns3_network: Ns3Network) -> None:
    """A gateway has a device on each; the round trip is the sum of both."""
    station, gateway, server = (ns3_network.node(name) for name in ("station", "gateway", "server"))
    ns3_network.wifi(station, gateway)
    ns3_network.csma(gateway, server, rate="100Mbit", delay="10us")
    ns3_network.address()
    ns3_network.route()
    ping = ns3_network.ping(station, server, count=3)
    ns3_network.run()
    assert ping.lost == 0
    air = turn(84, 54, 0) - SIFS - ofdm(ACK, 24)
    # By the time that the answer is there, the air is long free: nobody waits for an
    # acknowledgement.
    least = 2 * air + 2 * ethernet(84, 100e6, 10e-6)
    assert least <= ping.rtts[2] * 1e6 <= least + WINDOW * SLOT + 4


def test_bridge_between_buses(ns3_network: Ns3Network) -> None:
    """Linux passes frames of others on, as a bridge between two of ns-3's channels."""
    a, bridge, c = (ns3_network.node(name) for name in ("a", "bridge", "c"))
    ports = []
    for end, address in ((a, ADDRESSES[0]), (c, ADDRESSES[1])):
        bus = ns3_network.csma(end, bridge, addresses=(address, ()))
        ports.append(bus.port(bridge).netdev.ifindex)
    route = bridge.iproute
    route.link("add", ifname="br0", kind="bridge")
    (br0,) = route.link_lookup(ifname="br0")
    for port in ports:
        route.link("set", index=port, master=br0)
    route.link("set", index=br0, state="up")
    ns3_network.run(31)  # two forwarding delays
    ping = ns3_network.ping(a, c, count=3)
    ns3_network.run()
    assert ping.lost == 0


def measure(network: Ns3Network, kind: str) -> tuple[int, list[float], float]:
    """Trace, RTTs and goodput of a short run."""
    a, b = network.node("a"), network.node("b")
    join: Callable[..., object] = getattr(network, kind)
    join(a, b, addresses=ADDRESSES)
    ping = network.ping(a, b, count=4, interval=0.1)
    network.run()
    goodput, _ = transfer(network, 500_000)
    return network.trace, ping.rtts, goodput


@pytest.mark.parametrize("kind", ["csma", "wifi"])
def test_the_same_again(ns3_network: Ns3Network, kind: str) -> None:
    first = measure(ns3_network, kind)
    with another(ns3_network) as second:
        assert measure(second, kind) == first


def test_another_run_of_ns3(ns3_network: Ns3Network) -> None:
    trace, rtts, _ = measure(ns3_network, "wifi")
    with another(ns3_network) as second:
        second.random(run=2)
        found = measure(second, "wifi")
    assert found[0] != trace
    assert found[1] != rtts, "other backoffs"


def test_cable_out(ns3_network: Ns3Network) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    bus = ns3_network.csma(a, b, addresses=ADDRESSES)
    with bus.cut():
        ping = ns3_network.ping(a, b, count=2)
        ns3_network.run()
        assert ping.lost == 2
    ping = ns3_network.ping(a, b, count=2)
    ns3_network.run()
    assert ping.lost == 0


def test_pcap(ns3_network: Ns3Network, tmp_path: Path) -> None:
    from scapy.layers.inet import ICMP
    from scapy.utils import rdpcap

    a, b = ns3_network.node("a"), ns3_network.node("b")
    cell = ns3_network.wifi(a, b, addresses=ADDRESSES)
    with cell.pcap(tmp_path / "cell.pcap"):
        ns3_network.ping(a, b, count=3)
        ns3_network.run()
    packets = rdpcap(str(tmp_path / "cell.pcap"))
    assert [packet[ICMP].type for packet in packets if ICMP in packet] == [8, 0] * 3


@pytest.mark.kernel(allow_crash=True)
def test_a_node_crashes(ns3_network: Ns3Network) -> None:
    """By a frame out of ns-3: the report says which one, and the others live on."""
    from anykernel.link.symbols import Symbols

    a, b, c = (ns3_network.node(name) for name in "abc")
    ns3_network.csma(a, b, c, addresses=(*ADDRESSES, "10.0.0.3/24"))
    at = Symbols.of(b.image.vmlinux).addresses["icmp_rcv"]
    instance: Any = b.instance
    instance.write_memory(instance.image_base + at, b"\x0f\x0b")  # ud2
    first = ns3_network.ping(a, b, count=1)
    with pytest.raises(KernelCrash, match=r"(?s)node b crashed.*icmp_rcv"):
        ns3_network.run()
    assert first.lost == 0 and not first.echoes
    others = ns3_network.ping(a, c, count=3)
    ns3_network.run()
    assert others.lost == 0 and len(others.rtts) == 3


def test_what_it_refuses(ns3_network: Ns3Network) -> None:
    a, b = ns3_network.node("a"), ns3_network.node("b")
    with pytest.raises(UsageError, match=r"802\.11a has no rate '11Mbit'; it has 6Mbit"):
        ns3_network.wifi(a, b, rate="11Mbit")
    with pytest.raises(UsageError, match="it is a, b, g"):
        ns3_network.wifi(a, b, standard="ax")
    with pytest.raises(UsageError, match="1 positions of 2 nodes"):
        ns3_network.wifi(a, b, positions=[(0, 0)])
    with pytest.raises(UsageError, match="up to three finite numbers"):
        ns3_network.wifi(a, b, positions=[(0, 0), (math.nan,)])
    with pytest.raises(UsageError, match="has no loss"):
        ns3_network.link(a, b, loss=0.1)
    with pytest.raises(UsageError, match="no switches"):
        ns3_network.switch(a, b)
    bus = ns3_network.csma(name="bus")
    with pytest.raises(UsageError, match="there is a link bus already"):
        ns3_network.csma(name="bus")
    with pytest.raises(UsageError, match="carries from 68 to"):
        bus.plug(a, mtu=10)
    with pytest.raises(UsageError, match="stays as it was made"):
        bus.set(rate="1Mbit")
    with pytest.raises(UsageError, match="rules are for links"):
        bus.rule(lambda frame: None)
    with pytest.raises(UsageError, match="before the first channel"):
        ns3_network.random(run=2)
    with pytest.raises(UsageError, match="can't be saved"):
        ns3_network.snapshot()


@pytest.mark.kernel(allow_crash=True)
def test_what_ns3_refuses(ns3_network: Ns3Network) -> None:
    """Its own words, should it give up."""
    ns3_network.node("a")
    with pytest.raises(HostDied, match=r'(?s)"Nonsense".*ns-3 gave up'):
        ns3_network.say("HK_LINK", 0, ns3_network.host.c.HK_CHANNEL, "wifi mode=Nonsense")
