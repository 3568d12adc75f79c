# SPDX-License-Identifier: GPL-2.0
"""`system`: a process of the machine's own kernel (the oracle) and one of the kernel under test."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from anykernel.kernel import Process
from suites.selftest.kernel import machine


@pytest.fixture(params=["machine", "kernel"])
def system(request: pytest.FixtureRequest) -> Process:
    """The same test runs on both."""
    if request.param == "machine":
        return machine.process()
    found: Process = request.getfixturevalue("kernel")
    return found


@pytest.fixture
def folder(request: pytest.FixtureRequest, system: Process) -> PurePosixPath:
    """An empty folder of that system."""
    if request.node.callspec.params["system"] == "machine":
        return PurePosixPath(request.getfixturevalue("tmp_path"))
    system.os.makedirs("/tmp/test", exist_ok=True)
    return PurePosixPath("/tmp/test")
