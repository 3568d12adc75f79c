# SPDX-License-Identifier: GPL-2.0
"""`anykernel menuconfig`: the kernel's own menu, used as a person would, and what it saves."""

from __future__ import annotations

import os
import pty
import select
import struct
import subprocess
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest

from anykernel.build import kconfig
from anykernel.kernel import Kernel
from suites.selftest.cli.test_commands import MAIN, fails
from suites.selftest.optional import curses

ENOUGH = 120
QUIET = 1.5
"""Seconds after which a menu that says nothing waits for a key."""


def of(kernel: Kernel) -> tuple[str, str]:
    return "--source", kernel.image.source


class Menu:
    """The command on a terminal of its own."""

    def __init__(self, kernel: Kernel, fragment: Path) -> None:
        self.terminal, its = pty.openpty()
        ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            [*("setsid", "--ctty", "--wait"), *MAIN, "menuconfig", *of(kernel), str(fragment)],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(its)

    def until(self, text: str) -> None:
        said, end = "", time.monotonic() + ENOUGH
        while text not in said:
            left = max(0, end - time.monotonic())
            assert select.select([self.terminal], [], [], left)[0], f"{text} not in {said!r}"
            said += os.read(self.terminal, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def heard(self) -> str:
        """What it says until it is quiet, or has ended."""
        said = ""
        while select.select([self.terminal], [], [], QUIET)[0]:
            try:
                said += os.read(self.terminal, 65536).decode(errors="replace")
            except OSError:
                break
        return said

    def close(self) -> None:
        os.close(self.terminal)
        self.process.kill()
        self.process.wait()


def leave_out(kernel: Kernel, fragment: Path, symbol: str, title: str) -> None:
    """Finds a symbol, sets it to n, leaves the menu and saves."""
    menu = Menu(kernel, fragment)
    try:
        menu.until("elect")  # a button, with its first letter in another colour
        menu.heard()
        menu.type("/")
        menu.heard()
        menu.type(f"{symbol}\r")
        menu.until(f"Symbol: {symbol}")
        menu.heard()
        menu.type("1")
        menu.until(title)
        menu.heard()
        menu.type("n")
        menu.heard()
        for _ in range(12):
            menu.type("\x1b\x1b")
            if "wish" in menu.heard():  # Do you wish to save ...?
                break
        menu.type("\r")
        menu.until("values that differ from the flavour default")
        assert menu.process.wait(ENOUGH) == 0
    finally:
        menu.close()


@pytest.mark.slow
@curses
def test_a_choice_is_saved_as_a_flavour(kernel: Kernel, tmp_path: Path) -> None:
    mine = tmp_path / "my.config"
    leave_out(kernel, mine, "NET_SCH_RED", "andom Early")
    assert mine.read_text() == "# CONFIG_NET_SCH_RED is not set\n"
    found = {one.symbol: one.value for one in kconfig.requests(str(mine))}
    assert found["NET_SCH_RED"] == "n" and found["NET"] == "y"
    # The next choice adds to it, and what was there is kept beside it.
    mine.write_text("# mine\n# CONFIG_NET_SCH_RED is not set\n")
    leave_out(kernel, mine, "NET_SCH_SFQ", "tochastic")
    assert sorted(mine.read_text().splitlines()) == [
        "# CONFIG_NET_SCH_RED is not set",
        "# CONFIG_NET_SCH_SFQ is not set",
    ]
    assert (tmp_path / "my.config.old").read_text().startswith("# mine\n")


def test_what_can_not_be(tmp_path: Path) -> None:
    assert "a fragment's name ends in .config" in fails("menuconfig", str(tmp_path / "mine"))
    assert "the menu needs a terminal" in fails("menuconfig", str(tmp_path / "mine.config"))
