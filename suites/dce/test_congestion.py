# SPDX-License-Identifier: GPL-2.0
"""DCE's comparison of TCP's congestion controls (dce-cubic, dce-iperf) on a dumbbell.

Reno halves its window at a loss (RFC 5681), CUBIC keeps seven tenths of it (RFC 9438), both fill
the bottleneck's queue; BBR keeps it short and shrugs at random losses; equal flows share equally.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.net import Network
    from anykernel.net.link import Link
    from anykernel.net.node import Node
    from anykernel.net.topology import Dumbbell
    from anykernel.net.traffic import Bulk

RATE = 10e6
LINE = RATE * 1448 / 1538
DELAY = 0.010
"""Of the bottleneck; the access links have 1 ms each."""
RTT = 2 * (DELAY + 2 * 0.001)
FRAME = 1538 * 8 / RATE
"""Seconds that a full frame takes on the bottleneck."""
PIPE = RTT / FRAME
"""Full frames on their way when the bottleneck is busy and its queue empty."""
QUEUE = 40


def dumbbell(network: Network, pairs: int, queue: int | None = QUEUE) -> Dumbbell[Node, Link]:
    net = network.dumbbell(
        pairs, pairs, rate="1Gbit", delay="1ms",
        bottleneck={"rate": RATE, "delay": DELAY, "queue": queue},
    )  # fmt: skip
    network.address()
    network.route()
    return net


def need(node: Node, *algorithms: str) -> None:
    """Skips where the kernel has not all of them."""
    there = node.sysctl["net.ipv4.tcp_available_congestion_control"].split()
    for one in algorithms:
        if one not in there:
            pytest.skip(f"this kernel has no {one}: there are {', '.join(there)}")


def alone(network: Network, algorithm: str, seconds: float = 20) -> Bulk:
    """One flow through the bottleneck."""
    net = dumbbell(network, 1)
    need(net.left[0], algorithm)
    flow = network.bulk(
        net.left[0], net.right[0], seconds=seconds, congestion=algorithm, sample=0.010
    )
    network.run()
    return flow


def steady(flow: Bulk, field: str) -> list[float]:
    """A curve without its first five seconds."""
    begin = flow.began_ns / 1e9 + 5
    return [value for seconds, value in flow.curve(field) if seconds > begin]


def drops(flow: Bulk) -> list[tuple[float, float]]:
    """(window at a loss, window behind it), of each recovery in steady state.

    While TCP recovers, the window shrinks step by step (proportional rate reduction, RFC 6937):
    it is looked at before (ca_state Open or Disorder) and behind that.
    """
    begin = flow.began_ns / 1e9 + 5
    found: list[tuple[float, float]] = []
    before = 0.0
    recovering = False
    for seconds, info in flow.samples:
        if seconds < begin:
            continue
        if info["ca_state"] >= 2:
            recovering = True
            continue
        if recovering and before:
            found.append((before, float(info["snd_ssthresh"])))
        recovering = False
        before = float(info["snd_cwnd"])
    return found


@pytest.mark.parametrize(("algorithm", "beta"), [("reno", 0.5), ("cubic", 0.7)])
def test_the_sawtooth(network: Network, algorithm: str, beta: float) -> None:
    flow = alone(network, algorithm)
    assert flow.goodput == pytest.approx(LINE, rel=0.05), "the queue is never empty for long"
    found = drops(flow)
    assert len(found) >= 3
    for before, after in found:
        assert after == pytest.approx(beta * before, rel=0.05, abs=1)
        # It is full when it is lost: pipe, queue, and what comes in the round trip until then.
        assert PIPE + QUEUE - 5 < before < PIPE + QUEUE + 10
    assert flow.info["total_retrans"] < 0.02 * flow.info["data_segs_out"]


def test_reno_grows_by_one_segment_per_round_trip(network: Network) -> None:
    """RFC 5681, equation 3; delayed ACKs don't slow it (appropriate byte counting, RFC 3465)."""
    flow = alone(network, "reno")
    begin = flow.began_ns / 1e9 + 5
    teeth: list[list[tuple[float, float, float]]] = [[]]
    for seconds, info in flow.samples:
        if seconds < begin:
            continue
        if info["ca_state"]:
            teeth.append([])
        else:
            teeth[-1].append((seconds, info["snd_cwnd"], info["rtt"] / 1e6))
    whole = [tooth for tooth in teeth[1:-1] if len(tooth) > 50]
    assert whole
    for tooth in whole:
        rounds = sum((t2 - t1) / rtt for (t1, _, rtt), (t2, _, _) in pairwise(tooth))
        grown = tooth[-1][1] - tooth[0][1]
        assert grown == pytest.approx(rounds, rel=0.12)


