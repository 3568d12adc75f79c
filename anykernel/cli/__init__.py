# SPDX-License-Identifier: GPL-2.0
"""The `anykernel` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point: our own errors are one clear message, not a traceback."""
    from anykernel.cli.commands import cli
    from anykernel.errors import AnykernelError

    try:
        cli.main(prog_name="anykernel")
    except AnykernelError as error:
        print(f"anykernel: {error}", file=sys.stderr)
        sys.exit(1)
