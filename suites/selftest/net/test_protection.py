# SPDX-License-Identifier: GPL-2.0
"""A node that writes into others, or into the network's state, is its own crash and nobody else's
harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import KernelCrash
from suites.selftest.host.test_protection import ARENA, KERNELS, mappings
from suites.selftest.inject import Injected
from suites.selftest.optional import keys

if TYPE_CHECKING:
    from anykernel.net import Network, Node

WRITE = "void go(long *at) { *(volatile long *)at ^= 0x1000; }"


def jiffies(network: Network) -> int:
    node = network.nodes["n1"]
    return node.inside.space.address("jiffies")


def copies(network: Network) -> int:
    """Those of the arena, 8 GiB, were mapped first of all that is large: they lie highest."""
    own = [span for span in mappings(network.host) if "memfd" not in span[2]]
    return max(own, key=lambda span: span[1] - span[0])[1] - (2 << 30)


@keys
@pytest.mark.kernel(allow_crash=True)
@pytest.mark.parametrize(
    ("where", "whose"),
    [
        (jiffies, "the memory of node n1"),
        (lambda _: ARENA, "the network's state"),
        (copies, "the network's state"),
        (lambda _: KERNELS, "the memory of the host program"),
    ],
    ids=["another node", "arena", "saved arena", "host"],
)
def test_a_wild_write(network: Network, where: Callable[[Network], int], whose: str) -> None:
    network.chain(2)
    network.address()
    network.route()
    start = network.snapshot()
    ping = network.ping("n0", "n1", count=2)
    network.run()
    trace, hashes = network.trace, [node.instance.memory_hash() for node in network.nodes.values()]
    assert ping.lost == 0
    network.restore(start)
    bad: Node = network.nodes["n0"]
    with pytest.raises(KernelCrash) as caught:
        Injected(bad, WRITE)("go", where(network))
    report = caught.value.report
    assert (report.name, report.kind) == ("n0", "wild write")
    assert report.what == f"a write into {whose}"
    network.restore(start)
    ping = network.ping("n0", "n1", count=2)
    network.run()
    assert ping.lost == 0
    assert network.trace == trace
    assert [node.instance.memory_hash() for node in network.nodes.values()] == hashes
