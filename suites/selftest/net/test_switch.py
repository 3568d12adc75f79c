# SPDX-License-Identifier: GPL-2.0
"""Segments, where all hear all and one sends at a time, and switches, which learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from suites.selftest.net.raw import BROADCAST, NOBODY, Station, frame, mute, wire_ns

if TYPE_CHECKING:
    from anykernel.net import Network
    from anykernel.net.link import Link


def shared(network: Network, kind: str, count: int, **options: Any) -> tuple[Link, list[Station]]:
    nodes = mute(network, *"abcdefgh"[:count])
    link = getattr(network, kind)(*nodes, **options)
    return link, [Station(port) for port in link.ports]


def test_all_on_a_segment_hear_all_but_themselves(network: Network) -> None:
    _, (a, b, c) = shared(network, "segment", 3, delay="1us")
    a.send(1, to=b.mac)
    c.send(2)
    network.run(0.01)
    assert (a.numbers, b.numbers, c.numbers) == ([2], [1, 2], [1])


def test_one_sends_at_a_time(network: Network) -> None:
    link, (a, b, c) = shared(network, "segment", 3, rate="1Mbit")
    begin, one = network.now, wire_ns(60, 1e6)
    a.send(1)
    b.send(2)
    a.send(3)
    c.send(4)
    network.run(0.1)
    assert c.heard == [(begin + one, 1), (begin + 2 * one, 2), (begin + 3 * one, 3)]
    assert a.heard == [(begin + 2 * one, 2), (begin + 4 * one, 4)]
    assert link.statistics["frames"] == 4


def test_a_segment_is_full_for_all(network: Network) -> None:
    _, (a, b, c) = shared(network, "segment", 3, rate="1Mbit", queue=2)
    a.send(0, 1, 2, 3)  # 0 is sent, two wait, 3 is dropped
    b.send(10, 11, 12)  # the medium is busy: two wait
    network.run(0.1)
    assert c.numbers == [0, 1, 2, 10, 11]


def test_a_switch_floods_what_it_does_not_know_and_learns(network: Network) -> None:
    link, (a, b, c) = shared(network, "switch", 3)
    a.send(1, to=b.mac)  # unknown: flooded
    network.run(0.01)
    b.send(2, to=a.mac)
    network.run(0.01)
    a.send(3, to=b.mac)
    a.send(4)
    a.send(5, to=NOBODY)
    a.send(6, to=b"\x33\x33\0\0\0\x01")
    network.run(0.01)
    assert b.numbers == [1, 3, 4, 5, 6]
    assert c.numbers == [1, 4, 5, 6]
    assert a.numbers == [2]
    assert [port.received["frames"] for port in link.ports] == [1, 5, 4]


def test_a_switch_stores_and_forwards(network: Network) -> None:
    _, (a, b) = shared(network, "switch", 2, rate="1Mbit", delay="1ms")
    begin, one = network.now, wire_ns(100, 1e6)
    a.send(1, 2, size=100)
    network.run(0.1)
    assert b.heard == [(begin + 2 * one + 2_000_000, 1), (begin + 3 * one + 2_000_000, 2)]


def test_stations_are_forgotten_after_300_seconds(network: Network) -> None:
    _, (a, b, c) = shared(network, "switch", 3)
    b.send(0)
    learnt = network.now
    network.run(0.001)
    c_before = len(c.numbers)
    network.run((learnt + 299_999_999_999 - network.now) / 1e9)
    a.send(1, to=b.mac)
    network.run(0)
    assert c.numbers[c_before:] == []
    network.run(1e-9)
    a.send(2, to=b.mac)
    network.run(0.001)
    assert c.numbers[c_before:] == [2] and b.numbers == [1, 2]


def test_a_station_moves(network: Network) -> None:
    link, (a, b, c) = shared(network, "switch", 3)
    b.send(0)
    network.run(0.01)
    b.port.unplug()
    a.send(1, to=b.mac)  # flooded now, and lost
    network.run(0.01)
    assert c.numbers == [0, 1] and b.numbers == []
    again = link.plug("b", netdev=b.netdev)
    a.send(2, to=b.mac)  # the switch doesn't know yet where it is
    network.run(0.01)
    Station(again).send(3)
    network.run(0.01)
    a.send(4, to=b.mac)
    network.run(0.01)
    assert b.numbers == [2, 4] and c.numbers == [0, 1, 2, 3]


def test_an_address_that_moves_is_learnt_anew(network: Network) -> None:
    _, (a, b, c) = shared(network, "switch", 3)
    b.send_raw(frame(BROADCAST, NOBODY, 1))
    network.run(0.01)
    c.send_raw(frame(BROADCAST, NOBODY, 2))
    network.run(0.01)
    a.send(3, to=NOBODY)
    network.run(0.01)
    assert b.numbers == [2] and c.numbers == [1, 3]


def test_frames_to_where_they_come_from_go_nowhere(network: Network) -> None:
    _, (a, b) = shared(network, "switch", 2)
    a.send_raw(frame(BROADCAST, NOBODY, 1))
    network.run(0.01)
    a.send(2, to=NOBODY)
    network.run(0.01)
    assert b.numbers == [1]


@pytest.mark.parametrize("sender", [BROADCAST, b"\x01\0\x5e\0\0\1", bytes(6)])
def test_nobody_has_a_group_address(network: Network, sender: bytes) -> None:
    """Also when it is the first that the switch ever sees."""
    _, (a, b, c) = shared(network, "switch", 3)
    a.send_raw(frame(NOBODY, sender, 1))
    a.send_raw(frame(b.mac, sender, 2))
    network.run(0.01)
    b.send_raw(frame(sender, b.mac, 3))
    network.run(0.01)
    assert a.numbers == [3] and c.numbers == [1, 2, 3]


def test_a_switch_learns_very_many(network: Network) -> None:
    _, (a, b, c) = shared(network, "switch", 3)
    for i in range(1000):
        b.send_raw(frame(a.mac, b"\x02\xbb" + i.to_bytes(4, "big"), i))
    network.run(0.01)
    before = len(c.numbers)
    for i in range(1000):
        a.send(i, to=b"\x02\xbb" + i.to_bytes(4, "big"))
    network.run(0.01)
    assert b.numbers == list(range(1000))
    assert len(c.numbers) == before


def test_cables_of_a_switch_have_queues(network: Network) -> None:
    """Two fast senders, one slow receiver: all but what the switch may hold is dropped."""
    link, (a, b, c) = shared(network, "switch", 3, rate="1Gbit", queue=10)
    link.set(sender="c", rate="1Mbit")
    a.send(*range(10))
    b.send(*range(100, 110))
    network.run(1)
    assert link.port("c").received["queue full"] == 20 - 11
    assert len(c.numbers) == 11
    assert link.port("a").received["queue full"] == 0


def test_corruption_on_one_cable_is_that_cables(network: Network) -> None:
    link, (a, b, c) = shared(network, "switch", 3)
    link.set(sender="b", corrupt=1)
    sent = frame(BROADCAST, a.mac, 1, 100)
    for _ in range(20):
        a.send_raw(sent)
    network.run(0.01)
    assert c.all_received == [sent] * 20
    assert len(b.all_received) == 20 and sent not in b.all_received


def test_a_switch_that_is_down_forwards_nothing(network: Network) -> None:
    link, (a, b) = shared(network, "switch", 2, delay="1ms")
    a.send(1)
    network.run(1.5e-3)  # in the switch's cable to b
    with link.cut():
        network.run(0.01)
    a.send(2)
    network.run(0.01)
    assert b.numbers == [2]
