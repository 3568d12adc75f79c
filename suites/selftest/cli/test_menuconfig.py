# SPDX-License-Identifier: GPL-2.0
"""`anykernel menuconfig`: the kernel's own menu, used as a person would, and what it saves."""

from __future__ import annotations

from pathlib import Path

import pytest

from anykernel.build import kconfig
from anykernel.kernel import Kernel
from suites.selftest.cli.test_commands import MAIN, fails
from suites.selftest.optional import curses
from suites.selftest.terminal import ENOUGH, Terminal


def of(kernel: Kernel) -> tuple[str, str]:
    return "--source", kernel.image.source


def leave_out(kernel: Kernel, fragment: Path, symbol: str, title: str) -> None:
    """Finds a symbol, sets it to n, leaves the menu and saves."""
    argv = [*MAIN, "menuconfig", *of(kernel), str(fragment)]
    with Terminal(argv, TERM="xterm") as menu:
        menu.until("elect")  # a button, with its first letter in another colour
        menu.heard()
        menu.press("/")
        menu.heard()
        menu.press(f"{symbol}\r")
        menu.until(f"Symbol: {symbol}")
        menu.heard()
        menu.press("1")
        menu.until(title)
        menu.heard()
        menu.press("n")
        menu.heard()
        for _ in range(12):
            menu.press("\x1b\x1b")
            if "wish" in menu.heard():  # Do you wish to save ...?
                break
        menu.press("\r")
        menu.until("values that differ from the flavour default")
        assert menu.process.wait(ENOUGH) == 0


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
