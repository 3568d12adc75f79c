# SPDX-License-Identifier: GPL-2.0
"""A @given that is called inside a test: its examples are pristine, too."""

from __future__ import annotations

import pytest

HEAD = """
import threading
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

SMALL = settings(
    max_examples=6, deadline=None, database=None,
    suppress_health_check=[HealthCheck.nested_given],
)
"""


def run(fake: pytest.Pytester, body: str) -> pytest.RunResult:
    fake.makepyfile(HEAD + body)
    return fake.runpytest("-p", "no:cacheprovider")


def test_examples_begin_with_what_the_test_had_made(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
def test_it(kernel, kernel_factory):
    kernel.state.append("test")
    seen = []

    @SMALL
    @given(n=st.integers())
    def inner(n):
        seen.append(n)
        assert kernel.state == ["test"]
        kernel.state.append(n)
        assert kernel_factory(seed=9).state == []

    inner()
    assert len(seen) == 6
    assert kernel.state == ["test"], "what the last example did is undone, too"
    assert len(kernel.saved) == 1, "no snapshot is left"
    kernel.state.append("more")
    with pytest.raises(AssertionError):
        inner()

def test_deeper(kernel):
    @SMALL
    @given(n=st.integers())
    def outer(n):
        assert kernel.state == []
        kernel.state.append("outer")

        @SMALL
        @given(m=st.integers())
        def inner(m):
            assert kernel.state == ["outer"]
            kernel.state.append(m)

        inner()
        assert kernel.state == ["outer"]

    outer()

@SMALL
@given(n=st.integers())
def test_in_an_example(kernel, n):
    assert kernel.state == []
    kernel.state.append("example")

    @SMALL
    @given(m=st.integers())
    def inner(m):
        assert kernel.state == ["example"]
        kernel.state.append(m)

    inner()
    assert kernel.state == ["example"]

def test_without_a_kernel():
    @SMALL
    @given(n=st.integers())
    def inner(n):
        pass

    inner()
""",
    )
    result.assert_outcomes(passed=4)


def test_what_goes_wrong_in_an_example_is_told(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
def test_warns(kernel):
    @SMALL
    @given(n=st.integers(0, 1000))
    def inner(n):
        if n > 10:
            kernel.log.lines.append(f"WARNING: at {n}")

    inner()

def test_panics(kernel):
    @SMALL
    @given(n=st.integers(0, 1000))
    def inner(n):
        kernel.panic()

    inner()

def test_in_a_thread(kernel):
    @SMALL
    @given(n=st.integers())
    def inner(n):
        pass

    errors = []
    def work():
        try:
            inner()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    raise errors[0]

def test_next(kernel):
    assert kernel.state == [] and len(kernel.log.lines) == 1
""",
    )
    result.assert_outcomes(failed=3, passed=1)
    for line in (
        "E *KernelWarning: the kernel*",
        "E *KernelCrash: panic: cardboard burns*",
        "E *UsageError: a @given that runs in another thread than its test*",
    ):
        result.stdout.fnmatch_lines([line])


def test_who_imports_hypothesis_itself(fake: pytest.Pytester) -> None:
    """In another process: here, it has been imported."""
    fake.makepyfile(
        """
        import sys

        def test_not_yet(kernel):
            assert "hypothesis" not in sys.modules

        def test_it(kernel):
            from hypothesis import given, settings, strategies as st

            @settings(max_examples=6, deadline=None)
            @given(n=st.integers())
            def inner(n):
                assert kernel.state == []
                kernel.state.append(n)

            inner()
        """
    )
    fake.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_a_real_kernel_and_one_that_dies(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        HEAD
        + """
import os, signal, socket

def test_ports(kernel):
    @SMALL
    @given(n=st.integers())
    def inner(n):
        sock = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 5000))

    for _ in range(3):
        inner()

def test_killed(kernel):
    count = []

    @settings(SMALL, max_examples=1000)
    @given(n=st.integers())
    def inner(n):
        count.append(n)
        os.kill(kernel.instance._host.pid, signal.SIGKILL)
        kernel.os.getpid()

    try:
        inner()
    finally:
        assert len(count) == 1

def test_next(kernel):
    assert kernel.os.getpid() == 1
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E *HostDied: *"])
