# SPDX-License-Identifier: GPL-2.0
"""ci/bench dce: many kernels in one simulated network, with ns-3 beside it in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import ns3
from figures import Figure, Goal, figure

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.net import Network

CHAIN = {"rate": "1Gbit", "delay": "100us"}
BYTES = 125_000_000
MANY = 1000
MANY_MEMORY = 20 << 20
RIG_LENGTHS = (1, 2, 4, 8, 16, 20)
RIG_SECONDS = 200.0
RIG_RATE = "100Mbit"
RIG_SIZE = 1470
NS3_DEFAULT_SEGMENT = 536
GOALS = {
    "chain10_wall_s": Goal("125 MB of TCP over 10 nodes at 1 Gbit/s, s", None),
    "chain10_ns3_wall_s": Goal(
        "  rival: ns-3, its own TCP as it comes (536-byte segments), s", None
    ),
    "chain10_ns3_full_wall_s": Goal("  rival: ns-3, told to fill frames (1448 bytes), s", None),
    "chain10_share": Goal("  our time by that of ns-3 as it comes", 0.2),
    "kernels1000_boot_s": Goal("1,000 kernels in one process: booted, s", 10),
    "kernels1000_link_s": Goal("  linked in a ring, with addresses, s", None),
    "kernels1000_ping_s": Goal("  each pings its neighbour, s", None),
    "kernels1000_rss_gib": Goal("  RSS afterwards, GiB", 8),
    "restore20_ms": Goal("restore of a configured network of 20 nodes, ms", 2),
} | {
    f"rig_{n}_speedup": Goal(f"DCE's rig, {n} hops, UDP {RIG_RATE}/s, 200 s: times real time", None)
    for n in RIG_LENGTHS
}


def network(image: Image, nodes: int, memory: int = 64 << 20) -> Network:
    """An empty one, with room."""
    from anykernel.host import Host
    from anykernel.net import Network

    return Network(Host(image, kernels=nodes, memory=memory, clock="network"), image)


def chain_s(image: Image, nodes: int = 10) -> float:
    """Wall seconds of the transfer, without boot and configuration."""
    net = network(image, nodes)
    try:
        line = net.chain(nodes, **CHAIN)
        net.address()
        net.route()
        flow = net.bulk(line[0], line[-1], bytes=BYTES)
        started = time.perf_counter()
        net.run()
        wall = time.perf_counter() - started
        if flow.moved != BYTES:
            raise RuntimeError(f"{flow.moved} of {BYTES} bytes arrived")
        return wall
    finally:
        net.host.close()


def many(image: Image) -> dict[str, float]:
    """1,000 nodes in a ring; each pings the next."""
    net = network(image, MANY, MANY_MEMORY)
    try:
        started = time.perf_counter()
        for _ in range(MANY):
            net.node()
        booted = time.perf_counter()
        nodes = list(net.nodes.values())
        for one, other in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            net.link(one, other, delay="1ms")
        plan = net.address()
        linked = time.perf_counter()
        pings = []
        for one, other in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            link = net.links[one.index]
            end = next(
                e for e in plan if e.node == other.name and e.device == link.port(other).netdev.name
            )
            pings.append(net.ping(one, address=str(plan[end][0].ip), count=1))
        net.run()
        pinged = time.perf_counter()
        lost = sum(ping.lost for ping in pings)
        if lost:
            raise RuntimeError(f"{lost} of {MANY} pings were lost")
        status = Path(f"/proc/{net.host.pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    finally:
        net.host.close()
    return {
        "kernels1000_boot_s": booted - started,
        "kernels1000_link_s": linked - booted,
        "kernels1000_ping_s": pinged - linked,
        "kernels1000_rss_gib": rss / (1 << 20),
    }


def restore_ms(image: Image) -> float:
    """After a ping from end to end, as in a test."""
    net = network(image, 20)
    try:
        line = net.chain(20, **CHAIN)
        net.address()
        net.route()
        net.ping(line[0], line[-1], count=1)
        net.run()
        snapshot = net.snapshot()

        def ping_and_restore() -> float:
            net.ping(line[0], line[-1], count=1)
            net.run()
            started = time.perf_counter()
            net.restore(snapshot)
            return time.perf_counter() - started

        return min(ping_and_restore() for _ in range(10)) * 1e3
    finally:
        net.host.close()


def rig(image: Image, hops: int) -> float:
    """Simulated seconds by those of the wall: a chain of so many links."""
    net = network(image, hops + 1)
    try:
        line = net.chain(hops + 1, **CHAIN)
        net.address()
        net.route()
        flow = net.cbr(line[0], line[-1], rate=RIG_RATE, size=RIG_SIZE, seconds=RIG_SECONDS)
        began, started = net.seconds, time.perf_counter()
        net.run()
        ratio = (net.seconds - began) / (time.perf_counter() - started)
        if flow.lost:
            raise RuntimeError(f"{flow.lost} datagrams were lost")
        return ratio
    finally:
        net.host.close()


def measure_all(source: str, say: Callable[[str], None]) -> list[Figure]:
    """All figures.  Raises BuildError and its kin when there is no kernel to measure."""
    from anykernel.build import ensure_image

    say("a kernel")
    image = ensure_image(source)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    say("TCP over a chain")
    values["chain10_wall_s"] = min(chain_s(image) for _ in range(3))
    for key, segment in (
        ("chain10_ns3_wall_s", NS3_DEFAULT_SEGMENT),
        ("chain10_ns3_full_wall_s", ns3.SEGMENT),
    ):
        say(f"ns-3 on the same chain, {segment} bytes in a segment")
        result = ns3.chain(10, BYTES, segment=segment)
        if "reason" in result:
            reasons[key] = reasons["chain10_share"] = str(result["reason"])
        else:
            values[key] = float(result["wall_s"])
    rival = values.get("chain10_ns3_wall_s")
    if rival:
        values["chain10_share"] = values["chain10_wall_s"] / rival
    say("1,000 kernels")
    values |= many(image)
    say("restoring 20 nodes")
    values["restore20_ms"] = restore_ms(image)
    for hops in RIG_LENGTHS:
        say(f"DCE's rig, {hops} hops")
        values[f"rig_{hops}_speedup"] = rig(image, hops)
    return [figure(key, goal, values, reasons) for key, goal in GOALS.items()]
