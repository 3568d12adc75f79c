# SPDX-License-Identifier: GPL-2.0
"""The same seed gives the same run, to the bit: again, in another process, on a busy machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import UsageError
from anykernel.net.traffic import address_of
from suites.selftest.net import scenario

if TYPE_CHECKING:
    from anykernel.net import Network

ROOT = Path(__file__).parents[3]
SPIN = "import os\nwhile os.getppid() == {}: pass"


@contextmanager
def busy() -> Iterator[None]:
    """Processes that want all the time there is."""
    command = [sys.executable, "-c", SPIN.format(os.getpid())]
    spinning = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


def elsewhere(config: pytest.Config, seed: int, hashing: str) -> tuple[int, ...]:
    """play() in a process of its own."""
    from anykernel.plugin import options

    default = options.defaults(config)
    done = subprocess.run(
        [sys.executable, scenario.__file__, default.source, default.flavour, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(int(word) for word in done.stdout.split())


@pytest.mark.kernel(seed=5, memory=32 << 20)
def test_the_same_seed(network: Network, pytestconfig: pytest.Config) -> None:
    first = scenario.play(network)
    assert first[2] > 1000
    network.restore(0)
    assert scenario.play(network) == first
    assert elsewhere(pytestconfig, 5, "1") == first
    with busy():
        assert elsewhere(pytestconfig, 5, "77") == first
    other = elsewhere(pytestconfig, 6, "1")
    assert other[0] != first[0] and other != first


@pytest.mark.kernel(seed=5, memory=32 << 20)
def test_snapshots_change_nothing(network: Network) -> None:
    """A run that was saved and restored in the middle of its traffic is that of one without."""
    runs = []
    for saved in (False, True):
        network.restore(0)
        a, b = network.chain(2, rate="10Mbit", delay="3ms", jitter="2ms", loss=0.02)
        network.address()
        server, client = b.socket(), a.socket()
        server.bind(("0.0.0.0", 80))
        server.listen()
        client.connect((address_of(b), 80))
        client.setblocking(False)
        client.send(bytes(80_000))
        network.run(0.02)
        if saved:
            number = network.snapshot()
            network.run(0.3)
            network.restore(number)
        network.run(5)
        runs.append((network.trace, network.now))
    assert runs[0] == runs[1]


@pytest.mark.kernel(memory=32 << 20)
def test_replays_are_equal_in_the_kernels_memory_too(network: Network) -> None:
    """Which has the addresses of what programs handed to it."""
    network.chain(3, loss=0.01, delay="1ms")
    network.address()
    network.route()
    start = network.snapshot()
    seen = []
    for _ in range(3):
        network.restore(start)
        network.bulk("n0", "n2", bytes=50_000)
        network.ping("n1", "n2", count=3)
        network.run()
        nodes = network.nodes.values()
        seen.append((network.trace, *(node.instance.memory_hash() for node in nodes)))
    assert seen[0] == seen[1] == seen[2]


def test_a_network_is_saved_and_tried_as_often_as_wanted(network: Network) -> None:
    network.chain(2)
    network.address()
    network.route()
    for attempt in range(20):
        here = network.snapshot()
        assert here == attempt + 1
        network.ping("n0", "n1")
        network.run()
        network.restore(here)
    for _ in range(20):
        with network.snapshot() as here:
            assert here == 21
            network.ping("n0", "n1")
            network.run()
    network.restore(1)
    with pytest.raises(UsageError, match="no snapshot"):
        network.restore(2)
