# SPDX-License-Identifier: GPL-2.0
"""For all selftests: a cache of their own where they need one, and sources that build at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from anykernel.settings import settings
from suites.selftest import tiny


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache for this process and those it starts; no kernel is ever built in it."""
    path = tmp_path / "own-cache"
    monkeypatch.setenv("ANYKERNEL_CACHE", str(path))
    monkeypatch.delenv("ANYKERNEL_MIRROR", raising=False)
    settings.cache_clear()
    yield path
    settings.cache_clear()


@pytest.fixture
def tiny_tree(tmp_path: Path) -> Path:
    """A folder that passes for Linux 6.1.999."""
    return tiny.write(tmp_path / "tiny")
