# SPDX-License-Identifier: GPL-2.0
"""Makes text that a kernel (or a packet, or a task's name) chose safe for a terminal."""

from __future__ import annotations

import re

CONTROL = re.compile(
    # Of ASCII all but tab and newline, those of ISO 6429 above it, and what turns text around.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def visible(text: str) -> str:
    """`text` with control characters as they are written in Python: ESC is \\x1b."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
