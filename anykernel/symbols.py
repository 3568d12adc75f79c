# SPDX-License-Identifier: GPL-2.0
"""Kconfig values as a user writes them on a command line or in an ini file."""

from __future__ import annotations

import re
from collections.abc import Iterable

from anykernel.errors import UsageError


def assignments(items: Iterable[str]) -> dict[str, str]:
    """Values by symbol of `NET_SCH_FQ=y` and the like, as a command line and an ini file have
    them; the last of a symbol counts.  Raises UsageError for what is none."""
    found = {}
    for item in items:
        symbol, equals, value = item.strip().partition("=")
        symbol = symbol.removeprefix("CONFIG_")
        if not (equals and re.fullmatch(r"\w+", symbol) and re.fullmatch(r"[^\n]+", value)):
            raise UsageError(f"{item!r}: write SYMBOL=VALUE, as in NET_SCH_FQ=y")
        found[symbol] = value
    return found
