# SPDX-License-Identifier: GPL-2.0
"""Tests that need what a machine may lack: they are skipped there, and say what that is."""

from pathlib import Path

import pytest

from anykernel import proc
from anykernel.settings import settings


def needs(program: str) -> pytest.MarkDecorator:
    """A mark for a test, or for a module, that needs one of proc.OPTIONAL's programs."""
    reason = proc.absent(program)
    return pytest.mark.skipif(bool(reason), reason=reason or "it is installed")


curses = pytest.mark.skipif(
    not Path("/usr/include/ncurses.h").exists() or settings().hides("libncurses-dev"),
    reason="the kernel's menu needs curses' headers: apt-get install libncurses-dev",
)

HAS_KEYS = " ospke" in Path("/proc/cpuinfo").read_text() and not settings().hides("keys")
"""Protection keys, with which kernels can't write what isn't their own."""
keys = pytest.mark.skipif(
    not HAS_KEYS, reason="this CPU has no protection keys, or they are hidden"
)
