# SPDX-License-Identifier: GPL-2.0
"""Many kernels in one simulated network: nodes, links, programs, traffic, one virtual clock."""

from anykernel.net.link import DOUBLE, DROP, PASS, Frame, Link, Port, Verdict, change, delay
from anykernel.net.network import Network
from anykernel.net.node import Node
from anykernel.net.programs import Program
from anykernel.net.running import Unfinished

__all__ = [
    "DOUBLE",
    "DROP",
    "PASS",
    "Frame",
    "Link",
    "Network",
    "Node",
    "Port",
    "Program",
    "Unfinished",
    "Verdict",
    "change",
    "delay",
]
