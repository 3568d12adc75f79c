# SPDX-License-Identifier: GPL-2.0
"""`python -m anykernel` is the `anykernel` command."""

from anykernel.cli import main

main()
