# SPDX-License-Identifier: GPL-2.0
"""Devices on which IPv6 says nothing unasked: no duplicate address detection, no router
solicitations, and no more multicast listener reports once a device is set up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.kernel.kernel import Kernel

SILENT = {
    "accept_dad": 0,
    "dad_transmits": 0,
    "router_solicitations": 0,
    "mldv1_unsolicited_report_interval": 1,
    "mldv2_unsolicited_report_interval": 1,
}
"""Documentation/networking/ip-sysctl.rst.  Reports of a joined group can't be turned off, but what
follows the first one soon (in ms) is soon over."""
REPORTED = 0.25
"""Seconds in which all that MLD has to say of groups is said: a few ticks (net/ipv6/mcast.c)."""


def hush(kernel: Kernel, name: str, addresses: Iterable[str]) -> None:
    """To be asked before a device is up; without an IPv6 address it has no IPv6 at all."""
    folder = f"net/ipv6/conf/{name}"
    if not kernel.os.exists(f"/proc/sys/{folder}"):
        return  # a kernel without IPv6
    for key, value in SILENT.items():
        kernel.sysctl[f"{folder}/{key}"] = value
    kernel.sysctl[f"{folder}/disable_ipv6"] = not has_ipv6(addresses)


def speak(kernel: Kernel, name: str) -> None:
    """To be asked before a silent device gets its first IPv6 address."""
    path = f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6"
    if kernel.read_text(path) != "0\n":
        kernel.write_text(path, "0")


def report(kernel: Kernel) -> None:
    """Lets a device whose addresses are set say to which groups it listens."""
    kernel.clock.advance(REPORTED)


def has_ipv6(addresses: Iterable[str]) -> bool:
    return any(":" in address for address in addresses)
