# SPDX-License-Identifier: GPL-2.0
"""Fuzz: every known flaw is noticed, by the counters of errors that it must raise and no others"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from anykernel.fuzz.flaws import FLAWS, errors

if TYPE_CHECKING:
    from suites.fuzz.conftest import Target

SIZES = (0, 1, 46, 536, 1200)
VARIANTS = (1, 2, 3, 4, 7, 250, 65534)


@pytest.mark.parametrize("name", sorted(FLAWS))
def test_flaw_is_noticed(target: Target, name: str) -> None:
    flaw = FLAWS[name]
    before = errors(target.kernel.snmp)
    state = target.kernel.snapshot()
    for size in SIZES:
        for n in VARIANTS:
            answers = target.send([flaw.make(target.ends, bytes(size), n)])
            after = errors(target.kernel.snmp)
            raised = {key: after[key] - before[key] for key in after if after[key] != before[key]}
            where = f"payload {size}, variant {n}"
            assert raised == dict.fromkeys(flaw.counters, 1), where
            assert bool(answers) == flaw.answered, where
            target.kernel.restore(state)
    assert target.alive()
