# SPDX-License-Identifier: GPL-2.0
"""Trees that Kbuild itself builds in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from anykernel.source import fetch
from suites.selftest import little


@pytest.fixture(scope="session")
def real_tree() -> Path:
    """The source that the main image is built from.  Nobody writes there."""
    return fetch("debian:6.1").path


@pytest.fixture
def little_tree(tmp_path: Path, real_tree: Path) -> Path:
    """A folder that Kbuild builds in a second."""
    return little.write(tmp_path / "little", real_tree)
