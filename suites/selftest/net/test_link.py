# SPDX-License-Identifier: GPL-2.0
"""Links, to the nanosecond: serialisation, delay, jitter, queues, chances, cuts, changes."""

from __future__ import annotations

from errno import ENOBUFS
from typing import TYPE_CHECKING, Any

import pytest

from suites.selftest.net.raw import Station, frame, frequency, gaps, mute, pair, wire_ns

if TYPE_CHECKING:
    from anykernel.net import Network

MANY = 4000
"""Frames whose fates are counted."""


@pytest.mark.parametrize("rate", ["9.6kbit", "1Mbit", "999999999", "10Gbit"])
@pytest.mark.parametrize("size", [18, 60, 61, 1514])
def test_serialisation_and_delay_are_exact(network: Network, rate: str, size: int) -> None:
    a, b = pair(network, rate=rate, delay="3us")
    begin = network.now
    a.send(1, 2, 3, size=size)
    network.run(10)
    bits = {"9.6kbit": 9600.0, "1Mbit": 1e6, "999999999": 999999999.0, "10Gbit": 1e10}[rate]
    one = wire_ns(size, bits)
    assert b.heard == [(begin + count * one + 3000, count) for count in (1, 2, 3)]
    assert a.port.sent["bytes"] == 3 * size and a.port.sent["frames"] == 3


def test_without_rate_only_the_delay_counts(network: Network) -> None:
    a, b = pair(network, delay="10ns")
    begin = network.now
    a.send(1, 2, size=1514)
    network.run(0.001)
    assert b.heard == [(begin + 10, 1), (begin + 10, 2)]


def test_both_ways_have_a_wire_of_their_own(network: Network) -> None:
    a, b = pair(network, rate="1Mbit")
    begin = network.now
    a.send(1)
    b.send(2)
    network.run(0.1)
    assert b.heard == [(begin + 672_000, 1)]
    assert a.heard == [(begin + 672_000, 2)]


def test_jitter_keeps_order_and_its_bounds(network: Network) -> None:
    a, b = pair(network, delay="1ms", jitter="400us")
    sent = []
    for number in range(500):
        sent.append(network.now)
        a.send(number)
        network.run(50e-6)
    network.run(0.1)
    assert b.numbers == list(range(500))
    late = [at - sent[number] for at, number in b.heard]
    assert min(gaps([at for at, _ in b.heard])) >= 0
    assert min(late) >= 600_000 and 1_300_000 < max(late) <= 1_400_000


def test_jitter_is_uniform_about_the_delay(network: Network) -> None:
    a, b = pair(network, delay="1ms", jitter="1ms")
    sent = []
    for number in range(400):  # far apart: the order asks nothing
        sent.append(network.now)
        a.send(number)
        network.run(0.01)
    late = [(at - then) / 1e6 for (at, _), then in zip(b.heard, sent, strict=True)]
    assert 0 <= min(late) < 0.05 and 1.95 < max(late) <= 2
    assert abs(sum(late) / len(late) - 1) < 5 * (2 / 12**0.5) / len(late) ** 0.5
    quarters = [sum(n / 2 <= one < (n + 1) / 2 for one in late) for n in range(4)]
    assert all(frequency(400, 0.25)(count) for count in quarters)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_queue_holds_exactly_so_many(network: Network, most: int) -> None:
    a, b = pair(network, rate="1Mbit", queue=most)
    a.send(*range(most + 5))
    network.run(1)
    assert b.numbers == list(range(most + 1))  # one is on the wire
    assert a.port.sent["queue full"] == 4
    assert a.port.sent["frames"] == most + 1
    a.send(100)
    network.run(1)
    assert b.numbers[-1] == 100


def test_queue_has_room_when_one_begins_to_leave(network: Network) -> None:
    a, b = pair(network, rate="1Mbit", queue=2)
    a.send(0, 1, 2, 3)  # 3 is one too many
    network.run(671e-6)
    a.send(4)  # 0 has not left yet
    network.run(1e-6)
    a.send(5)  # 1 begins now
    a.send(6)
    network.run(0.1)
    assert b.numbers == [0, 1, 2, 5]


def test_queue_that_shrinks_remembers_who_waits(network: Network) -> None:
    a, b = pair(network, rate="1Mbit", queue=4)
    a.send(0, 1, 2)  # two wait
    a.port.link.set(queue=3)
    a.send(3, 4)
    a.port.link.set(queue=1)
    a.send(5)
    network.run(0.1)
    assert b.numbers == [0, 1, 2, 3]


def backlog(station: Station) -> tuple[int, int]:
    """(packets that wait, dropped ones) of the device's queueing discipline, by netlink."""
    (found,) = [
        item
        for item in station.port.node.iproute.get_qdiscs()
        if item["index"] == station.netdev.ifindex
    ]
    stats = found.get_attr("TCA_STATS2").get_attr("TCA_STATS_QUEUE")
    return stats["qlen"], stats["drops"]


