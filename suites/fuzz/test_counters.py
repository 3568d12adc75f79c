# SPDX-License-Identifier: GPL-2.0
"""Fuzz: malformed packets of any content are noticed and counted"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings

from anykernel.fuzz import strategies
from anykernel.fuzz.flaws import FLAWS, errors

if TYPE_CHECKING:
    from anykernel.fuzz.packets import Case
    from suites.fuzz.conftest import Target


@settings(max_examples=150, deadline=None)
@given(case=strategies.nearly_valid())
def test_each_flaw_is_counted(target: Target, case: Case) -> None:
    flaw = FLAWS[case.flaw]
    before = errors(target.kernel.snmp)
    answers = target.send([case.frame])
    assert bool(answers) == flaw.answered
    after = errors(target.kernel.snmp)
    raised = {key: after[key] - before[key] for key in after if after[key] != before[key]}
    assert raised == dict.fromkeys(flaw.counters, 1)
