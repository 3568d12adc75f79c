# SPDX-License-Identifier: GPL-2.0
"""Times as people give them, in nanoseconds of a kernel's clock."""

from __future__ import annotations

import math

from anykernel.errors import UsageError

YEARS = 200
MOST = YEARS * 365 * 86_400 * 10**9
"""The last moment (ns since boot) that tests may come to: ktime_t, whose 63 bits also count the
time of day, ends a little later."""


def nanoseconds(seconds: float, what: str = "the time", begin: int = 0) -> int:
    """`seconds`, which pass from the moment `begin` (ns) on, in ns.

    Raises UsageError, which says `what` is wrong, for what is no number, negative or without end,
    and for what ends after MOST.
    """
    value = _number(seconds, what)
    if value < 0:
        raise UsageError(f"{what} can't be negative ({seconds} s)")
    if begin + value * 1e9 > MOST:
        raise UsageError(
            f"{what} is too long ({seconds} s): a kernel's clock goes on for {YEARS} years after "
            f"its boot ({MOST // 10**9} s)"
        )
    return round(value * 1e9)


def timeout_ns(seconds: float | None, begin: int = 0) -> int | None:
    """A timeout in ns; None where there is none, or none that could pass before the clock ends.
    A negative one has passed.  Raises UsageError for what is no number."""
    if seconds is None:
        return None
    value = _number(seconds, "a timeout")
    return None if begin + value * 1e9 > MOST else round(max(value, 0) * 1e9)


def _number(seconds: object, what: str) -> float:
    try:
        value = math.nan if isinstance(seconds, str | bytes) else float(seconds)  # type: ignore[arg-type]
    except OverflowError:
        value = math.inf
    except (TypeError, ValueError):
        value = math.nan
    if math.isnan(value):
        raise UsageError(f"{what} is a number of seconds, not {seconds!r}")
    return value
