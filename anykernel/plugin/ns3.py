# SPDX-License-Identifier: GPL-2.0
"""The fixture ``ns3_network``: kernels on the channels of an ns-3 simulation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from anykernel.plugin.fixtures import give_back, lend, options_of

if TYPE_CHECKING:
    from anykernel.net.ns3 import Ns3Network


@pytest.fixture
def ns3_network(request: pytest.FixtureRequest) -> Iterator[Ns3Network]:
    """An empty ns-3 simulation, whose nodes are kernels: ``ns3_network.wifi(a, b)``.

    As ``network``, but ns-3's channels join the nodes and its scheduler is the clock.  Each test
    has a new one.  The test is skipped where ns-3 is not installed.
    """
    from anykernel.host import ns3

    if reason := ns3.missing():
        pytest.skip(reason)
    options = options_of(request.node)[0]
    lease = lend(request, options, lambda pool: pool.simulate(options))
    made: Ns3Network = lease.kernel
    yield made
    made.hub.clear()
    lease.retired = not lease.crashed
    lease.host.close()
    give_back(request.node, lease)
