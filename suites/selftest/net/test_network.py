# SPDX-License-Identifier: GPL-2.0
"""Snapshots of networks: all comes back, as often as wanted; what was made since is gone."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykernel.errors import KernelCrash, UsageError
from anykernel.net import DOUBLE, DROP, PASS, delay
from suites.selftest.net.raw import Station, crash, mute, pair

if TYPE_CHECKING:
    from anykernel.net import Network


def test_frames_under_way_arrive_after_each_restore(network: Network) -> None:
    a, b = pair(network, rate="1Mbit", delay="10ms", jitter="5ms", loss=0.3, duplicate=0.3)
    a.send(*range(20))
    network.run(0.012)
    number = network.snapshot()
    lives = []
    for _ in range(3):
        network.restore(number)
        begin, heard = network.now, Station(b.port)
        Station(a.port).send(100, 101)
        network.run(1)
        lives.append((begin, heard.heard, network.trace, a.port.sent))
    assert lives[0] == lives[1] == lives[2]
    assert {100, 101} & set(heard.numbers) and len(heard.numbers) > 5


def test_frames_that_wait_for_a_verdict_are_saved(network: Network) -> None:
    a, b = pair(network)
    rule = a.port.link.rule(lambda _: DOUBLE)
    a.send(1, 2, 3)
    number = network.snapshot()
    rule.remove()
    for _ in range(2):
        network.restore(number)
        heard = Station(b.port)
        network.run(0.01)
        assert heard.numbers == [1, 1, 2, 2, 3, 3]


def test_what_was_made_since_is_gone(network: Network) -> None:
    a, b = pair(network)
    link, start = a.port.link, network.snapshot()
    c = network.node("c")
    other = network.link("a", c, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    link.set(loss=1)
    rule = link.rule(lambda _: DROP)
    segment = network.segment("a", "b")
    link.down()
    a.port.unplug()
    network.restore(start)
    assert list(network.nodes) == ["a", "b"] and network.links == (link,)
    assert link.ports == [a.port, b.port] and a.port.plugged
    assert (a.port.node.ports, b.port.node.ports) == ([a.port], [b.port])
    assert link.is_up and link.rules == () and link.cable.loss == 0
    rule.remove()
    with pytest.raises(UsageError, match="no node <Node c"):
        network.link("a", c)
    with pytest.raises(UsageError):
        segment.port("c")
    heard = Station(b.port)
    Station(a.port).send(5)
    network.run(0.01)
    assert heard.numbers == [5]
    again = network.link("a", network.node("c"), addresses=("10.0.0.1/24", "10.0.0.2/24"))
    assert again.number == other.number and again is not other
    network.ping("a", "c", count=1)
    network.run()


def test_snapshots_nest(network: Network) -> None:
    """Also with nodes that only the inner one has."""
    mute(network, "a", "b")
    network.link("a", "b", addresses=("10.0.0.1/24", "10.0.0.2/24"))
    first = network.snapshot()
    a = network.nodes["a"]
    a.sysctl["net.ipv4.ip_default_ttl"] = 101
    (c,) = mute(network, "c")
    c.sysctl["net.ipv4.ip_default_ttl"] = 33
    network.link("b", "c", addresses=("10.0.1.1/24", "10.0.1.2/24"))
    second = network.snapshot()
    a.sysctl["net.ipv4.ip_default_ttl"] = 102
    c.sysctl["net.ipv4.ip_default_ttl"] = 34
    third = network.snapshot()
    assert (first, second, third) == (1, 2, 3)
    c.sysctl["net.ipv4.ip_default_ttl"] = 35
    network.restore(third)
    assert [int(n.sysctl["net.ipv4.ip_default_ttl"]) for n in (a, c)] == [102, 34]
    for _ in range(2):
        network.restore(second)
        assert [int(n.sysctl["net.ipv4.ip_default_ttl"]) for n in (a, c)] == [101, 33]
        ping = network.ping("b", "c", count=1)
        network.run()
        assert ping.lost == 0
    with pytest.raises(UsageError, match="no snapshot 3: there are 2"):
        network.restore(third)
    network.restore(first)
    assert int(a.sysctl["net.ipv4.ip_default_ttl"]) == 64
    assert list(network.nodes) == ["a", "b"]
    (c,) = mute(network, "c")
    assert int(c.sysctl["net.ipv4.ip_default_ttl"]) == 64
    assert network.snapshot() == 2
    network.restore(2)


def test_programs_cannot_be_saved_and_end_at_a_restore(network: Network) -> None:
    (a,) = mute(network, "a")
    start = network.snapshot()
    ended = []

    def waits(process: Any) -> None:
        try:
            network.sleep(100)
        finally:
            ended.append(network.now)

    program = network.start(waits, on=a)
    with pytest.raises(UsageError, match="before they start"):
        network.snapshot()
    network.run(1)
    network.restore(start)
    assert len(ended) == 1
    with pytest.raises(InterruptedError):
        _ = program.result
    network.run()
    assert network.snapshot() == 2


def test_a_crashed_node_lives_again(network: Network) -> None:
    a, b = network.chain(2, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    start = network.snapshot()
    for _ in range(2):
        with pytest.raises(KernelCrash, match="n1"):
            crash(b)
        network.restore(start)
        ping = network.ping(a, b, count=2)
        network.run()
        assert ping.lost == 0


def test_an_empty_network_begins_like_the_first(network: Network) -> None:
    def life() -> tuple[Any, ...]:
        begin = network.now
        a, b = network.chain(2, rate="1Mbit", loss=0.1, addresses=("10.0.0.1/24", "10.0.0.2/24"))
        network.bulk(a, b, bytes=30_000)
        network.run()
        return begin, network.now, network.trace, a.printed, len(a.log.text())

    first = life()
    for _ in range(2):
        network.restore(0)
        assert (network.trace, network.nodes, network.links) == (0, {}, ())
        assert life() == first


def test_a_capture_goes_on_after_a_restore(network: Network) -> None:
    a, _ = pair(network)
    start = network.snapshot()
    with a.port.link.capture() as found:
        a.send(1, size=1000)
        network.restore(start)
        Station(a.port).send(2, size=1000)
        inside = network.snapshot()
    network.restore(inside)
    network.restore(start)
    assert [len(one.data) for one in found] == [1000, 1000]
    with network.link("a", "b").capture():
        network.restore(0)  # the link is gone when the capture ends


MOVES = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 30)),
    st.tuples(st.just("run"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("set"), st.sampled_from(["loss", "duplicate", "corrupt"]), st.just(0)),
    st.tuples(
        st.just("rate"), st.sampled_from([None, "1Mbit", "1Gbit"]), st.sampled_from([None, 2])
    ),
    st.tuples(st.just("cut"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("rule"), st.sampled_from([DROP, PASS, DOUBLE, delay("1ms")]), st.just(0)),
    st.tuples(st.just("replug"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("udp"), st.integers(0, 1), st.integers(1, 2000)),
)


def play(network: Network, moves: list[tuple[str, Any, Any]], stop: int | None) -> list[int]:
    """The trace after each move; at `stop` the network is saved, spoilt and restored."""
    nodes = mute(network, "a", "b", "c")
    links = [
        network.switch(*nodes, rate="10Mbit", jitter="10us"),
        network.link("a", "b", delay="1ms", addresses=("10.0.0.1/24", "10.0.0.2/24")),
    ]
    traces = []
    for position, (what, which, more) in enumerate(moves):
        if position == stop:
            number = network.snapshot()
            Station(links[0].port("a")).send(7, 8, 9)
            links[1].down()
            network.run(0.1)
            network.restore(number)
        if what == "send":
            Station(links[0].port("abc"[which])).send(*range(more))
        elif what == "run":
            network.run(10**which / 1e6)
        elif what == "set":
            links[0].set(sender=None, **{str(which): 0.3})
        elif what == "rate":
            links[0].set(rate=which, queue=more)
        elif what == "cut":
            links[which].down()
            network.run(1e-4)
            links[which].up()
        elif what == "rule":
            links[0].rule(lambda _, verdict=which: verdict)  # type: ignore[misc]
        elif what == "replug":
            port = links[0].port("abc"[which])
            port.unplug()
            network.run(1e-4)
            links[0].plug(port.node, netdev=port.netdev)
        else:
            sock = nodes[which].socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.sendto(bytes(more), (f"10.0.0.{2 - which}", 9))
            sock.close()
        traces.append(network.trace)
    network.run(1)
    return [*traces, network.trace, network.now]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(moves=st.lists(MOVES, min_size=1, max_size=12), data=st.data())
def test_any_sequence_gives_the_same_trace_twice(
    network: Network, moves: list[tuple[str, Any, Any]], data: st.DataObject
) -> None:
    """And also when there is a snapshot, another future, and a restore in the middle."""
    first = play(network, moves, None)
    network.restore(1)
    assert play(network, moves, None) == first
    network.restore(1)
    stop = data.draw(st.integers(0, len(moves) - 1))
    assert play(network, moves, stop) == first


@pytest.mark.kernel(components=["net-ipv4"])
def test_nodes_of_some_components(network: Network) -> None:
    nodes = network.chain(4, delay="1ms")
    network.address()
    network.route()
    ping = network.ping(nodes[0], nodes[-1], count=2)
    flow = network.bulk(nodes[0], nodes[-1], bytes=1_000_000)
    network.run()
    assert ping.lost == 0
    assert flow.moved == 1_000_000
    assert not nodes[0].os.exists("/proc/net/if_inet6")


@pytest.mark.kernel(memory=256 << 20)
def test_more_memory_gives_larger_windows(network: Network) -> None:
    """Linux bounds TCP's buffers by a machine's memory (tcp_init_mem()): over 20 hops, with a
    round trip of 4 ms, 64 MiB don't fill 1 Gbit/s."""
    nodes = network.chain(20, rate="1Gbit", delay="100us")
    network.address()
    network.route()
    flow = network.bulk(nodes[0], nodes[-1], bytes=20_000_000)
    network.run()
    assert flow.goodput > 700e6
