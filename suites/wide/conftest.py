# SPDX-License-Identifier: GPL-2.0
"""Tests of what the flavour `wide` has: run with --kernel-flavour=wide.  On a kernel that lacks
what a test needs it is skipped, so that a plain run builds no second kernel."""

from __future__ import annotations

from typing import Any

import pytest

HERE = "suites/wide"
MARKER = "needs(SYMBOL, ...): skipped on a kernel without CONFIG_SYMBOL"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


@pytest.fixture(autouse=True)
def has_what_it_needs(request: pytest.FixtureRequest) -> None:
    """Skips a test marked ``needs("WIREGUARD", ...)`` on a kernel without one of these symbols."""
    holder: Any = request.getfixturevalue(
        "network" if "network" in request.fixturenames else "kernel"
    )
    image = holder.host.image if "network" in request.fixturenames else holder.image
    lines = set(image.config.read_text().splitlines())
    for marker in request.node.iter_markers("needs"):
        for symbol in marker.args:
            if f"CONFIG_{symbol}=y" not in lines:
                pytest.skip(
                    f"this kernel has no CONFIG_{symbol}: pytest --kernel-flavour=wide {HERE}"
                )
