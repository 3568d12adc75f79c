# SPDX-License-Identifier: GPL-2.0
"""pyroute2's event loops in several programs at once: each is only its own program's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network


def test_a_blocked_loop_is_not_the_threads(network: Network) -> None:
    node = network.node()
    seen: list[Any] = []

    def monitor(process: Process) -> str:
        ip = process.netlink()
        ip.bind(1)
        return str(next(iter(ip.get()))["event"])

    def other(process: Process) -> None:
        network.sleep(1)
        seen.append(asyncio._get_running_loop())
        process.netlink().link("add", ifname="dummy5", kind="dummy")

    waits = network.start(monitor, on=node)
    network.start(other, on=node)
    network.run()
    assert waits.result == "RTM_NEWLINK"
    assert seen == [None]
    assert asyncio._get_running_loop() is None
