# SPDX-License-Identifier: GPL-2.0
"""Rates, times and probabilities: what people write, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.net.units import (
    MAX_DURATION,
    MAX_RATE,
    duration,
    duration_text,
    probability,
    rate,
    rate_text,
)


@pytest.mark.parametrize(
    ("value", "bits"),
    [
        (1, 1),
        (1e9, 10**9),
        (Fraction(3, 2), 2),
        ("1000", 1000),
        ("1e6", 10**6),
        ("1bit", 1),
        ("9.6kbit", 9600),
        (" 100 Mbit/s ", 10**8),
        ("1Gbit", 10**9),
        ("1gbit", 10**9),
        (".5Tbit", 5 * 10**11),
        ("10Tbit/s", MAX_RATE),
    ],
)
def test_rates(value: Any, bits: int) -> None:
    assert rate(value) == bits


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (0, 0),
        (1, 10**9),
        (0.1, 10**8),
        (1.1e-6, 1100),
        ("0", 0),
        ("0ms", 0),
        ("10ns", 10),
        ("100us", 10**5),
        ("1.5ms", 1_500_000),
        ("2 s", 2 * 10**9),
        ("1e-3s", 10**6),
        ("24", 24 * 10**9),
        ("1440min", MAX_DURATION),
    ],
)
def test_durations(value: Any, ns: int) -> None:
    assert duration(value) == ns


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), (1, 1), (0.25, 0.25), ("1%", 0.01), ("12.5 %", 0.125), ("0.5", 0.5), ("100%", 1)],
)
def test_probabilities(value: Any, number: float) -> None:
    assert probability(value) == number


BAD: list[Any] = [
    None, True, "", "x", "-", "1 2", "1e999999999", float("nan"), float("inf"), -float("inf"),
    "nan", "inf", -1, "-1", 10**400, [1], b"1", "1,5", "0x10",
]  # fmt: skip


@pytest.mark.parametrize("read", [rate, duration, probability])
@pytest.mark.parametrize("value", BAD)
def test_no_quantities(read: Callable[[Any], object], value: Any) -> None:
    with pytest.raises(UsageError, match="such as"):
        read(value)


@pytest.mark.parametrize("value", [0, "0bit", "0.4", 10**13 + 1, "11Tbit", "1Mibit", "5ms", "3s"])
def test_impossible_rates(value: Any) -> None:
    with pytest.raises(UsageError, match="such as"):
        rate(value)


@pytest.mark.parametrize(
    ("value", "instead"),
    [
        ("10Mbps", "10Mbit"),
        ("10 Mbps", "10Mbit"),
        ("1.5kB/s", "1.5kbit"),
        ("1Gb", "1Gbit"),
        ("100M", "100Mbit"),
        ("8b", "8bit"),
        ("8bps", "8bit"),
        ("1MiB/s", "1Mbit"),
    ],
)
def test_bits_or_bytes(value: str, instead: str) -> None:
    with pytest.raises(UsageError, match=f'may mean bits or bytes.*write "{instead}"'):
        rate(value)


@pytest.mark.parametrize("value", [86401, "25h", "1 day", "2000min", "-1ms", "1m", "1MS"])
def test_impossible_durations(value: Any) -> None:
    with pytest.raises(UsageError, match="such as"):
        duration(value)


def test_a_time_of_less_than_the_clock_counts() -> None:
    with pytest.raises(UsageError, match="whole nanoseconds"):
        duration("0.1ns")


@pytest.mark.parametrize("value", [1.01, "101%", "-1%", 50, "1/2", "1 in 3"])
def test_impossible_probabilities(value: Any) -> None:
    with pytest.raises(UsageError, match=r'0\.01 or "1%"'):
        probability(value)


def test_a_scalar_of_numpy() -> None:
    values: Any = [numpy.float32(1000), numpy.int64(2)]
    assert [rate(values[0]), duration(values[1])] == [1000, 2 * 10**9]


@given(st.integers(1, MAX_RATE))
def test_rates_back_and_forth(bits: int) -> None:
    assert rate(rate_text(bits)) == rate(f"{rate_text(bits)}/s") == rate(bits) == bits


@given(st.integers(0, MAX_DURATION))
def test_durations_back_and_forth(ns: int) -> None:
    assert duration(duration_text(ns)) == duration(Fraction(ns, 10**9)) == ns


@given(st.text(max_size=12))
def test_no_text_is_another_error(text: str) -> None:
    for read in (rate, duration, probability):
        try:
            read(text)
        except UsageError:
            continue


def test_short_texts() -> None:
    assert [rate_text(n) for n in (1, 9600, 10**8, 2_500_000_000)] == [
        "1bit",
        "9.6kbit",
        "100Mbit",
        "2.5Gbit",
    ]
    assert [duration_text(n) for n in (0, 10, 1_500_000, 10**9)] == ["0s", "10ns", "1.5ms", "1s"]
