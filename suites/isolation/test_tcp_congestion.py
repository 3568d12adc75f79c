# SPDX-License-Identifier: GPL-2.0
"""How TCP's window grows and shrinks: Reno against RFC 5681, CUBIC against RFC 9438."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.typed import Pointer
    from anykernel.unit import Unit

C = 0.4
BETA = 0.7
"""RFC 9438, sections 4.1 and 4.6; the kernel has 410/1024 and 717/1024."""
CLOSE = 0.002
"""The relative error of these, and of the cubic root of large numbers."""
FOREVER = 2**31 - 1

WINDOWS = st.integers(2, 100_000)


@pytest.fixture
def u(unit: Callable[..., Unit]) -> Unit:
    made = unit("net/ipv4/tcp_cubic.c", "net/ipv4/tcp_cong.c", with_=["kernel/time/time.c"])
    if "register_btf_kfunc_id_set" in made.mocks:
        made.mock("register_btf_kfunc_id_set").returns(0)
    assert made.cubictcp_register() == 0  # works out the constants
    return made


def connection(u: Unit, cwnd: int, **fields: Any) -> Pointer:
    """A TCP socket that sends as much as its window allows."""
    usual = {"snd_cwnd": cwnd, "snd_ssthresh": FOREVER, "snd_cwnd_clamp": FOREVER}
    return u.new("struct tcp_sock", **{**usual, "is_cwnd_limited": 1, **fields})


# Reno


@settings(max_examples=120, deadline=None)
@given(cwnd=WINDOWS, acked=st.integers(1, 5000), ssthresh=WINDOWS, clamp=WINDOWS)
def test_slow_start_adds_what_was_acknowledged(
    u: Unit, cwnd: int, acked: int, ssthresh: int, clamp: int
) -> None:
    ssthresh = max(ssthresh, cwnd)  # else it is no slow start
    tp = connection(u, cwnd, snd_ssthresh=ssthresh, snd_cwnd_clamp=clamp)
    left = u.tcp_slow_start(tp, acked)
    assert tp.snd_cwnd == min(cwnd + acked, ssthresh, clamp)
    # What is beyond the threshold is for congestion avoidance.
    assert left == max(0, cwnd + acked - ssthresh)


@settings(max_examples=80, deadline=None)
@given(cwnd=st.integers(2, 2000), rounds=st.integers(1, 6))
def test_slow_start_doubles_the_window_each_round_trip(u: Unit, cwnd: int, rounds: int) -> None:
    tp = connection(u, cwnd)
    for _ in range(rounds):
        u.tcp_reno_cong_avoid(tp, 0, tp.snd_cwnd)
    assert tp.snd_cwnd == cwnd << rounds


@settings(max_examples=80, deadline=None)
@given(cwnd=st.integers(2, 500), cuts=st.lists(st.integers(0, 500), max_size=20))
def test_avoidance_adds_one_segment_per_window(u: Unit, cwnd: int, cuts: list[int]) -> None:
    tp = connection(u, cwnd, snd_ssthresh=2)
    # One window is acknowledged, in pieces, and none before the last completes it.
    edges = sorted({0, cwnd, *(cut for cut in cuts if cut < cwnd)})
    seen = []
    for before, after in pairwise(edges):
        u.tcp_reno_cong_avoid(tp, 0, after - before)
        seen.append(tp.snd_cwnd)
    assert seen == [cwnd] * (len(seen) - 1) + [cwnd + 1]
    assert tp.snd_cwnd_cnt == 0


@settings(max_examples=80, deadline=None)
@given(
    cwnd=st.integers(2, 3000),
    clamp=st.integers(2, 4000),
    ssthresh=st.integers(2, 3000),
    acks=st.lists(st.integers(1, 300), min_size=1, max_size=30),
)
def test_reno_never_grows_faster_than_the_rfc(
    u: Unit, cwnd: int, clamp: int, ssthresh: int, acks: list[int]
) -> None:
    clamp = max(clamp, cwnd)
    tp = connection(u, cwnd, snd_ssthresh=ssthresh, snd_cwnd_clamp=clamp)
    credit = 0.0  # by RFC 5681, equations 2 and 3, segment by segment
    ideal = cwnd
    for size in acks:
        before = tp.snd_cwnd
        acked = min(size, before)  # there is never more than a window on its way
        u.tcp_reno_cong_avoid(tp, 0, acked)
        assert before <= tp.snd_cwnd <= clamp
        for _ in range(acked):
            if ideal < ssthresh:
                ideal += 1
                continue
            credit += 1 / ideal
            if credit >= 1 - 1e-9:
                ideal, credit = ideal + 1, 0.0
        assert tp.snd_cwnd <= min(ideal + 1, clamp)
    if ideal < clamp:
        assert tp.snd_cwnd >= ideal - 1


@settings(max_examples=40, deadline=None)
@given(cwnd=WINDOWS, acked=st.integers(1, 100), slow=st.booleans())
def test_an_unused_window_does_not_grow(u: Unit, cwnd: int, acked: int, slow: bool) -> None:
    ssthresh = FOREVER if slow else 2
    tp = connection(u, cwnd, is_cwnd_limited=0, snd_ssthresh=ssthresh, max_packets_out=cwnd // 2)
    u.tcp_reno_cong_avoid(tp, 0, acked)
    u.cubictcp_cong_avoid(tp, 0, acked)
    assert (tp.snd_cwnd, tp.snd_cwnd_cnt) == (cwnd, 0)


@settings(max_examples=60, deadline=None)
@given(cwnd=st.integers(1, 100_000), prior=st.integers(0, 100_000))
def test_reno_halves_and_undoes(u: Unit, cwnd: int, prior: int) -> None:
    tp = connection(u, cwnd, prior_cwnd=prior)
    assert u.tcp_reno_ssthresh(tp) == max(cwnd // 2, 2)
    assert u.tcp_reno_undo_cwnd(tp) == max(cwnd, prior)
    assert tp.snd_cwnd == cwnd, "neither changes anything itself"


def test_algorithms_are_registered_by_name(u: Unit) -> None:
    found = u.tcp_ca_find("cubic")
    assert found == u.cubictcp
    assert found.name.string() == "cubic"
    assert not u.tcp_ca_find("reno")
    assert u.tcp_register_congestion_control(u.tcp_reno) == 0
    assert u.tcp_ca_find("reno") == u.tcp_reno
    assert u.tcp_register_congestion_control(u.cubictcp) == -errno.EEXIST
    u.cubictcp_unregister()
    assert not u.tcp_ca_find("cubic")
    useless = u.new("struct tcp_congestion_ops", name="useless", ssthresh=u.tcp_reno_ssthresh)
    assert u.tcp_register_congestion_control(useless) == -errno.EINVAL
    u.mock("synchronize_rcu").assert_called_once_with()


# CUBIC


def cubic_state(u: Unit, tp: Pointer) -> Pointer:
    return u.at(int(tp.inet_conn.icsk_ca_priv), "struct bictcp")


def jiffies(u: Unit) -> Pointer:
    return u.at(u.jiffies_64, "unsigned long")


def hz(u: Unit) -> int:
    """A macro, so asked of a function that divides by it."""
    return int(u["__usecs_to_jiffies"](1_000_000))


@settings(max_examples=300, deadline=None)
@given(bits=st.integers(1, 63), data=st.data())
def test_cubic_root(u: Unit, bits: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(1 << (bits - 1), (1 << bits) - 1))
    exact = number ** (1 / 3)
    # From 2^30 on, which is all that it is used for, it is as exact as it says.
    assert abs(u.cubic_root(number) - exact) <= 1.1 + CLOSE * exact
    for near in (round(exact) ** 3, round(exact) ** 3 - 1):
        if 2**30 <= near < 2**63:
            assert u.cubic_root(near) == pytest.approx(round(exact), rel=CLOSE)


@settings(max_examples=100, deadline=None)
@given(cwnd=st.integers(1, 1_000_000), largest=st.integers(0, 1_000_000), fast=st.booleans())
def test_cubic_keeps_seven_tenths(u: Unit, cwnd: int, largest: int, fast: bool) -> None:
    tp = connection(u, cwnd)
    ca = cubic_state(u, tp)
    ca.last_max_cwnd, ca.epoch_start = largest, 12345
    u.fast_convergence.value = fast
    ssthresh = u.cubictcp_recalc_ssthresh(tp)
    assert ssthresh == max(2, cwnd * 717 // 1024)
    assert ssthresh == pytest.approx(BETA * cwnd, rel=CLOSE, abs=2)
    # RFC 9438, section 4.7: a flow that didn't get as far as the last time leaves room.
    expected = cwnd * (1 + BETA) / 2 if fast and cwnd < largest else cwnd
    assert ca.last_max_cwnd == pytest.approx(expected, rel=CLOSE, abs=1)
    assert ca.epoch_start == 0, "a new epoch begins"


def window(seconds: float, largest: int, k: float) -> float:
    """RFC 9438, figure 1: W_cubic(t) = C * (t - K)^3 + W_max."""
    return C * (seconds - k) ** 3 + largest


def steps(cwnd: int, target: float) -> float:
    """Acknowledgements per segment of growth to get from a window to another in a round trip."""
    return cwnd / (target - cwnd) if target > cwnd else math.inf


@settings(max_examples=250, deadline=None)
@given(
    largest=st.integers(20, 50_000),
    reduced=st.floats(0.3, 0.99),
    seconds=st.floats(0.1, 60),
)
def test_cubic_grows_as_its_function(u: Unit, largest: int, reduced: float, seconds: float) -> None:
    cwnd = max(4, int(largest * reduced))
    tp = connection(u, cwnd, snd_ssthresh=2)
    ca = cubic_state(u, tp)
    ca.last_max_cwnd = largest
    u.tcp_friendliness.value = 0
    u.cubictcp_cong_avoid(tp, 0, 1)
    tp.snd_cwnd = cwnd
    k = math.cbrt((largest - cwnd) / C)
    assert ca.bic_K / 1024 == pytest.approx(k, rel=2 * CLOSE, abs=0.002)

    ticks = round(seconds * hz(u))
    jiffies(u).value += ticks
    seconds = ticks / hz(u)
    u.cubictcp_cong_avoid(tp, 0, 1)
    # Time is in 1/1024 s there, windows in segments; C and K as exact as they are.
    ends = [
        largest + (C * (1 + 2 * c)) * (seconds + t - k * (1 + r)) ** 3 + w
        for c in (-CLOSE, CLOSE)
        for t, r, w in ((-0.002, 2 * CLOSE, -1.1), (0.002, -2 * CLOSE, 1.1))
    ]
    assert min(ends) <= window(seconds, largest, k) <= max(ends)
    most, least = steps(cwnd, min(ends)), steps(cwnd, max(ends))
    # At most half a segment per acknowledgement; almost none above the target.
    assert max(2, math.floor(min(least, 100 * cwnd))) <= ca.cnt <= max(2, min(most, 100 * cwnd))


@settings(max_examples=60, deadline=None)
@given(largest=st.integers(100, 20_000), data=st.data())
def test_cubic_is_concave_then_convex(u: Unit, largest: int, data: st.DataObject) -> None:
    cwnd = data.draw(st.integers(largest // 2, largest - 20))
    u.tcp_friendliness.value = 0
    k = math.cbrt((largest - cwnd) / C)
    distances = []
    for seconds in (0.2 * k, 0.6 * k, k, 1.6 * k, 2.2 * k):
        tp = connection(u, cwnd, snd_ssthresh=2)
        ca = cubic_state(u, tp)
        ca.last_max_cwnd = largest
        u.cubictcp_cong_avoid(tp, 0, 1)
        jiffies(u).value += max(1, round(seconds * hz(u)))
        tp.snd_cwnd = cwnd
        u.cubictcp_cong_avoid(tp, 0, 1)
        distances.append(ca.cnt)
    assert distances == sorted(distances, reverse=True), "the longer, the faster"


@settings(max_examples=60, deadline=None)
@given(cwnd=st.integers(10, 400), rounds=st.integers(2, 9), part=st.integers(5, 10))
def test_cubic_is_not_slower_than_reno(u: Unit, cwnd: int, rounds: int, part: int) -> None:
    """RFC 9438, section 4.3: W_est grows by alpha = 3 (1 - beta) / (1 + beta) per window."""
    tp = connection(u, cwnd, snd_ssthresh=2)
    ca = cubic_state(u, tp)
    ca.last_max_cwnd = 1_000_000  # so far away that the function itself stands still
    acked = 0
    while acked < rounds * cwnd:
        tp.snd_cwnd, tp.snd_cwnd_cnt = cwnd, 0
        jiffies(u).value += hz(u)
        u.cubictcp_cong_avoid(tp, 0, part)
        acked += part
    alpha = 3 * (1 - BETA) / (1 + BETA)
    grown = ca.tcp_cwnd - cwnd
    assert grown == pytest.approx(alpha * acked / cwnd, rel=0.02, abs=1.2)
    if grown:
        assert ca.cnt <= max(2, cwnd // grown)


@settings(max_examples=60, deadline=None)
@given(idle=st.integers(1, 100_000), before=st.integers(1, 10_000))
def test_idle_time_is_no_time_of_an_epoch(u: Unit, idle: int, before: int) -> None:
    now = jiffies(u).value & 0xFFFFFFFF
    tp = connection(u, 10, lsndtime=(now - idle) & 0xFFFFFFFF)
    ca = cubic_state(u, tp)
    ca.epoch_start = (now - idle - before) & 0xFFFFFFFF
    event = u.constant("CA_EVENT_TX_START")
    if hasattr(u, "cubictcp_cwnd_event"):
        u.cubictcp_cwnd_event(tp, event)
    else:
        u.cubictcp_cwnd_event_tx_start(tp)
    assert (now - ca.epoch_start) & 0xFFFFFFFF == before


@settings(max_examples=60, deadline=None)
@given(rtts=st.lists(st.integers(-1, 200_000), min_size=1, max_size=20))
def test_cubic_remembers_the_shortest_round_trip(u: Unit, rtts: list[int]) -> None:
    tp = connection(u, 10, snd_ssthresh=2)
    for rtt in rtts:
        u.cubictcp_acked(tp, u.new("struct ack_sample", pkts_acked=1, rtt_us=rtt))
    known = [max(1, rtt) for rtt in rtts if rtt >= 0]
    assert cubic_state(u, tp).delay_min == min(known, default=0)
    u.cubictcp_state(tp, u.constant("TCP_CA_Loss"))
    assert cubic_state(u, tp).delay_min == 0
