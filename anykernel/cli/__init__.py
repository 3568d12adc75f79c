# SPDX-License-Identifier: GPL-2.0
"""The `anykernel` command."""

from __future__ import annotations

import contextlib
import os
import sys


def main() -> None:
    """Entry point: our own errors are one clear message, not a traceback."""
    _open_streams()
    try:
        from anykernel.cli.commands import cli
        from anykernel.errors import AnykernelError

        try:
            cli.main(prog_name="anykernel")
        except AnykernelError as error:
            _fail(str(error))
    except OSError as error:  # the terminal is gone, the disk under stdout is full
        _fail(str(error))
    except KeyboardInterrupt:  # before click was there to say it
        _fail("interrupted")


def _fail(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may listen
        print(f"anykernel: {text}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at its end, and say so
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def _open_streams() -> None:
    """A caller may have closed stdin, stdout or stderr: no file of ours may get their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            assert os.open(os.devnull, os.O_RDWR) == number
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
