# SPDX-License-Identifier: GPL-2.0
"""A kernel that doesn't build is told once, and ends the run if it is the run's kernel."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anykernel.plugin import options as opts

if TYPE_CHECKING:
    from anykernel.errors import AnykernelError

TOLD = pytest.StashKey[dict[str, str]]()
"""Text of an error to the test that told it."""


def told(request: pytest.FixtureRequest, options: opts.KernelOptions, error: AnykernelError) -> str:
    """What to say of an error of the tool chain: all of it, or who has said it.

    The tests that follow would fail of the same; they don't begin where the kernel is that of
    the command line.
    """
    from anykernel.errors import ToolError

    text = str(error)
    if not isinstance(error, ToolError):
        return text
    default = opts.defaults(request.config)
    if (options.source, options.flavour, options.config) == (
        default.source,
        default.flavour,
        default.config,
    ):
        request.session.shouldfail = f"{options.source} {options.flavour} can't be built"
    before = request.config.stash.setdefault(TOLD, {})
    first = before.setdefault(text, request.node.nodeid)
    if first != request.node.nodeid:
        return f"as told for {first}"
    return text if _is_first_worker(request.config, text) else "as another worker has told"


def _is_first_worker(config: pytest.Config, text: str) -> bool:
    """Whether no other worker of xdist has told it: it is written where all of them look."""
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is None or not hasattr(config, "workerinput"):
        return True
    name = f"anykernel-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        Path(factory.getbasetemp().parent, name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
