# SPDX-License-Identifier: GPL-2.0
"""The command line that a kernel boots with: the machine's own parameters, then the user's.

A machine has its drivers as modules, and no device of theirs before somebody asks for one.  Built
in, they would make bond0, dummy0, ifb0, tunl0, gre0, sit0 ... at boot, and each new namespace its
own tunl0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anykernel.errors import UsageError

if TYPE_CHECKING:
    from anykernel.build.image import Image

LENGTH = 511
"""Characters that a kernel keeps: its COMMAND_LINE_SIZE, less a NUL."""
DRIVERS = (
    "bonding.max_bonds=0",
    "dummy.numdummies=0",
    "ifb.numifbs=0",
    "sch_teql.max_equalizers=0",
    "fakelb.numlbs=0",
)
"""Parameters of modules.  One of a driver that a kernel doesn't have is nobody's: harmless."""
NETWORK = "fb_tunnels=none"
"""Of net/core (Documentation/admin-guide/kernel-parameters.txt): a kernel without it would hand
this to its init, and say so."""


def command_line(image: Image, given: str) -> str:
    """`given` behind the machine's parameters: of two the kernel takes the last.  Raises
    UsageError for one that the kernel would cut."""
    whole = not image.components or "net/core" in image.components
    own = " ".join([*DRIVERS, NETWORK] if whole else [])
    if "\0" in given or len(given.encode()) > LENGTH - len(own) - 1:
        raise UsageError(
            f"cmdline: a command line has at most {LENGTH - len(own) - 1} bytes, none of them NUL"
        )
    return f"{own} {given}".strip()
