# SPDX-License-Identifier: GPL-2.0
"""Letting a network's time pass: programs take their turns, the host runs until one of them can."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from anykernel.errors import Deadlock, UsageError
from anykernel.host.times import MOST, nanoseconds
from anykernel.net.programs import Killed

if TYPE_CHECKING:
    from anykernel.net.network import Network

QUIET_NS = 3 * 3600 * 10**9
"""Programs of which none has had a turn, and jobs of which none has had a round, for so long wait
for what never comes, unless a kernel has a timer that may wake one, at any distance."""


class Unfinished(TimeoutError):
    """Programs have not ended within the limit."""


LIMIT = 86_400.0
BUDGET = 600.0
"""Virtual seconds, and seconds of the wall clock, that a run may take if nothing else is said."""


def run(
    network: Network,
    seconds: float | None,
    limit: float = LIMIT,
    budget: float = BUDGET,
    done: Callable[[], bool] | None = None,
    what: str = "",
) -> None:
    """Network.run(), and run_until() with `done`."""
    hub = network.hub
    if hub.inside:
        raise UsageError("a program can't run the network: network.sleep() waits")
    hub.exclusive()  # raises in a thread where its programs can't go on
    if isinstance(seconds, int | float) and seconds < 0:
        raise UsageError(f"time can't go back ({seconds} s)")
    if math.isnan(budget):
        raise UsageError(f"the budget is a number of seconds, not {budget}")
    begin, wall = network.now, time.monotonic() + budget
    if seconds is not None:
        end = begin + nanoseconds(seconds, "the time to run", begin)
    elif limit == math.inf:
        end = MOST
    else:
        end = begin + nanoseconds(limit, "the limit", begin)
    hub.progress_ns = begin
    chance, asked = 0, -1  # when a timer may wake a program; the progress at that question
    while True:
        hub.take_turns()
        pending = hub.pending()
        if done() if done else seconds is None and not pending:
            return
        timer = hub.next_timer
        quiet = max(_progress(network) + QUIET_NS, chance)
        until = end if timer is None else min(timer, end)
        if seconds is None and timer is None:
            until = min(until, quiet)
        found = _advance(network, until, wall)
        if found is None or time.monotonic() > wall:
            raise Unfinished(
                f"not ended within the budget of {budget} s of the wall clock, in which "
                f"{(network.now - begin) / 1e9:.6f} s passed:\n{hub.table()}"
            )
        if found or network.now < until:
            continue
        if seconds is not None and network.now >= end:
            hub.take_turns()
            return
        if network.now >= end:
            raise Unfinished(f"not ended after {limit} s:\n{hub.table()}")
        if timer is not None:
            continue
        progress = _progress(network)
        if progress + QUIET_NS > network.now:
            continue
        due = network.engine.wakeup(anew=progress != asked)
        asked = progress
        if due is None:
            who = f"{what} of the test, and " if what else ""
            raise Deadlock(
                f"{who}{len(pending)} programs wait, for {QUIET_NS / 1e9:.0f} s nothing has woken "
                "any, and no kernel has a timer that may:",
                hub.table(),
            )
        chance = due


def _progress(network: Network) -> int:
    """When a program last had a turn, or a job a round, ns."""
    return max(network.hub.progress_ns, network.engine.progress)


def _advance(network: Network, until: int, wall: float) -> int | None:
    """Runs the network until `until`, or until tasks are back: how many; None when it is later
    than `wall` by the wall clock."""
    while (backs := network.engine.run(until)) is None:
        network.host.attended()
        if time.monotonic() > wall:
            return None
    for kernel, task, result, ended in backs:
        network.hub.back(kernel, task, Killed(result) if ended else result)
    return len(backs)