def test_bbr_keeps_the_queue_short(network: Network) -> None:
    filled = QUEUE * FRAME
    rtts = {}
    for algorithm in ("reno", "cubic", "bbr"):
        flow = alone(network, algorithm)
        found = sorted(steady(flow, "rtt"))
        rtts[algorithm] = found[len(found) // 2] / 1e6
        assert flow.goodput > 0.9 * LINE
        network.restore(0)
    for algorithm in ("reno", "cubic"):
        assert rtts[algorithm] > RTT + 0.5 * filled
        assert rtts[algorithm] < RTT + filled + 5 * FRAME
    assert RTT < rtts["bbr"] < RTT + 0.25 * filled


def test_bbr_looks_for_the_shortest_round_trip(network: Network) -> None:
    """ProbeRTT: four segments for 200 ms, once in ten seconds."""
    flow = alone(network, "bbr", 32)
    low = [seconds for seconds, info in flow.samples if info["snd_cwnd"] <= 4]
    starts = [low[0], *(y for x, y in pairwise(low) if y - x > 1)]
    assert len(starts) >= 2
    for x, y in pairwise(starts):
        assert y - x == pytest.approx(10, abs=1)
    assert len(low) * 0.010 == pytest.approx(0.2 * len(starts), rel=0.35)
    assert flow.info["min_rtt"] == pytest.approx(RTT * 1e6, rel=0.15)


@pytest.mark.parametrize("algorithm", ["reno", "cubic"])
def test_equal_flows_share_equally(network: Network, algorithm: str) -> None:
    """Jain's index, (sum x)^2 / (n sum x^2), of four flows that begin one after the other."""
    net = dumbbell(network, 4)
    need(net.left[0], algorithm)
    begin = network.seconds
    flows = [
        network.bulk(a, b, seconds=40, congestion=algorithm, at=begin + 0.3 * index)
        for index, (a, b) in enumerate(zip(net.left, net.right, strict=True))
    ]
    network.run()
    rates = [flow.goodput for flow in flows]
    assert sum(rates) == pytest.approx(LINE, rel=0.05)
    jain = sum(rates) ** 2 / (4 * sum(rate**2 for rate in rates))
    assert jain > 0.8


def test_a_shorter_round_trip_gets_more(network: Network) -> None:
    """Reno's well-known unfairness (RFC 5681's window per round trip): the control that the
    index above could fail."""
    net = dumbbell(network, 2)
    for node in (net.left[1], net.right[1]):
        node.ports[0].link.set(delay="40ms")
    begin = network.seconds
    near, far = (
        network.bulk(a, b, seconds=30, congestion="reno", at=begin + 0.3 * index)
        for index, (a, b) in enumerate(zip(net.left, net.right, strict=True))
    )
    network.run()
    assert near.goodput > 1.5 * far.goodput


@pytest.mark.parametrize("loss", [0.01, 0.02])
def test_bbr_does_not_take_random_loss_for_congestion(network: Network, loss: float) -> None:
    """Reno's rate is bound by MSS / RTT * sqrt(3/2) / sqrt(p) (Mathis et al., 1997)."""
    a, b = network.chain(2, rate=RATE, delay="30ms", queue=100)
    need(a, "reno", "bbr")
    network.address()
    network.links[0].set(sender=a, loss=loss)
    goodput = {}
    for algorithm in ("reno", "bbr"):
        flow = network.bulk(a, b, seconds=20, congestion=algorithm)
        network.run()
        goodput[algorithm] = flow.goodput
    mathis = 1448 * 8 / 0.060 * (1.5 / loss) ** 0.5
    assert 0.5 * mathis < goodput["reno"] < 1.3 * mathis
    assert goodput["bbr"] > 0.8 * LINE
    assert goodput["bbr"] > 3 * goodput["reno"]
