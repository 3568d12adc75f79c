# SPDX-License-Identifier: GPL-2.0
"""A kernel with an interface that hostile packets come in by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from anykernel.fuzz.strategies import Ends

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.netdev import Netdev

ENDS = Ends()


@dataclass
class Target:
    """A kernel on a link with an attacker; counts what it was sent."""

    kernel: Kernel
    eth0: Netdev
    ends: Ends
    count: Callable[[int], None]

    def send(self, frames: Sequence[bytes]) -> list[bytes]:
        """All answers to the frames, which arrive one by one."""
        self.count(len(frames))
        return [answer for answers in self.eth0.exchange(frames) for answer in answers]

    def alive(self) -> bool:
        """Answers a ping as ever."""
        from anykernel.fuzz import packets as p

        echo = p.IPv4(
            src=self.ends.ip4,
            dst=self.ends.kernel_ip4,
            protocol=p.ICMP,
            payload=p.Icmp(payload=b"still there?"),
        )
        answers = self.eth0.exchange(self.ends.ether(p.ETH_IPV4, echo))
        return any(answer.endswith(b"still there?") for answer in answers)


@pytest.fixture
def target(kernel: Kernel, request: pytest.FixtureRequest) -> Target:
    """eth0 with both address families; ICMP answers without rate limit, so that a count holds."""
    eth0 = kernel.add_netdev(
        "eth0", mac=ENDS.kernel_mac, addresses=("192.0.2.1/24", "2001:db8::1/64")
    )
    for address in ("192.0.2.2", "2001:db8::2"):
        eth0.add_neighbour(address, ENDS.mac)
    kernel.sysctl["net.ipv4.icmp_ratelimit"] = 0
    properties = request.node.user_properties
    return Target(kernel, eth0, ENDS, lambda n: properties.append(("packets", n)))
