# SPDX-License-Identifier: GPL-2.0
"""A compile error is said once; the run ends if its own kernel has it."""

from __future__ import annotations

import pytest

TESTS = """
import pytest

@pytest.mark.parametrize("n", range(6))
def test_it(kernel, n):
    pass
"""
ERROR = "net/ipv4/icmp.c:1: error: no"


def test_the_kernel_of_the_run(fake: pytest.Pytester) -> None:
    fake.makepyfile(TESTS)
    result = fake.runpytest_subprocess("--kernel-source=uncompiled")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1)
    assert result.outlines.count(ERROR) == 1
    assert (result.outlines + result.errlines).count("BUILD TRIED") == 1
    result.stdout.fnmatch_lines(["*!! uncompiled default can't be built !!*"])


def test_workers_say_it_once(fake: pytest.Pytester) -> None:
    fake.makepyfile(TESTS)
    result = fake.runpytest_subprocess("--kernel-source=uncompiled", "-n", "2")
    assert result.ret != pytest.ExitCode.OK
    assert result.outlines.count(ERROR) == 1
    assert result.parseoutcomes()["errors"] <= 2
    result.stdout.fnmatch_lines(["*!! *uncompiled default can't be built !!*"])


def test_a_kernel_of_some_tests_leaves_the_others_alone(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        TESTS.replace("@", '@pytest.mark.kernel(source="uncompiled")\n@', 1)
        + """
def test_other(kernel):
    pass
"""
    )
    result = fake.runpytest_subprocess()
    result.assert_outcomes(errors=6, passed=1)
    assert result.outlines.count(ERROR) == 1
    assert (
        result.outlines.count(
            "as told for test_a_kernel_of_some_tests_leaves_the_others_alone.py::test_it[0]"
        )
        == 5
    )
