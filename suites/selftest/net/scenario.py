# SPDX-License-Identifier: GPL-2.0
"""Twenty nodes, links that do all that links can do to frames, TCP, UDP and ping: its trace.

Also a script of its own, for another process: scenario.py SOURCE FLAVOUR SEED.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.net import Network

NODES = 20


def play(network: Network) -> tuple[int, int, int]:
    """(trace, ns, frames) at the end."""
    nodes = network.ring(
        NODES - 2,
        rate="20Mbit",
        delay="1ms",
        jitter="300us",
        loss="0.5%",
        duplicate="1%",
        reorder="1%",
        corrupt="0.2%",
        queue=20,
    )
    extra = [network.node(f"s{i}") for i in range(2)]
    network.switch(nodes[0], nodes[9], *extra, rate="100Mbit", jitter="10us", queue=5)
    network.address(ipv6=True)
    network.route()
    network.bulk(nodes[1], nodes[10], bytes=60_000)
    network.bulk(extra[0], nodes[14], bytes=40_000)
    network.cbr(nodes[3], extra[1], rate="500kbit", seconds=0.5)
    network.ping(nodes[5], nodes[13], count=5, interval=0.1)
    network.requests(nodes[16], nodes[7], count=5)
    network.run(limit=300)
    return network.trace, network.now, sum(link.statistics["frames"] for link in network.links)


def main(source: str, flavour: str, seed: str) -> None:
    from anykernel.build import ensure_image
    from anykernel.host import Host
    from anykernel.net import Network

    image = ensure_image(source, flavour)
    with Host(image, kernels=64, memory=32 << 20, seed=int(seed), clock="network") as host:
        print(*play(Network(host, image)))


if __name__ == "__main__":
    main(*sys.argv[1:])
