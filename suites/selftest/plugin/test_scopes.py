# SPDX-License-Identifier: GPL-2.0
"""Kernels of a class, a module, the session: set up once, for each test as they were then."""

from __future__ import annotations

from pathlib import Path

import pytest

ROUTER = """
import pytest

made = []

@pytest.fixture(scope="module")
def router(kernel_module):
    made.append("router")
    kernel_module.state.append("router")
    yield kernel_module
    assert kernel_module.state == ["router"], "the teardown sees what the set-up made"
"""


def test_set_up_once_and_restored_for_each_test(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        ROUTER
        + """
@pytest.fixture
def client(router):
    router.state.append("client")
    yield
    assert router.state == ["router", "client", "test"]

@pytest.mark.parametrize("n", range(4))
def test_it(router, client, kernel_module, n):
    assert router is kernel_module
    assert made == ["router"]
    assert router.state == ["router", "client"]
    router.state.append("test")

def test_without_fixtures_of_its_own(router):
    assert router.state == ["router"]
    router.state.clear()

def test_boots(pytestconfig, router):
    from anykernel.plugin.fixtures import POOL
    assert pytestconfig.stash[POOL].booted == 1
    assert len(router.saved) == 2, "one snapshot of the boot, one of the set-up"
"""
    )
    fake.runpytest().assert_outcomes(passed=6)


def test_scopes_nest(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        ROUTER
        + """
@pytest.fixture(scope="module")
def late(router):
    router.state.append("late")

@pytest.fixture(scope="class")
def of_class(router):
    router.state.append("class")
    yield
    assert router.state == ["router", "class"]

@pytest.mark.usefixtures("of_class")
class TestClass:
    def test_one(self, router):
        assert router.state == ["router", "class"]
        router.state.append(1)

    def test_two(self, router):
        assert router.state == ["router", "class"]
        router.state.append(2)

class TestOther:
    def test_it(self, router):
        assert router.state == ["router"]
        router.state.append(3)
"""
    )
    fake.runpytest().assert_outcomes(passed=3)


def test_a_fixture_that_comes_later_adds_to_the_set_up(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def early(kernel_module):
            kernel_module.state.append("early")

        @pytest.fixture(scope="module")
        def late(kernel_module):
            kernel_module.state.append("late")

        def test_1(early, kernel_module):
            assert kernel_module.state == ["early"]
            kernel_module.state.append("dirt")

        def test_2(late, kernel_module):
            assert kernel_module.state == ["early", "late"]
            kernel_module.state.append("dirt")

        def test_3(kernel_module):
            assert kernel_module.state == ["early", "late"]
        """
    )
    fake.runpytest().assert_outcomes(passed=3)


def test_a_fixture_that_comes_in_the_middle_of_a_test_is_refused(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        ROUTER
        + """
@pytest.fixture(scope="module")
def harmless():
    return 1

def test_first(request, kernel_module):
    assert request.getfixturevalue("harmless") == 1
    request.getfixturevalue("router")
"""
    )
    result = fake.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*UsageError: the fixture router (scope module) uses kernel_module, but is set up when "
            "*::test_first has begun already: name it among that test's arguments*"
        ]
    )


def test_marks_of_the_scope_choose_the_kernel(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest
        from anykernel.plugin.fixtures import LEASES

        pytestmark = pytest.mark.kernel(seed=3)

        def seeds(request):
            return [lease.options.seed for lease in request.node.stash[LEASES]]

        def test_module(request, kernel_module):
            assert seeds(request) == [3]

        @pytest.mark.kernel(seed=4)
        class TestClass:
            def test_class(self, request, kernel_class):
                assert 4 in seeds(request)

            @pytest.mark.kernel(seed=5)
            def test_both(self, request, kernel_class, kernel):
                assert seeds(request)[-1] == 5

        def test_session(request, kernel_session):
            assert 0 in seeds(request)

        @pytest.mark.kernel(allow_warnings=True)
        def test_what_is_allowed_is_the_tests_own(kernel_module):
            kernel_module.log.lines.append("WARNING: allowed")

        @pytest.mark.kernel(seed=6)
        def test_own(kernel_module):
            pass
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(passed=5, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*::test_own: kernel_module is the same kernel for all tests of the module, so this "
            "test's own @pytest.mark.kernel can't choose another: choose it for the module "
            "(its mark, pytestmark), or use the fixture kernel"
        ]
    )


def test_failures_of_the_set_up_are_errors_of_each_test(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def warns(kernel_module):
            kernel_module.log.lines.append("WARNING: in the set-up")

        def test_1(warns): pass
        def test_2(warns): pass
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*KernelWarning: the kernel complained*", "*in the set-up*"])


def test_failures_of_a_test_are_its_own(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        ROUTER
        + """
@pytest.fixture
def warns_at_its_end(router):
    yield
    router.log.lines.append("WARNING: at the end")

def test_warns(router):
    router.log.lines.append("WARNING: in a test")

def test_good(router):
    assert len(router.log.lines) == 1

def test_teardown(router, warns_at_its_end):
    pass

def test_dies(router):
    router.panic()

def test_alive(router):
    assert router.state == ["router"] and made == ["router"]
"""
    )
    result = fake.runpytest()
    result.assert_outcomes(passed=3, failed=2, errors=1)
    result.stdout.fnmatch_lines(["ERROR *::test_teardown - *"])


def test_who_leaves_a_thread_behind_has_the_set_up_made_again(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        ROUTER
        + """
import threading

end = threading.Event()

def test_leaves_one(router):
    threading.Thread(target=end.wait, daemon=True).start()

def test_next(router):
    assert made == ["router"] * 2
    assert router.state == ["router"]

def test_the_one_after(router):
    assert made == ["router"] * 2
    end.set()
"""
    )
    fake.runpytest().assert_outcomes(passed=3)


def test_hypothesis_examples_begin_with_the_set_up(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        ROUTER
        + """
from hypothesis import given, settings, strategies as st

@settings(max_examples=10)
@given(n=st.integers())
def test_it(router, n):
    assert router.state == ["router"]
    router.state.append(n)

def test_after(router):
    assert router.state == ["router"]
"""
    )
    fake.runpytest().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("scope", "name", "says"),
    [
        ("module", "kernel", "Use kernel_module instead"),
        ("class", "kernel", "Use kernel_class instead"),
        ("session", "kernel_module", "Use kernel_session instead"),
        ("module", "network", "Use network_module instead"),
        ("module", "unit", "There is none of scope module: make the fixture one of scope function"),
        ("module", "kernel_factory", "There is none of scope module"),
    ],
)
def test_a_narrow_kernel_in_a_wide_fixture(
    fake: pytest.Pytester, scope: str, name: str, says: str
) -> None:
    fake.makepyfile(
        f"""
        import pytest

        @pytest.fixture(scope="{scope}")
        def router({name}):
            pass

        def test_it(router): pass
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"{name} is of scope *: a fixture of scope {scope} can't use it."])
    result.stdout.fnmatch_lines([f"{says}*"])
    result.stdout.fnmatch_lines(["*def router(*"])
    result.stdout.no_fnmatch_line("*ScopeMismatch*")


