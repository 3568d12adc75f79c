# SPDX-License-Identifier: GPL-2.0
"""Under Hypothesis every example starts from what the fixtures had made of the kernel."""

import pytest

HEAD = """
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

seen = []
"""


def run(fake: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    import textwrap

    fake.makepyfile(HEAD + textwrap.dedent(body))
    return fake.runpytest("-p", "no:cacheprovider", *arguments)


def test_every_example_is_pristine_and_no_health_check_objects(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        @given(n=st.integers())
        @settings(max_examples=20)
        def test_it(kernel, n):
            assert kernel.state == []
            kernel.state.append(n)
            seen.append(n)

        def test_ran():
            assert len(seen) >= 20
        """,
    )
    result.assert_outcomes(passed=2)


def test_methods_parameters_and_factories_too(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        class TestIt:
            @pytest.mark.parametrize("base", [1, 2])
            @given(n=st.integers())
            @settings(max_examples=10)
            def test_it(self, kernel, kernel_factory, base, n):
                from anykernel.plugin.fixtures import POOL
                other = kernel_factory()
                assert kernel.state == other.state == []
                kernel.state.append(n)
                other.state.append(n)

        def test_few_boots(pytestconfig):
            from anykernel.plugin.fixtures import POOL
            assert pytestconfig.stash[POOL].booted == 2
        """,
    )
    result.assert_outcomes(passed=3)


def test_what_a_fixture_did_to_the_kernel_stays(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        @pytest.fixture
        def configured(kernel):
            kernel.state.append("up")
            return kernel

        @pytest.fixture
        def user(configured):
            return configured

        @given(n=st.integers())
        @settings(max_examples=10)
        def test_it(user, n):
            assert user.state == ["up"]
            user.state.append(n)

        def test_after(kernel):
            assert kernel.state == []
        """,
    )
    result.assert_outcomes(passed=2)


def test_the_health_check_stays_for_fixtures_of_others(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        @given(n=st.integers())
        def test_it(kernel, tmp_path, n): pass
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*function-scoped fixture 'tmp_path'*"])


def test_own_settings_survive(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        @settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
        @given(n=st.integers())
        def test_it(kernel, n):
            seen.append(n)

        def test_ran():
            assert len(seen) == 3
        """,
    )
    result.assert_outcomes(passed=2)


def test_hypothesis_without_kernel_is_left_alone(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        @given(n=st.integers())
        @settings(max_examples=3)
        def test_it(n): seen.append(n)

        def test_no_pool(pytestconfig):
            from anykernel.plugin.fixtures import POOL
            assert seen and POOL not in pytestconfig.stash
        """,
    )
    result.assert_outcomes(passed=2)


def test_warnings_and_crashes_shrink_like_any_failure(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        @given(n=st.integers(0, 1000))
        @settings(database=None)
        def test_warns(kernel, n):
            if n > 10:
                kernel.log.lines.append("WARNING: too much")

        @given(n=st.integers(0, 1000))
        @settings(database=None)
        def test_panics(kernel, n):
            if n > 10:
                kernel.panic()
        """,
    )
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert text.count("n=11,") >= 2
    assert "WARNING: too much" in text
    assert "cardboard burns" in text


def test_a_dead_host_ends_the_examples_at_once(fake: pytest.Pytester) -> None:
    result = run(
        fake,
        """
        from anykernel.plugin.fixtures import LEASES

        @given(n=st.integers(0, 1000))
        @settings(database=None)
        def test_dies(request, kernel, n):
            from anykernel.errors import HostDied
            assert len(seen) < 3, "no example may follow"
            seen.append(n)
            if len(seen) == 3:
                request.node.stash[LEASES][0].host.alive = False
                raise HostDied("killed by signal 9")

        def test_next(kernel):
            assert kernel.state == []
        """,
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*HostDied: killed by signal 9", "*Falsifying example*'n': *"])