def test_the_kernels_own_queue_waits(network: Network) -> None:
    """A link without a queue limit drops nothing: the qdisc (pfifo_fast) is what fills up."""
    a, b = pair(network, room=1 << 22, rate="1Mbit")
    limit = int(a.port.node.read_text(f"/sys/class/net/{a.netdev.name}/tx_queue_len"))
    for number in range(limit + 200):
        try:
            a.send(number, size=1514)
        except OSError as error:
            if error.errno != ENOBUFS:  # that is the qdisc's no
                raise
    waiting, dropped = backlog(a)
    assert limit <= waiting <= limit + 1  # one may have been handed back by the device
    on_wire = limit + 200 - waiting - dropped
    assert 1 <= on_wire <= 4 and dropped > 100
    network.run(100)
    assert backlog(a) == (0, dropped)
    assert b.numbers == list(range(waiting + on_wire))
    assert a.port.sent["frames"] == waiting + on_wire
    assert sum(a.port.sent[what] for what in ("lost", "queue full", "dropped")) == 0
    one = wire_ns(1514, 1e6)
    assert set(gaps([at for at, _ in b.heard])) == {one}  # never idle


def fates(network: Network, **options: Any) -> list[tuple[int, int]]:
    a, b = pair(network, delay="1us", **options)
    for number in range(MANY):
        a.send(number)
        if number % 50 == 49:
            network.run(100e-6)
    network.run(1)
    return b.heard


@pytest.mark.parametrize("chance", [0.0, 0.02, 0.5, 1.0])
def test_loss(network: Network, chance: float) -> None:
    heard = fates(network, loss=chance)
    assert frequency(MANY, chance)(MANY - len(heard))
    (link,) = network.links
    assert link.statistics["lost"] == MANY - len(heard)
    assert (chance not in (0.0, 1.0)) or len(heard) == MANY * (1 - chance)


