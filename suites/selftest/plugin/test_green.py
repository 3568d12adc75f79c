# SPDX-License-Identifier: GPL-2.0
"""No green test on a kernel that complained, and no red one for what another test did: on real
kernels, whose count of warnings decides."""

import pytest

from suites.selftest.plugin.test_real import inner, run  # noqa: F401

INJECTED = """
from suites.selftest.inject import Injected

WARN = 'long go(long a) { WARN(1, "here"); return 0; }'
FLOOD = '''
long go(long a)
{
	for (long i = 0; i < a; i++)
		printk("flood flood flood flood flood flood %ld\\\\n", i);
	return 0;
}
'''
"""


def test_a_warning_that_the_console_is_not_told(inner: pytest.Pytester) -> None:  # noqa: F811
    result = run(
        inner,
        INJECTED
        + """
@pytest.mark.kernel(cmdline="quiet")
def test_quiet(kernel):
    Injected(kernel, WARN)("go", 0)  # this line

def test_sysctl(kernel):
    kernel.sysctl["kernel.printk"] = "1 4 1 7"
    Injected(kernel, WARN)("go", 0)
    assert kernel.log.failures() == []

@pytest.mark.kernel(cmdline="quiet", allow_warnings=True)
def test_allowed(kernel):
    Injected(kernel, WARN)("go", 0)
""",
    )
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines(
        [
            "*KernelWarning: the kernel warned during this test (1 x), but not in its log:",
            "*its console is told little*",
            "*WARNING: CPU: 0 PID: 1 at injected.c:1 *",
            '*test_quiet: Injected(kernel, WARN)("go", 0)  # this line',
            "*stack (innermost first):",
        ]
    )


def test_more_log_than_can_be_kept(inner: pytest.Pytester) -> None:  # noqa: F811
    result = run(
        inner,
        INJECTED
        + """
def test_at_once(kernel):
    Injected(kernel, FLOOD)("go", 20_000)

def test_with_a_warning_first(kernel):
    Injected(kernel, WARN)("go", 0)
    Injected(kernel, FLOOD)("go", 20_000)

def test_bit_by_bit(kernel):  # is more, and nothing is lost
    flood = Injected(kernel, FLOOD)
    for _ in range(10):
        flood("go", 5_000)
    assert len(kernel.log.text()) > 2 << 20
    assert kernel.log.text().count("flood 4999\\n") == 10
""",
    )
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines(
        [
            "*KernelWarning: the kernel printed more than could be kept*",
            "*bytes of its log are lost*",
            "*KernelWarning: the kernel complained*",
        ]
    )


def test_a_warning_that_the_test_took_back(inner: pytest.Pytester) -> None:  # noqa: F811
    result = run(
        inner,
        INJECTED
        + """
from hypothesis import given, settings, strategies as st

def test_restored(kernel):
    before = kernel.snapshot()
    Injected(kernel, WARN)("go", 0)
    kernel.restore(before)

@settings(max_examples=30, database=None, derandomize=True)
@given(number=st.integers(0, 100))
def test_examples(kernel, number):
    if number > 10:
        Injected(kernel, WARN)("go", 0)
""",
    )
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*test_restored: Injected*", "*number=11,*"])


def test_a_failure_in_a_teardown(inner: pytest.Pytester) -> None:  # noqa: F811
    result = run(
        inner,
        INJECTED
        + """
import contextlib
from anykernel.errors import KernelCrash

@pytest.fixture
def warns(kernel):
    yield
    Injected(kernel, WARN)("go", 0)

@pytest.fixture
def crashes(kernel):
    yield
    with contextlib.suppress(KernelCrash):
        kernel.syscall("exit_group", 0)

def test_one(warns): pass
def test_two(crashes): pass
def test_both(kernel, warns):
    Injected(kernel, WARN)("go", 0)
""",
    )
    result.assert_outcomes(failed=1, passed=3, errors=3)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_one*", "*KernelWarning: *", "*, in warns: *"]
    )


def test_warnings_of_any_node(inner: pytest.Pytester) -> None:  # noqa: F811
    result = run(
        inner,
        INJECTED
        + """
def test_nodes(network):
    a, b = network.chain(2)
    b.sysctl["kernel.printk"] = "1 4 1 7"
    warn = Injected(b, WARN)
    network.start(lambda process: warn("go", 0), on=a)
    network.run()
""",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*KernelWarning: the kernel of node n1 warned*"])


def test_a_report_is_of_its_test(inner: pytest.Pytester) -> None:  # noqa: F811
    result = run(
        inner,
        INJECTED
        + """
from anykernel.errors import KernelCrash

@pytest.mark.kernel(allow_warnings=True, allow_crash=True)
def test_1_warns(kernel):
    Injected(kernel, WARN)("go", 0)

@pytest.mark.kernel(allow_warnings=True, allow_crash=True)
def test_2_crashes(kernel):
    assert "WARNING" not in kernel.log.text()
    before = kernel.snapshot()
    Injected(kernel, WARN)("go", 0)
    kernel.restore(before)
    with pytest.raises(KernelCrash) as caught:
        kernel.inside.dev_open(None, None)
    assert "WARNING" not in caught.value.report.render()
    assert caught.value.report.log[-1].endswith("Run /init as init process")
""",
    )
    result.assert_outcomes(passed=3)
