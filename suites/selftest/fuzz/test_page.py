# SPDX-License-Identifier: GPL-2.0
"""The page on fuzzing: its examples run, the files it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "anykernel/docs/fuzzing.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(pytester: pytest.Pytester, number: int) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(EXAMPLES[number])
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)


def test_files_named_exist() -> None:
    named = set(re.findall(r"`((?:anykernel|suites)/[\w/.]+)`", PAGE))
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()