def test_loss_has_no_memory(network: Network) -> None:
    """Of two neighbours both are lost as often as chance squared says."""
    came = {number for _, number in fates(network, loss=0.3)}
    both = sum(n not in came and n + 1 not in came for n in range(0, MANY, 2))
    assert frequency(MANY // 2, 0.09)(both)


def test_duplicates(network: Network) -> None:
    heard = fates(network, duplicate="10%")
    numbers = [number for _, number in heard]
    assert sorted(set(numbers)) == list(range(MANY))
    assert frequency(MANY, 0.1)(len(numbers) - MANY)
    assert numbers == sorted(numbers)


def test_reordered_frames_come_later_by_as_much_as_was_said(network: Network) -> None:
    a, b = pair(network, delay="1ms", reorder=0.2, reorder_delay="700us")
    sent = {}
    for number in range(1000):
        sent[number] = network.now
        a.send(number)
        network.run(100e-6)
    network.run(1)
    late = [number for at, number in b.heard if at - sent[number] == 1_700_000]
    assert all(at - sent[n] == 1_000_000 for at, n in b.heard if n not in set(late))
    assert frequency(1000, 0.2)(len(late)) and len(b.heard) == 1000
    order = b.numbers
    for number in late[:100]:  # seven frames were sent meanwhile
        after = [n for n in order[: order.index(number)] if n > number]
        assert set(after) <= set(range(number + 1, number + 8))


def test_corruption_flips_one_bit_behind_the_addresses(network: Network) -> None:
    a, b = mute(network, "a", "b")
    link = network.link(a, b, corrupt=0.5)
    one, other = Station(link.port(a)), Station(link.port(b))
    sent = frame(other.mac, one.mac, 7, 100)
    for _ in range(1000):
        one.send_raw(sent)
    network.run(0.01)
    spoilt, where = 0, set()
    for got in other.all_received:
        assert got[:14] == sent[:14] and len(got) == 100
        wrong = int.from_bytes(got, "big") ^ int.from_bytes(sent, "big")
        assert wrong.bit_count() <= 1
        spoilt += wrong.bit_count()
        where.add(wrong.bit_length())
    assert frequency(1000, 0.5)(spoilt)
    assert len(where) > 300  # of 688 bits


def test_kernels_checksums_catch_corrupt_datagrams(network: Network) -> None:
    import socket

    a, b = mute(network, "a", "b")
    link = network.link(a, b, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    for one, other in ((a, b), (b, a)):
        mac = other.port(link).netdev.mac
        one.port(link).netdev.add_neighbour(f"10.0.0.{2 if one is a else 1}", mac)
    link.set(sender=a, corrupt=1)
    server = b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("10.0.0.2", 7))
    client = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    before = dict(b.snmp["Ip"]), dict(b.snmp["Udp"])
    server.setblocking(False)
    for number in range(400):
        client.sendto(number.to_bytes(2, "big") * 100, ("10.0.0.2", 7))
        network.run(0.001)
        with pytest.raises(BlockingIOError):
            server.recv(1000)
    ip, udp = b.snmp["Ip"], b.snmp["Udp"]
    assert udp["InDatagrams"] == before[1]["InDatagrams"]
    caught = udp["InCsumErrors"] - before[1]["InCsumErrors"]
    header = ip["InHdrErrors"] - before[0]["InHdrErrors"]
    # 160 of 1,824 bits are the IP header's.
    assert frequency(400, 160 / 1824)(header)
    assert caught + header <= 400 and caught > 300
    assert link.port(a).sent["corrupted"] == 400


def test_the_seed_decides(network: Network) -> None:
    begin = network.now
    first = fates(network, loss=0.1, duplicate=0.1, jitter="1us")
    trace = network.trace
    network.restore(0)
    assert network.now == begin and network.trace == 0
    assert fates(network, loss=0.1, duplicate=0.1, jitter="1us") == first
    assert network.trace == trace


def test_links_have_chances_of_their_own(network: Network) -> None:
    a, b = mute(network, "a", "b")
    came = []
    for _ in range(2):
        link = network.link(a, b, loss=0.5)
        one, other = Station(link.port(a)), Station(link.port(b))
        one.send(*range(64))
        other.send(*range(64))
        network.run(0.001)
        came += [tuple(one.numbers), tuple(other.numbers)]
    assert len(set(came)) == 4


def test_down_loses_what_is_under_way(network: Network) -> None:
    a, b = pair(network, rate="1Mbit", delay="10ms", queue=100)
    link = a.port.link
    a.send(1, 2)
    network.run(10.7e-3)  # the first has just arrived
    link.down()
    network.run(1)
    state = (a.netdev.carrier, b.netdev.carrier, link.is_up)
    assert state == (False, False, False)
    assert a.port.node.read_text(f"/sys/class/net/{a.netdev.name}/operstate") == "down\n"
    link.up()
    network.run(1)
    assert [one.netdev.carrier for one in (a, b)] == [True, True]
    assert b.numbers == [1]
    a.send(3)
    network.run(1)
    assert b.numbers == [1, 3]


def test_a_short_cut_loses_too(network: Network) -> None:
    a, b = pair(network, delay="10ms")
    a.send(1)
    with a.port.link.cut() as link:
        assert not link.is_up
    a.send(2)
    network.run(1)
    assert b.numbers == [2]
    with pytest.raises(ZeroDivisionError), link.cut():
        raise ZeroDivisionError
    assert (link.is_up, a.netdev.carrier) == (True, True)


def test_options_change_in_the_middle(network: Network) -> None:
    a, b = pair(network, rate="1Mbit", queue=10)
    link = a.port.link
    begin = network.now
    a.send(1)
    link.set(rate="2Mbit", delay="1ms")
    a.send(2)  # behind the first, which still leaves at its old rate
    network.run(1)
    assert b.heard == [(begin + 672_000, 1), (begin + 672_000 + 336_000 + 1_000_000, 2)]
    link.set(delay=0)
    link.set(rate=None)
    begin = network.now
    a.send(3)
    network.run(1)
    assert b.heard[-1] == (begin, 3)


def test_a_sender_may_have_options_of_its_own(network: Network) -> None:
    a, b = pair(network, rate="1Mbit")
    link = a.port.link
    link.set(sender=a.port.node, delay="5ms")
    link.set(sender="a", rate="2Mbit")  # and still the delay
    link.set(queue=5)  # for both; a keeps its own
    begin = network.now
    a.send(1)
    b.send(2)
    network.run(1)
    assert b.heard == [(begin + 336_000 + 5_000_000, 1)]
    assert a.heard == [(begin + 672_000, 2)]
    link.set(delay="1ms")  # what is said for all is for all
    begin = network.now
    a.send(3)
    network.run(1)
    assert b.heard[-1] == (begin + 336_000 + 1_000_000, 3)


def test_ends_count_what_they_send(network: Network) -> None:
    a, b = pair(network)
    a.send(1, 2, size=100)
    b.send(3, size=200)
    network.run(0.1)
    link = a.port.link
    assert (a.port.sent["frames"], a.port.sent["bytes"], a.port.sent["passed"]) == (2, 200, 2)
    assert (link.statistics["frames"], link.statistics["bytes"]) == (3, 400)


def test_a_cable_is_pulled_and_plugged_elsewhere(network: Network) -> None:
    a, b, c = mute(network, "a", "b", "c")
    link = network.link(a, b, rate="1Mbit", addresses=("10.0.0.1/24", "10.0.0.2/24"))
    one, other = Station(link.port(a), 1 << 20), Station(link.port(b))
    one.send(*range(100), size=1514)
    network.run(0.03)
    came = len(other.numbers)
    assert 0 < came < 4
    one.port.unplug()
    assert link.ports == [other.port] and a.ports == []
    assert a.read_text(f"/sys/class/net/{one.netdev.name}/carrier") == "0\n"
    network.run(1)
    assert len(other.numbers) == came
    other.port.unplug()
    second = network.link(b, c)
    hears = Station(second.port(c))
    second.port(b).unplug()
    port = second.plug(a, netdev=one.netdev, addresses="10.0.0.1/24")
    assert port.netdev is one.netdev
    assert a.read_text(f"/sys/class/net/{one.netdev.name}/carrier") == "1\n"
    network.run(1)
    Station(port).send(1000)
    network.run(1)
    assert hears.numbers[-1] == 1000  # its queue is not stuck
