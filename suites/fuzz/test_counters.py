# SPDX-License-Identifier: GPL-2.0
"""Fuzz: malformed packets are dropped and counted"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings

from anykernel.fuzz import strategies
from anykernel.fuzz.packets import FLAW_COUNTERS

if TYPE_CHECKING:
    from anykernel.fuzz.packets import Case
    from suites.fuzz.conftest import Target


@settings(max_examples=150, deadline=None)
@given(case=strategies.nearly_valid())
def test_each_flaw_is_counted(target: Target, case: Case) -> None:
    before = {group: target.kernel.snmp[group] for group, _ in FLAW_COUNTERS[case.flaw]}
    answers = target.send([case.frame])
    assert answers == [], "a malformed packet was answered"
    for group, name in FLAW_COUNTERS[case.flaw]:
        assert target.kernel.snmp[group][name] == before[group][name] + 1, (group, name)
