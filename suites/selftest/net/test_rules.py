# SPDX-License-Identifier: GPL-2.0
"""Rules: verdicts about single frames, in their order and for as long as they last."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import UsageError
from anykernel.net import DOUBLE, DROP, PASS, Frame, Verdict, change, delay
from suites.selftest.net.raw import Station, frame, mute, number_of, pair, wire_ns

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network


def test_drop_and_double(network: Network) -> None:
    a, b = pair(network, delay="1us")
    fates: dict[int, Verdict | None] = {1: DROP, 2: DOUBLE, 3: PASS, 4: None}
    rule = a.port.link.rule(lambda one: fates[number_of(one.data)])
    a.send(1, 2, 3, 4)
    network.run(0.01)
    assert b.numbers == [2, 2, 3, 4] and rule.seen == 4
    assert a.port.sent["dropped"] == 1 and a.port.sent["frames"] == 4
    b.send(4)
    network.run(0.01)
    assert a.numbers == [4]


def test_a_delay_holds_back_one_frame_and_no_other(network: Network) -> None:
    a, b = pair(network, rate="1Mbit", queue=10)
    begin, one = network.now, wire_ns(60, 1e6)
    a.port.link.rule(lambda it: delay("5ms") if number_of(it.data) == 1 else PASS)
    a.send(1, 2, 3)
    network.run(1)
    assert b.heard == [
        (begin + one, 2),
        (begin + 2 * one, 3),
        (begin + 5_000_000 + one, 1),
    ]


def test_what_is_held_back_meets_the_link_as_it_is_then(network: Network) -> None:
    a, b = pair(network)
    link = a.port.link
    with link.rule(lambda _: delay(1)):
        a.send(1, 2)
        network.run(0)
    with link.cut():
        network.run(2)
    a.send(3)
    network.run(1)
    assert b.numbers == [3] and a.port.sent["link down"] == 2
    with link.rule(lambda _: delay(1)):
        a.send(4)
        network.run(0)
    a.port.unplug()
    network.run(2)
    assert b.numbers == [3]


def test_change(network: Network) -> None:
    a, b = pair(network, rate="1Mbit")
    begin = network.now
    long = frame(b.mac, a.mac, 9, 1000)
    a.port.link.rule(lambda _: change(long))
    a.send(1)
    network.run(0.1)
    assert b.all_received == [long]
    assert b.heard == [(begin + wire_ns(1000, 1e6), 9)]  # its own length counts
    for bad in (b"", bytes(65558)):
        with pytest.raises(UsageError, match="1 to 65557 bytes"):
            change(bad)


def test_rules_end_with_their_block(network: Network) -> None:
    a, b = pair(network)
    link = a.port.link
    a.send(0)
    with pytest.raises(ZeroDivisionError), link.rule(lambda _: DROP) as rule:
        fill(a)
    rule.remove()
    a.send(2)
    network.run(0.01)
    assert b.numbers == [0, 2]


def fill(a: Station) -> None:
    a.send(1)
    a.port.link.network.run(0.01)
    raise ZeroDivisionError


def test_a_rule_may_remove_itself(network: Network) -> None:
    a, b = pair(network)

    def once(_: Frame) -> Verdict:
        rule.remove()
        return DROP

    rule = a.port.link.rule(once)
    a.send(1)
    network.run(0.01)
    a.send(2, 3)
    network.run(0.01)
    assert b.numbers == [2, 3]


def test_the_first_that_objects_decides(network: Network) -> None:
    a, b = pair(network)
    link = a.port.link
    asked: list[str] = []

    def says(name: str, verdict: Verdict | None) -> Any:
        def decide(_: Frame) -> Verdict | None:
            asked.append(name)
            return verdict

        return decide

    link.rule(says("none", None))
    link.rule(says("pass", PASS))
    link.rule(says("other way", DROP), sender="b")
    with link.rule(says("double", DOUBLE)):
        link.rule(says("drop", DROP), sender=a.port.node)
        a.send(1)
        network.run(0.01)
        assert asked == ["none", "pass", "double"] and b.numbers == [1, 1]
    a.send(2)
    network.run(0.01)
    assert asked[3:] == ["none", "pass", "drop"] and b.numbers == [1, 1]


def test_what_a_rule_sees(network: Network) -> None:
    from scapy.layers.inet import ICMP, IP

    a, b = mute(network, "a", "b")
    link = network.link(a, b, delay="1ms", addresses=("10.0.0.1/24", "10.0.0.2/24"))
    seen = []

    def look(one: Frame) -> Verdict:
        if ICMP in one:
            seen.append((one.sender.name, one[IP].dst, one.time_ns, one.port.node is one.sender))
        return PASS

    link.rule(look)
    network.ping(a, b, count=1)
    network.run()
    assert [row[:2] for row in seen] == [("a", "10.0.0.2"), ("b", "10.0.0.1")]
    assert seen[1][2] - seen[0][2] == 1_000_000 and seen[0][3]


def test_an_error_in_a_rule_is_the_tests(network: Network) -> None:
    a, b = pair(network)
    start = network.snapshot()
    numbers = []

    def fails(one: Frame) -> Verdict:
        numbers.append(number_of(one.data))
        raise ZeroDivisionError(f"frame {numbers[-1]}")

    rule = a.port.link.rule(fails)
    a.send(1, 2)
    for number in (1, 2):  # each frame is asked about once, and is dropped then
        with pytest.raises(ZeroDivisionError, match=f"frame {number}"):
            network.run(0.01)
    rule.remove()
    a.send(3)
    network.run(0.01)
    assert b.numbers == [3]
    network.restore(start)
    assert a.port.link.rules == ()
    again = Station(a.port), Station(b.port)
    again[0].send(4)
    network.run(0.01)
    assert again[1].numbers == [4]


@pytest.mark.parametrize("verdict", [True, "drop", 5, b"bytes"])
def test_a_rule_that_says_nonsense(network: Network, verdict: Any) -> None:
    a, b = pair(network)
    with a.port.link.rule(lambda _: verdict):
        a.send(1)
        with pytest.raises(UsageError, match=r"a rule of a-b said .* it returns PASS"):
            network.run(0.01)
    a.send(2)
    network.run(0.01)
    assert b.numbers == [2]


def udp(network: Network) -> tuple[Any, Any]:
    a, b = mute(network, "a", "b")
    network.link(a, b, delay="1ms", addresses=("10.0.0.1/24", "10.0.0.2/24"))
    server = b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("10.0.0.2", 7))
    client = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return client, server


def test_rules_are_asked_in_calls_of_the_test_itself(network: Network) -> None:
    client, server = udp(network)
    (link,) = network.links
    rule = link.rule(lambda one: delay("10ms") if b"slow" in one.data else PASS)
    client.sendto(b"slow", ("10.0.0.2", 7))
    begin = network.now
    assert server.recv(10) == b"slow"
    assert network.now == begin + 2_000_000 + 11_000_000  # ARP first
    assert rule.seen == 3


def test_an_error_in_a_rule_ends_the_call_that_waits(network: Network) -> None:
    client, server = udp(network)
    (link,) = network.links

    def fails(one: Frame) -> Verdict:
        if b"bad" in one.data:
            raise ZeroDivisionError
        return PASS

    rule = link.rule(fails)
    client.sendto(b"bad", ("10.0.0.2", 7))
    with pytest.raises(ZeroDivisionError):
        server.recv(10)
    rule.remove()
    client.sendto(b"good", ("10.0.0.2", 7))
    assert server.recv(10) == b"good"  # its process is not stuck in the first call


def test_a_rule_that_waits_for_a_kernel(network: Network) -> None:
    client, server = udp(network)
    (link,) = network.links
    server.settimeout(1)

    def waits(_: Frame) -> Verdict:
        server.recv(10)
        return PASS

    link.rule(waits)
    client.sendto(b"x", ("10.0.0.2", 7))
    with pytest.raises(UsageError, match="rule"):
        network.run(1)


def test_rules_hold_for_stations_that_come_later(network: Network) -> None:
    nodes = mute(network, "a", "b", "c")
    link = network.segment(*nodes[:2])
    link.rule(lambda _: DROP)
    late = Station(link.plug(nodes[2]))
    early = Station(link.port("a"))
    late.send(1)
    network.run(0.01)
    assert early.numbers == []


def test_rules_and_programs(network: Network) -> None:
    a, b = network.chain(2, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    (link,) = network.links
    lost: list[bool] = []

    def every_third(one: Frame) -> Verdict:
        if b"number" not in one.data:
            return PASS
        lost.append(len(lost) % 3 == 2)
        return DROP if lost[-1] else PASS

    def server(process: Process) -> list[bytes]:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("10.0.0.2", 7))
        sock.settimeout(1)
        got = []
        try:
            while True:
                got.append(sock.recv(100))
        except TimeoutError:
            return got

    def client(process: Process) -> None:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for i in range(9):
            sock.sendto(b"number %d" % i, ("10.0.0.2", 7))
            network.sleep(0.01)

    link.rule(every_third)
    got = network.start(server, on=b)
    network.start(client, on=a)
    network.run()
    assert got.result == [b"number %d" % i for i in range(9) if i % 3 != 2]
