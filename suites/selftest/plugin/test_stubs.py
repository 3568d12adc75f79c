# SPDX-License-Identifier: GPL-2.0
"""The summary of stubs: who reached which, in one process and in several."""

from __future__ import annotations

from typing import Any

import pytest

from anykernel.plugin import stubs

TESTS = """
    import pytest

    pytestmark = pytest.mark.kernel(components=["net/ipv4"])

    def reach(kernel, **counts):
        for number, count in counts.items():
            number = int(number[1:])
            reached = kernel.instance.stubs
            kernel.instance.stubs = reached | {number: reached.get(number, 0) + count}

    def test_a(kernel):
        reach(kernel, n1=3)

    @pytest.mark.kernel(stubs="report")
    def test_b(kernel):
        reach(kernel, n0=1, n1=1)

    @pytest.mark.kernel(components=None)
    def test_whole(kernel):
        reach(kernel, n0=5)
    """


def test_summary(fake: pytest.Pytester) -> None:
    fake.makepyfile(TESTS)
    result = fake.runpytest()
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "*= stubs of kernels with some components =*",
            "net/ipv4 (6.1.0-fake, image part-net/ipv4): "
            "generated 4, granted 4, variants 1, bodies 1",
            "  granted calm: it does nothing",
            "  granted datum: it is read only",
            "  reached ungranted loud x 1 by *::test_b",
            "  reached calm x 8 by boot (4), *::test_a (3), *::test_b (1)",
            "  granted, but not reached in this run: idle",
            "  ungranted stubs returned 0 (--kernel-stubs=report): 1 were reached",
        ]
    )
    assert "granted absent" not in result.stdout.str()


def test_summary_without_reasons(fake: pytest.Pytester) -> None:
    fake.makepyfile(TESTS)
    said = fake.runpytest("-q").stdout.str()
    assert "reached ungranted loud x 1" in said
    assert "it does nothing" not in said


def test_workers_counts_are_one_summary(fake: pytest.Pytester) -> None:
    fake.makepyfile(TESTS)
    result = fake.runpytest_subprocess("-n2", "--dist=each", timeout=60)
    result.assert_outcomes(passed=6)
    assert result.stdout.str().count("image part-net/ipv4") == 1
    result.stdout.fnmatch_lines(
        [
            "  reached ungranted loud x 2 by *::test_b",
            "  reached calm x 16 by boot (8), *::test_a (6), *::test_b (2)",
        ]
    )


def test_whole_kernels_have_no_summary(fake: pytest.Pytester) -> None:
    fake.makepyfile("def test_it(kernel): kernel.instance.stubs = {0: 1}")
    assert "stubs" not in fake.runpytest("-v").stdout.str().replace("test_stubs", "")


def summary(**values: Any) -> dict[str, Any]:
    plain = {
        "name": "x",
        "release": "6.1",
        "generated": 1,
        "variants": 0,
        "bodies": 0,
        "granted": {},
        "counted": [],
        "ungranted": [],
        "report": False,
        "reached": {},
    }
    return plain | values


def test_many_tests_are_not_all_named() -> None:
    tests = {f"test_{number}": number for number in range(1, 7)}
    said = stubs.lines("cafe", summary(granted={"calm": "why"}, reached={"calm": tests}))
    assert said[-1] == "  reached calm x 21 by test_6 (6), test_5 (5), test_4 (4), 3 more tests"


def test_merge() -> None:
    have = {"a": summary(name="z", reached={"s": {"boot": 1}})}
    stubs.merge(have, {"a": summary(report=True, reached={"s": {"boot": 1, "t": 2}})})
    stubs.merge(have, {"b": summary()})
    assert have["a"] == summary(report=True, reached={"s": {"boot": 2, "t": 2}})
    assert have["b"] == summary()
