# SPDX-License-Identifier: GPL-2.0
"""A kernel's failure is its test's failure, and nobody else's."""

import pytest


def test_a_crash_fails_its_test_and_the_next_gets_a_fresh_kernel(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        from anykernel.plugin.fixtures import POOL

        def test_crash(kernel): kernel.panic()
        def test_next(kernel, pytestconfig):
            assert kernel.state == []
            assert pytestconfig.stash[POOL].booted == 2
        """
    )
    fake.runpytest().assert_outcomes(failed=1, passed=1)


def test_a_swallowed_crash_fails_too_unless_allowed(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import contextlib
        import pytest

        def test_swallowed(kernel):
            with contextlib.suppress(Exception):
                kernel.panic()

        @pytest.mark.kernel(allow_crash=True)
        def test_allowed(kernel):
            with contextlib.suppress(Exception):
                kernel.panic()
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*KernelCrash*", "*fake.c:42", "*(The test*allow_crash=True*"])


def test_a_dead_host_fails_its_test_alone(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        from anykernel.plugin.fixtures import LEASES

        def test_killed(request, kernel):
            request.node.stash[LEASES][0].host.alive = False

        def test_next(kernel): pass
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*HostDied: *"])


def test_a_warning_fails_unless_allowed(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        def test_warns(kernel): kernel.log.lines.append("WARNING: at net/core/dev.c:1")

        @pytest.mark.kernel(allow_warnings=True)
        def test_allowed(kernel): kernel.log.lines.append("WARNING: at net/core/dev.c:1")

        def test_next(kernel): pass

        @pytest.mark.xfail(reason="known", strict=True)
        def test_known(kernel): kernel.log.lines.append("WARNING: at net/core/dev.c:1")
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(failed=1, passed=2, xfailed=1)
    result.stdout.fnmatch_lines(
        ["*KernelWarning: the kernel complained*", "*WARNING: at net/core/dev.c:1", "*allow_warn*"]
    )


def test_the_tests_own_failure_is_not_hidden_by_a_warning(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        def test_it(kernel):
            kernel.log.lines.append("WARNING: at net/core/dev.c:1")
            assert 1 == 2
        """
    )
    result = fake.runpytest()
    result.stdout.fnmatch_lines(["*assert 1 == 2", "*- Kernel log -*", "WARNING: at net*"])
