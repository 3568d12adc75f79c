# SPDX-License-Identifier: GPL-2.0
"""Units of files that are elsewhere in other kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.unit import Unit


@pytest.fixture
def first_unit(unit: Callable[..., Unit]) -> Callable[..., Unit]:
    """``first_unit(["lib/crc32.c"], ["lib/crc/crc32-main.c"])``: the unit of the first of these
    lists of files that the kernel was built from; skips the test where it wasn't from any."""

    def load(*candidates: Sequence[str], with_: Sequence[str] = ()) -> Unit:
        for files in candidates:
            try:
                return unit(*files, with_=with_)
            except pytest.fail.Exception as error:
                if "was not built from" not in str(error):
                    raise
        pytest.skip(f"this kernel was built without {', '.join(candidates[0])}")

    return load
