# SPDX-License-Identifier: GPL-2.0
"""Waits with a timeout last as long as it, however long; what nothing can wake ends at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import Deadlock

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.net import Network

DAY = 86400


def test_a_timeout_of_two_days(kernel: Kernel) -> None:
    near, _far = kernel.socketpair()
    near.settimeout(2 * DAY)
    begin = kernel.clock.seconds
    with pytest.raises(TimeoutError):
        near.recv(1)
    assert kernel.clock.seconds - begin == pytest.approx(2 * DAY, abs=1)


@pytest.mark.kernel(budget=0.2)
def test_the_budget_is_for_work_and_not_for_time(kernel: Kernel) -> None:
    """Months of chores take more CPU time than the budget, in between the kernel is idle."""
    begin = kernel.clock.seconds
    kernel.clock.advance(60 * DAY)
    near, _far = kernel.socketpair()
    near.settimeout(60 * DAY)
    with pytest.raises(TimeoutError):
        near.recv(1)
    assert kernel.clock.seconds - begin == pytest.approx(120 * DAY, abs=1)


def test_what_nothing_can_wake_is_told_fast(kernel: Kernel) -> None:
    near, _far = kernel.socketpair()
    begin = time.monotonic()
    with pytest.raises(Deadlock, match="nothing can wake it"):
        near.recv(1)
    assert time.monotonic() - begin < 1


def test_a_timeout_of_two_days_in_a_network(network: Network) -> None:
    near, _far = network.node("a").socketpair()
    near.settimeout(2 * DAY)
    begin = network.seconds
    with pytest.raises(TimeoutError):
        near.recv(1)
    assert network.seconds - begin == pytest.approx(2 * DAY, abs=1)
