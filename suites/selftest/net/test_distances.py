# SPDX-License-Identifier: GPL-2.0
"""A distance-vector table by RFC 2080's rules, without a network; messages there and back."""

from __future__ import annotations

from ipaddress import IPv6Network

import pytest

from anykernel.net import ripng
from anykernel.net.distances import INFINITY, Heard, Table, Timers

FAR, OWN = IPv6Network("fd00:1::/64"), IPv6Network("fd00:2::/64")
ONE, OTHER = "fe80::1", "fe80::2"
TIMERS = Timers()


@pytest.fixture
def table() -> Table:
    """Connected to OWN on device 1; ONE, on device 1, is 3 from FAR."""
    made = Table(TIMERS)
    made.connect(0, {OWN: 1})
    hear(made, 0, ONE, 3)
    made.told()
    return made


def hear(table: Table, now: float, sender: str, metric: int, ifindex: int = 1) -> None:
    table.hear(now, ifindex, [Heard(FAR, metric, sender)], sender, 1)


def test_better_ways_are_taken_and_worse_ones_are_not(table: Table) -> None:
    assert table.routes() == {FAR: (1, ONE)} and table.metric(FAR) == 4
    hear(table, 1, OTHER, 3, 2)
    assert table.routes() == {FAR: (1, ONE)} and not table.pending
    hear(table, 1, OTHER, 2, 2)
    assert table.routes() == {FAR: (2, OTHER)} and table.pending


def test_whom_one_follows_is_believed_bad_news_too(table: Table) -> None:
    hear(table, 1, ONE, 9)
    assert table.metric(FAR) == 10
    hear(table, 1, OTHER, INFINITY, 2)
    assert table.metric(FAR) == 10
    hear(table, 2, ONE, 15)
    assert table.metric(FAR) == INFINITY and table.routes() == {}
    hear(table, 3, OTHER, 14, 2)
    assert table.metric(FAR) == 15


def test_split_horizon_with_poisoned_reverse(table: Table) -> None:
    assert table.news(1, everything=True) == [(OWN, 1), (FAR, INFINITY)]
    assert table.news(2, everything=True) == [(OWN, 1), (FAR, 4)]
    assert table.news(2, everything=False) == []


def test_silence_ends_a_route_and_then_the_memory_of_it(table: Table) -> None:
    hear(table, 10, ONE, 3)
    assert table.due == 10 + TIMERS.timeout
    table.tick(table.due - 1)
    assert table.metric(FAR) == 4
    table.tick(table.due)
    assert table.metric(FAR) == INFINITY and table.pending and len(table) == 2
    table.tick(table.due)
    assert len(table) == 1


def test_a_device_that_is_lost(table: Table) -> None:
    table.lose(1, 2)
    assert table.metric(FAR) == 4
    table.lose(1, 1)
    table.connect(1, {})
    assert (table.metric(FAR), table.metric(OWN)) == (INFINITY, INFINITY)
    table.connect(2, {OWN: 1})
    assert table.metric(OWN) == 1


def test_messages() -> None:
    message = ripng.pack(ripng.RESPONSE, [(FAR, 4), (OWN, 1)])
    assert len(message) == 4 + 2 * 20
    assert ripng.unpack(message, ONE) == (2, [Heard(FAR, 4, ONE), Heard(OWN, 1, ONE)])
    hop = ripng.ENTRY.pack(bytes.fromhex("fe80" + 13 * "00" + "09"), 0, 0, ripng.NEXT_HOP)
    assert ripng.unpack(message[:4] + hop + message[4:24], ONE)[1] == [Heard(FAR, 4, "fe80::9")]


@pytest.mark.parametrize(
    "entry",
    [
        ripng.ENTRY.pack(FAR.network_address.packed, 0, 129, 1),
        ripng.ENTRY.pack(FAR.network_address.packed, 0, 64, 17),
        ripng.ENTRY.pack(FAR.network_address.packed, 0, 64, 0),
        ripng.ENTRY.pack(FAR.network_address.packed, 0, 16, 1),
        ripng.ENTRY.pack(bytes.fromhex("ff02" + 14 * "00"), 0, 64, 1),
        b"short",
    ],
)
def test_entries_that_are_none(entry: bytes) -> None:
    message = bytes([ripng.RESPONSE, ripng.VERSION, 0, 0]) + entry
    assert ripng.unpack(message, ONE) == (2, [])
    assert ripng.unpack(b"\x02\x02\0\0" + entry, ONE) == (0, [])
