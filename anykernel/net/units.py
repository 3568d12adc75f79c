# SPDX-License-Identifier: GPL-2.0
"""Rates, times and probabilities, as people write them."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from anykernel.errors import UsageError

MAX_RATE = 10 * 10**12
"""Bits per second."""
MAX_DURATION = 24 * 3600 * 10**9
"""Nanoseconds."""

Number = int | float | Fraction | str

PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
RATES = {f"{prefix}bit".lower(): factor for prefix, factor in PREFIXES.items()}
TIMES = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
# Three digits of exponent would already be years of multiplication for nothing.
SPLIT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,2})?)\s*(.*)", re.I | re.A)

RATE_EXAMPLES = 'such as 1e6, "9.6kbit", "100Mbit/s" or "1Gbit"'
DURATION_EXAMPLES = 'such as 0.01 (seconds), "10ns", "100us", "1.5ms" or "2s"'
PROBABILITY_EXAMPLES = 'such as 0.01 or "1%"'


def _split(value: object, what: str, examples: str) -> tuple[Fraction, str]:
    """The exact number and the unit of `value`; numbers have the unit "".  Raises UsageError."""
    if isinstance(value, str):
        match = SPLIT.fullmatch(value.strip())
        if match is not None:
            return Fraction(match[1]), match[2]
    elif isinstance(value, int | float | Fraction) and not isinstance(value, bool):
        if not isinstance(value, float) or math.isfinite(value):
            return Fraction(value), ""
    elif hasattr(value, "item"):  # a scalar of numpy
        return _split(value.item(), what, examples)
    raise UsageError(f"{value!r} is no {what}: give one {examples}")


def rate(value: Number) -> int:
    """Bits per second, at least 1: a number, or text with bit, kbit, Mbit, Gbit or Tbit.

    A "/s" may follow; case doesn't matter and k is 1,000.  Raises UsageError, also for "bps", "b"
    and "B", which some tools take for bits and others (tc) for bytes.
    """
    number, unit = _split(value, "rate", RATE_EXAMPLES)
    factor = 1 if not unit else RATES.get(unit.lower().removesuffix("/s"))
    if factor is None:
        ambiguous = re.fullmatch(r"([kmgt]?)i?(b(ps|/s)?)?", unit, re.I)
        if ambiguous is not None:
            prefix = ambiguous[1].upper().replace("K", "k")
            digits = str(value).strip().removesuffix(unit).strip()
            raise UsageError(
                f"the rate {value!r} may mean bits or bytes (tc reads bps as bytes per second): "
                f'write "{digits}{prefix}bit" for bits per second'
            )
        raise UsageError(f"{unit!r} in {value!r} is no unit of a rate: give one {RATE_EXAMPLES}")
    bits = round(number * factor)
    if not 1 <= bits <= MAX_RATE:
        raise UsageError(f"a rate is 1 bit/s to 10 Tbit/s, not {value!r}: give one {RATE_EXAMPLES}")
    return bits


def duration(value: Number) -> int:
    """Nanoseconds, from 0 to a day: a number of seconds, or text with ns, us, ms, s or min.

    Raises UsageError, also for a time above zero that rounds to none.
    """
    number, unit = _split(value, "time", DURATION_EXAMPLES)
    factor = 10**9 if not unit else TIMES.get(unit)
    if factor is None:
        raise UsageError(f"{unit!r} in {value!r} is no unit of time: give one {DURATION_EXAMPLES}")
    ns = round(number * factor)
    if number < 0 or ns > MAX_DURATION:
        raise UsageError(f"a time is 0 to one day, not {value!r}: give one {DURATION_EXAMPLES}")
    if number and not ns:
        raise UsageError(f"{value!r} is no time: the clock counts whole nanoseconds")
    return ns


def probability(value: Number) -> float:
    """From 0 to 1: a number, or text with %.  Raises UsageError."""
    number, unit = _split(value, "probability", PROBABILITY_EXAMPLES)
    if unit not in ("", "%"):
        raise UsageError(f"{value!r} is no probability: give one {PROBABILITY_EXAMPLES}")
    number = number / 100 if unit else number
    if not 0 <= number <= 1:
        raise UsageError(
            f'a probability is 0 to 1, or "0%" to "100%", not {value!r}: '
            f"give one {PROBABILITY_EXAMPLES}"
        )
    return float(number)


def _text(value: int, units: tuple[tuple[str, int], ...]) -> str:
    """The largest unit in which `value` is at least 1, with all its digits."""
    name, factor = next((unit for unit in units if value >= unit[1]), units[-1])
    whole, rest = divmod(value, factor)
    digits = f"{rest:0{len(str(factor)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}{name}" if digits else f"{whole}{name}"


def rate_text(bits: int) -> str:
    """What rate() reads as `bits`: "100Mbit", "9.6kbit"."""
    return _text(bits, tuple((f"{name}bit", PREFIXES[name]) for name in ("T", "G", "M", "k", "")))


def duration_text(ns: int) -> str:
    """What duration() reads as `ns`: "1.5ms", "100us", "0s"."""
    if not ns:
        return "0s"
    return _text(ns, tuple((name, TIMES[name]) for name in ("s", "ms", "us", "ns")))
