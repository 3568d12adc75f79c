# SPDX-License-Identifier: GPL-2.0
"""What a kernel complained of, on half a screen: its words, its stack, the line of the test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anykernel.kernel.log import LogRecord

WORDS = 6
FRAMES = 8
BEHIND = 60
"""Lines behind a warning's first one in which its stack is."""


def complaint(name: str, kernel: Any, failures: Sequence[LogRecord]) -> str:
    """The text of a KernelWarning.  `failures`: the records of its log that say so; there may be
    none where the kernel was told not to print them."""
    who = f"the kernel{f' of node {name}' if name else ''}"
    noticed = kernel.instance.life.noticed
    lines = [f"{who} complained during this test:"]
    log = kernel.log[:]
    if not failures and noticed:
        count = sum(one.times for one in noticed)
        lines[0] = f"{who} warned during this test ({count} x), but not in its log:"
        log, why = _own_buffer(kernel)
        lines += why
        failures = [record for record in log if record.is_failure]
    elif not failures:
        lines[0] = f"{who} printed more than could be kept, perhaps complaints:"
    lines += [f"  {record}" for record in failures[:WORDS]]
    if len(failures) > WORDS:
        lines.append(f"  ... and {len(failures) - WORDS} more lines")
    if noticed:
        lines += [f"at {place}: {place.source}" for place in noticed[0].places[:2]]
    lines += _stack(kernel, log, failures)
    if kernel.log.lost:
        lines.append(
            f"{kernel.log.lost} bytes of its log are lost: it printed more at once than can be "
            "kept (512 KiB), and what it complained of may be among them"
        )
    lines.append("If that is expected: @pytest.mark.kernel(allow_warnings=True)")
    return "\n".join(lines)


def _own_buffer(kernel: Any) -> tuple[list[LogRecord], list[str]]:
    """The records of the kernel's own buffer, and what to say of them: with `quiet` or
    kernel.printk, its console is told less."""
    from anykernel.kernel.log import own_buffer

    try:
        found = own_buffer(kernel)
    except Exception as error:  # of a kernel that is not well
        return [], [f"  (its own buffer can't be read: {type(error).__name__}: {error})"]
    level = "its console is told little (quiet, kernel.printk); from its own buffer:"
    if not any(record.is_failure for record in found):
        return found, ["  (nor is it in its own buffer any more)"]
    return found, [f"  ({level})"]


def _stack(kernel: Any, log: Sequence[LogRecord], failures: Sequence[LogRecord]) -> list[str]:
    from anykernel.link.stacks import of_log, shown

    for failure in failures:
        at = next((n for n, record in enumerate(log) if record is failure), None)
        if at is None:
            continue
        texts = [str(record) for record in log[at : at + BEHIND]]
        instance = kernel.instance
        frames = of_log(texts, kernel.image, instance.image_base, instance.loaded.describe)
        if frames:
            found = shown(frames, kernel.image.tree, FRAMES)
            return ["stack (innermost first):", *(f"  {line}" for line in found)]
    return []
