# SPDX-License-Identifier: GPL-2.0
"""A kernel on a small network: eth0 with an IPv4 and an IPv6 address, and the tester beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.netdev import Netdev


@dataclass(frozen=True)
class Lan:
    """eth0 is up as .1; the tester is .2 and writes frames by hand."""

    kernel: Kernel
    eth0: Netdev
    kernel_mac: str = "02:00:00:00:00:01"
    kernel_ip: str = "192.0.2.1"
    kernel_ip6: str = "2001:db8::1"
    mac: str = "02:00:00:00:00:02"
    ip: str = "192.0.2.2"
    ip6: str = "2001:db8::2"

    def frame(self, layers: Any) -> bytes:
        """Scapy layers from IP upwards, as a frame from the tester to the kernel."""
        from scapy.layers.l2 import Ether

        return bytes(Ether(src=self.mac, dst=self.kernel_mac) / layers)


@pytest.fixture
def lan(kernel: Kernel) -> Lan:
    addresses = (f"{Lan.kernel_ip}/24", f"{Lan.kernel_ip6}/64")
    eth0 = kernel.add_netdev("eth0", mac=Lan.kernel_mac, addresses=addresses)
    for address in (Lan.ip, Lan.ip6):
        eth0.add_neighbour(address, Lan.mac)
    return Lan(kernel, eth0)
