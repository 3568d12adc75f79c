# SPDX-License-Identifier: GPL-2.0
"""A program on a terminal of its own, used as a person would."""

from __future__ import annotations

import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from fcntl import ioctl

ENOUGH = 120
"""Seconds in which a program answers on a busy machine."""
QUIET = 1.5
"""Seconds after which one that says nothing waits for a key."""
ROWS, COLUMNS = 40, 120


class Terminal:
    """Runs `argv`; a context manager that ends it.

    setsid: it has the terminal, so that Ctrl-C is for it alone.
    output: its stdout goes to this pipe or file instead.
    """

    def __init__(
        self, argv: Sequence[str], *, setsid: bool = True, output: int | None = None, **env: str
    ) -> None:
        self._fd, its = pty.openpty()
        ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv] if setsid else argv,
            stdin=its,
            stdout=its if output is None else output,
            stderr=its,
            env={**os.environ, **env},
        )
        os.close(its)

    def _read(self) -> str:
        return os.read(self._fd, 65536).decode(errors="replace")

    def until(self, *texts: str) -> str:
        """What it says until all of `texts` stood there.  Raises OSError when it ends before."""
        said, end = "", time.monotonic() + ENOUGH
        while not all(text in said for text in texts):
            left = max(0, end - time.monotonic())
            assert select.select([self._fd], [], [], left)[0], f"{texts} not in {said!r}"
            said += self._read()
        return said

    def heard(self, quiet: float = QUIET) -> str:
        """What it says until it is quiet for so many seconds, or has ended."""
        said = ""
        while select.select([self._fd], [], [], quiet)[0]:
            try:
                said += self._read()
            except OSError:
                break
        return said

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def interrupt(self) -> None:
        """Ctrl-C until Python's prompt is back: it may miss one that comes just before it waits
        for a key."""
        said, end = "", time.monotonic() + ENOUGH
        while "KeyboardInterrupt" not in said or ">>> " not in said.rpartition("Interrupt")[2]:
            assert time.monotonic() < end, said
            self.press("\x03")
            said += self.heard(1)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)
        self.process.kill()
        self.process.wait()