def test_other_mismatches_are_pytests_own(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def mine(tmp_path): pass

        def test_it(mine): pass
        """
    )
    fake.runpytest().stdout.fnmatch_lines(["ScopeMismatch: You tried to access*"])


def test_the_next_module_has_another(fake: pytest.Pytester) -> None:
    for name in "ab":
        fake.path.joinpath(f"test_{name}.py").write_text(
            ROUTER
            + """
def test_it(router, pytestconfig):
    from anykernel.plugin.fixtures import POOL
    assert router.state == ["router"]
    assert made == ["router"]
    assert pytestconfig.stash[POOL].booted == 1
"""
        )
    fake.runpytest().assert_outcomes(passed=2)


def test_xdist(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        ROUTER
        + """
@pytest.mark.parametrize("n", range(8))
def test_it(router, n):
    assert router.state == ["router"] and made == ["router"]
    router.state.append(n)
"""
    )
    fake.runpytest("-n", "2").assert_outcomes(passed=8)


REAL = """
import os
import signal
import pytest

made = []

@pytest.fixture(scope="module")
def router(kernel_module):
    made.append(1)
    kernel_module.add_netdev("eth0", addresses=["10.0.0.1/24"])
    sock = kernel_module.socket()
    sock.bind(("10.0.0.1", 80))
    sock.listen()
    yield kernel_module, sock

@pytest.fixture(scope="module")
def pair(network_module):
    a, b = network_module.chain(2)
    a.write_text("/tmp/x", "a")
    return a, b
"""


def test_real_kernels(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        REAL
        + """
@pytest.mark.parametrize("n", range(3))
def test_sockets_of_the_set_up(router, n):
    kernel, sock = router
    assert len(made) == 1
    assert not kernel.os.exists("/tmp/x")
    kernel.write_text("/tmp/x", "x")
    client = kernel.socket()
    client.connect(("10.0.0.1", 80))
    assert sock.accept()[1] == client.getsockname()
    assert list(kernel.netdevs) == ["eth0"]
    kernel.netdevs["eth0"].remove()

@pytest.mark.kernel(allow_crash=True)
def test_crashes(router):
    with pytest.raises(Exception, match="crashed"):
        router[0].inside.memset(16, 0, 16)

def test_alive_again(router):
    assert len(made) == 1
    assert router[0].netdevs["eth0"].name == "eth0"

def test_killed(router):
    os.kill(router[0].instance._host.pid, signal.SIGKILL)
    router[0].os.getpid()

def test_made_anew(router):
    assert len(made) == 2
    assert router[0].os.getpid() == 1

@pytest.mark.parametrize("n", range(3))
def test_network(pair, network_module, n):
    a, b = pair
    assert a.read_text("/tmp/x") == "a"
    a.write_text("/tmp/x", "changed")
    assert len(network_module.nodes) == 2
    network_module.node()
    program = network_module.start(lambda process: network_module.sleep(5), on=b, daemon=True)
    network_module.run(1)
    assert not program.done
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=9, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_killed - *HostDied*"])


def test_a_set_up_that_crashes(pytester: pytest.Pytester, tmp_path: Path) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def router(kernel_module):
            kernel_module.inside.memset(16, 0, 16)

        def test_1(router): pass
        def test_2(router): pass
        def test_3(kernel_module): pass
        def test_4(kernel): assert kernel.os.getpid() == 1
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes["errors"] == 2 and outcomes["passed"] == 1 and outcomes["failed"] == 1
    result.stdout.fnmatch_lines(["*KernelCrash: the kernel crashed*"])
