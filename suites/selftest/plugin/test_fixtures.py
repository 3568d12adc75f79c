# SPDX-License-Identifier: GPL-2.0
"""Pristine kernels, as few boots as possible, and errors that say what happened, once."""

import pytest


def test_each_test_gets_a_pristine_kernel_without_a_new_boot(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        numbers = set()

        @pytest.mark.parametrize("n", range(5))
        def test_it(request, kernel, n):
            from anykernel.plugin.fixtures import LEASES
            assert kernel.state == []
            kernel.state.append(n)
            (lease,) = request.node.stash[LEASES]
            numbers.add(lease.host.number)
            assert len(numbers) == 1
        """
    )
    fake.runpytest().assert_outcomes(passed=5)


def test_factory_gives_further_kernels_and_takes_them_back(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest
        from anykernel.plugin.fixtures import LEASES, POOL

        @pytest.mark.parametrize("n", range(3))
        def test_it(request, kernel, kernel_factory, n):
            second, third = kernel_factory(), kernel_factory(seed=9)
            assert len({id(k) for k in (kernel, second, third)}) == 3
            assert [lease.options.seed for lease in request.node.stash[LEASES]] == [0, 0, 9]
            second.state.append("touched")
            third.state.append("touched")

        def test_few_boots(pytestconfig):
            assert pytestconfig.stash[POOL].booted == 3
        """
    )
    fake.runpytest().assert_outcomes(passed=4)


def test_idle_kernels_are_bounded(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest
        from anykernel.plugin import pool
        from anykernel.plugin.fixtures import POOL

        hosts = []

        @pytest.mark.parametrize("n", range(pool.IDLE_MOST + 3))
        def test_it(request, kernel_factory, n):
            kernel_factory(seed=n)
            from anykernel.plugin.fixtures import LEASES
            hosts.append(request.node.stash[LEASES][0].host)

        def test_bounded():
            assert [host.alive for host in hosts] == [False] * 3 + [True] * pool.IDLE_MOST
        """
    )
    fake.runpytest().assert_outcomes(passed=12)


def test_hosts_end_with_the_session(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        def test_it(request, kernel, hosts=[]):
            import builtins
            from anykernel.plugin.fixtures import LEASES
            builtins.anykernel_test_host = request.node.stash[LEASES][0].host
        """
    )
    fake.runpytest_inprocess().assert_outcomes(passed=1)
    import builtins

    host = builtins.anykernel_test_host  # type: ignore[attr-defined]
    del builtins.anykernel_test_host  # type: ignore[attr-defined]
    assert host.alive is False


def test_what_cannot_be_built_is_tried_once_and_said_without_our_stack(
    fake: pytest.Pytester,
) -> None:
    fake.makepyfile(
        """
        def test_one(kernel): pass
        def test_two(kernel): pass
        """
    )
    result = fake.runpytest_subprocess("--kernel-source=broken")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["no kernel for broken default seed 0", "no such tree; give a directory"]
    )
    result.stdout.no_fnmatch_line("*pool.py*")
    result.stdout.no_fnmatch_line("During handling of *")
    assert (result.outlines + result.errlines).count("BUILD TRIED") == 1


def test_a_build_shows_that_it_goes_on(
    fake: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anykernel.plugin.progress.STEP", 0.0)
    fake.makepyfile("def test_it(kernel): pass")
    fake.runpytest_inprocess("--kernel-source=slow").stdout.fnmatch_lines(
        [
            "anykernel: slow default: unpacking linux",
            "anykernel: building slow default: 300 of about 1200 objects, * left, net/core/dev.o",
        ]
    )


def test_selection_and_last_failed_work(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        def test_good(kernel): pass
        def test_bad(kernel): assert kernel.state == [1]
        def test_other(kernel): pass
        """
    )
    fake.runpytest("-k", "good or bad").assert_outcomes(passed=1, failed=1, deselected=1)
    result = fake.runpytest("--lf")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["run-last-failure: rerun previous 1 failure*"])
    fake.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=2, failed=1)


def test_xdist_workers_have_kernels_of_their_own(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(6))
        def test_it(kernel, n):
            assert kernel.state == []
            kernel.state.append(n)

        def test_bad(kernel):
            assert kernel.state == [1]
        """
    )
    result = fake.runpytest_subprocess("-n", "2")
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["anykernel: *", "*- Kernel log -*", "*- Replay -*"])
