# SPDX-License-Identifier: GPL-2.0
"""Traffic's figures, against what the links and the arithmetic of protocols say."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import UsageError
from anykernel.net import DROP, PASS
from anykernel.net.traffic import checksum
from suites.selftest.net.raw import mute, wire_ns

if TYPE_CHECKING:
    from anykernel.net import Network
    from anykernel.net.node import Node


def two(network: Network, **options: Any) -> list[Node]:
    a, b = mute(network, "a", "b")
    network.link(a, b, addresses=("10.0.0.1/24", "10.0.0.2/24"), **options)
    for node, peer, address in ((a, b, "10.0.0.2"), (b, a, "10.0.0.1")):
        node.ports[0].netdev.add_neighbour(address, peer.ports[0].netdev.mac)
    return [a, b]


@pytest.mark.parametrize("size", [0, 1, 56, 57, 1400])
def test_pings_round_trip_is_delay_and_serialisation(network: Network, size: int) -> None:
    a, b = two(network, rate="1Mbit", delay="3ms")
    begin = network.seconds
    ping = network.ping(a, b, count=3, interval=0.1, size=size)
    network.run()
    trip = (2 * wire_ns(14 + 20 + 8 + size, 1e6) + 6_000_000) / 1e9
    assert ping.rtts == [pytest.approx(trip, abs=1e-9)] * 3
    assert [one.sent for one in ping.echoes] == pytest.approx([begin + i / 10 for i in range(3)])
    assert (ping.lost, [one.number for one in ping.echoes]) == (0, [0, 1, 2])


def test_pings_that_are_lost_or_late(network: Network) -> None:
    a, b = two(network, delay="30ms")
    (link,) = network.links
    numbers = iter(range(100))
    link.rule(lambda frame: DROP if next(numbers) % 2 else PASS, sender=a)
    ping = network.ping(a, b, count=6, interval=0.1)
    late = network.ping(a, b, count=3, interval=0.05)  # its replies come after 60 ms
    network.run()
    assert late.lost == 3 and ping.lost + len(ping.rtts) == 6
    assert all(rtt == pytest.approx(0.06) for rtt in ping.rtts)


@pytest.mark.parametrize("six", [False, True])
def test_ping_of_both_families(network: Network, six: bool) -> None:
    a, b = network.chain(2, delay="1ms")
    network.address(ipv6=True)
    network.run(3)
    family = socket.AF_INET6 if six else socket.AF_INET
    ping = network.ping(a, b, count=2, family=family)
    network.run()
    assert ping.lost == 0 and (":" in ping.address) == six


def test_bulk_moves_every_byte_at_the_links_rate(network: Network) -> None:
    a, b = two(network, rate="10Mbit", delay="1ms")
    flow = network.bulk(a, b, bytes=3_000_000)
    network.run()
    assert flow.moved == 3_000_000 and flow.retransmits == 0
    most = 10e6 * 1448 * 8 / ((14 + 20 + 32 + 1448 + 24) * 8)
    assert 0.97 * most < flow.goodput < most
    assert flow.done


def test_bulk_over_a_lossy_link_is_whole(network: Network) -> None:
    a, b = two(network, rate="10Mbit", delay="5ms", loss=0.02)
    flow = network.bulk(a, b, bytes=500_000, sample=0.05)
    network.run()
    assert flow.moved == 500_000 and flow.retransmits > 0
    curve = flow.curve("snd_cwnd")
    assert all(y > 0 for _, y in curve) and [x for x, _ in curve] == sorted(x for x, _ in curve)


def test_bulk_for_some_seconds(network: Network) -> None:
    a, b = two(network, rate="10Mbit", delay="1ms")
    flow = network.bulk(a, b, seconds=2)
    network.run()
    assert 1.9 < flow.seconds < 2.5 and 1.8e6 < flow.moved < 2.9e6
    for bad in ({}, {"bytes": 1, "seconds": 1}):
        with pytest.raises(UsageError, match="give bytes= or seconds="):
            network.bulk(a, b, **bad)


def test_cbr_counts_what_the_link_lost(network: Network) -> None:
    a, b = two(network, rate="100Mbit", loss=0.1)
    flow = network.cbr(a, b, rate="1Mbit", size=125, seconds=2, log=2000)
    network.run()
    (link,) = network.links
    assert flow.sent is not None and flow.sent.rounds == 2000
    assert flow.lost == link.port(a).sent["lost"] > 100
    assert len(flow.arrivals) == 2000 - flow.lost
    assert flow.goodput == pytest.approx(0.9e6, rel=0.05)


def test_cbr_above_the_rate_gets_the_links(network: Network) -> None:
    a, b = two(network, rate="1Mbit", queue=10)
    flow = network.cbr(a, b, rate="2Mbit", size=972, seconds=2)
    network.run()
    frame = 14 + 20 + 8 + 972 + 24
    assert flow.goodput == pytest.approx(1e6 * 972 / frame, rel=0.005)
    (link,) = network.links
    assert flow.lost == link.port(a).sent["queue full"]


def test_requests_take_a_round_trip_each(network: Network) -> None:
    a, b = two(network, rate="10Mbit", delay="2ms")
    flow = network.requests(a, b, count=10, request=100, response=1000)
    network.run()
    head = 14 + 20 + 32
    trip = (wire_ns(head + 100, 1e7) + wire_ns(head + 1000, 1e7) + 4_000_000) / 1e9
    extra = wire_ns(head, 1e7) / 1e9  # ACKs of their own, at the beginning
    late = {round((one - trip) / extra, 6) for one in flow.latencies}
    assert len(flow.latencies) == 10 and {0.0} <= late <= {0.0, 1.0, 2.0}


def test_several_flows_do_not_mix(network: Network) -> None:
    a, b = two(network, rate="10Mbit")
    flows = [network.bulk(a, b, bytes=10_000 * (i + 1)) for i in range(5)]
    flows += [network.bulk(b, a, bytes=7)]
    network.run()
    assert [flow.moved for flow in flows] == [10_000, 20_000, 30_000, 40_000, 50_000, 7]


def test_who_has_no_address(network: Network) -> None:
    a, b = network.chain(2)
    with pytest.raises(UsageError, match="n1 has no IPv4 address"):
        network.bulk(a, b, bytes=1)


def test_checksum_is_rfc_1071s() -> None:
    # The example of RFC 1071, section 3: the sum is ddf2.
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF
    assert checksum(b"") == 0xFFFF and checksum(b"\xff\xff") == 0
    assert checksum(b"\x01") == checksum(b"\x01\0")
    data = bytes(range(256)) * 3
    total = checksum(data)
    assert checksum(data + total.to_bytes(2, "big")) == 0
