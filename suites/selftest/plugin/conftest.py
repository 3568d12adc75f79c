# SPDX-License-Identifier: GPL-2.0
"""Inner pytest runs on kernels of cardboard."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def not_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest's and Hypothesis' output are the same everywhere."""
    for name in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder whose tests run on fakes, with one warning filter: errors."""
    folder = str(Path(__file__).parent)
    pytester.makeconftest(
        f"import sys\nsys.path.insert(0, {folder!r})\nimport fakes\nfakes.install()\n"
    )
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester
