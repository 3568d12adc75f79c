# SPDX-License-Identifier: GPL-2.0
"""What the environment says: the only module that reads it."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from anykernel.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """ANYKERNEL_CACHE, ANYKERNEL_JOBS, ANYKERNEL_MIRROR, ANYKERNEL_HIDE and CCACHE_DIR."""

    cache_dir: Path
    """Sources, builds and images: all that can be made again."""
    jobs: int
    """Parallel compiler processes."""
    mirror: str | None
    """Debian mirror to fetch sources from, instead of the system's own."""
    ccache_dir: Path
    """Where ccache keeps objects: the user's own choice, or a part of our cache."""
    state_dir: Path
    """What a user did before: the history of `anykernel shell`."""
    hidden: frozenset[str]
    """Optional programs that count as not installed ("all": each of them), so that a machine that
    has them can show what happens on one that hasn't."""

    def hides(self, program: str) -> bool:
        """Whether an optional program counts as not installed."""
        return "all" in self.hidden or program in self.hidden


@functools.cache
def settings() -> Settings:
    """The settings of this process.  Raises UsageError."""
    import platformdirs

    env = os.environ
    cache = Path(env.get("ANYKERNEL_CACHE") or platformdirs.user_cache_dir("anykernel"))
    jobs = env.get("ANYKERNEL_JOBS", "")
    if jobs and not (jobs.isdigit() and int(jobs) > 0):
        raise UsageError(f"ANYKERNEL_JOBS={jobs}: it is a number of processes, 1 or more")
    cache = cache.expanduser().absolute()
    return Settings(
        cache_dir=cache,
        jobs=int(jobs) if jobs else len(os.sched_getaffinity(0)),
        mirror=env.get("ANYKERNEL_MIRROR") or None,
        ccache_dir=Path(env.get("CCACHE_DIR") or cache / "ccache"),
        state_dir=Path(platformdirs.user_state_dir("anykernel")),
        hidden=frozenset(env.get("ANYKERNEL_HIDE", "").replace(",", " ").split()),
    )
