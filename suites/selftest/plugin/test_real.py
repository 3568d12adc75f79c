# SPDX-License-Identifier: GPL-2.0
"""The plugin on a real kernel: what fails is shown, pytest ends, the next test is well."""

import re
from pathlib import Path

import pytest

HEAD = """
import os, signal, socket, struct
import pytest
from anykernel.plugin.fixtures import LEASES

def host_of(request):
    return request.node.stash[LEASES][0].host

def is_well(kernel):
    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 7))
        sock.sendto(b"well", sock.getsockname())
        return sock.recv(10) == b"well"
"""

TAIL = """
def test_next(kernel):
    assert is_well(kernel)
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> pytest.Pytester:
    """A folder whose tests run on the kernel that this run is about."""
    from anykernel.plugin import options

    default = options.defaults(pytestconfig)
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\n"
        f"kernel_source = {default.source}\nkernel_flavour = {default.flavour}\n"
    )
    return pytester


def run(inner: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    import textwrap

    inner.makepyfile(HEAD + textwrap.dedent(body) + TAIL)
    return inner.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=120)


def test_a_failing_test_shows_its_kernel(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        def test_fails(kernel):
            eth0 = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])
            with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", ("192.0.2.9", 9))
            assert False, "on purpose"
        """,
        "--kernel-seed=3",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: on purpose",
            "*- Kernel log -*",
            "... * lines of its boot",
            "*- Last packets -*",
            "*ARP who has 192.0.2.9*",
            "*- Replay -*",
            "pytest *::test_fails --kernel-source=* --kernel-flavour=* --kernel-seed=3 *",
            "all packets: *.pcap",
        ]
    )
    path = re.search(r"all packets: (.*\.pcap)", result.stdout.str())
    assert path is not None
    from scapy.utils import rdpcap

    assert len(rdpcap(str(Path(path[1])))) >= 1


def test_a_panic_fails_its_test_alone(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        def test_panics(kernel):
            kernel.syscall("exit_group", 0)  # pid 1 ends: nobody survives that
        """,
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*KernelCrash: *Attempted to kill init*", "*- Kernel log -*", "*Attempted to kill init*"]
    )
    # The stack of the crash, with source lines.
    assert re.search(r"do_exit.*kernel/exit\.c:\d+", result.stdout.str())


def test_a_killed_host_fails_its_test_alone(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        def test_killed(request, kernel):
            os.kill(host_of(request).pid, signal.SIGKILL)
            is_well(kernel)

        def test_killed_unnoticed(request, kernel):
            os.kill(host_of(request).pid, signal.SIGKILL)
            os.waitid(os.P_PID, host_of(request).pid, os.WEXITED | os.WNOWAIT)
        """,
    )
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*HostDied: *", "*- Replay -*"])


def test_a_lockup_ends(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        @pytest.mark.kernel(budget=0.1)
        def test_long(kernel):
            kernel.syscall("mknod", b"/urandom\\0", 0o20600, os.makedev(1, 9))
            with kernel.open("/urandom", "rb", buffering=0) as file, kernel.memory() as memory:
                room = memory.new(8 << 20)
                # Two gigabytes, in one system call: seconds of work for a kernel.
                vector = struct.pack("=QQ", room.address, 8 << 20) * 250
                kernel.syscall("readv", file.fileno(), memory.put(vector), 250)
        """,
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*KernelCrash: *ock*up*"])


def test_a_warning_in_the_log_fails_unless_allowed(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        def warn(kernel):
            kernel.syscall("mknod", b"/kmsg\\0", 0o20600, os.makedev(1, 11))
            with kernel.open("/kmsg", "wb", buffering=0) as file:
                file.write(b"<4>WARNING: CPU: 0 PID: 1 at net/core/dev.c:1\\n")

        def test_warns(kernel):
            warn(kernel)

        @pytest.mark.kernel(allow_warnings=True)
        def test_allowed(kernel):
            warn(kernel)
        """,
    )
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["*KernelWarning: the kernel complained*", "*WARNING: CPU: 0*"])


def test_hypothesis_examples_are_pristine(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        from hypothesis import given, settings, strategies as st

        @given(ttl=st.integers(1, 255))
        @settings(max_examples=200, deadline=None)
        def test_examples(kernel, ttl):
            assert kernel.sysctl["net.ipv4.ip_default_ttl"] == "64"
            kernel.sysctl["net.ipv4.ip_default_ttl"] = ttl
        """,
    )
    result.assert_outcomes(passed=2)


def test_hypothesis_shrinks_a_panic(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        from hypothesis import given, settings, strategies as st

        @given(number=st.integers(0, 1000))
        @settings(max_examples=50, deadline=None, database=None)
        def test_panics(kernel, number):
            if number > 10:
                kernel.syscall("exit_group", 0)
        """,
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*KernelCrash: *", "*number=11,*", "*--hypothesis-seed=*"])


def test_workers_and_last_failed(inner: pytest.Pytester) -> None:
    body = """
        @pytest.mark.parametrize("number", range(4))
        def test_many(kernel, number):
            assert is_well(kernel)
            assert number != 2
        """
    result = run(inner, body, "-n", "2")
    result.assert_outcomes(failed=1, passed=4)
    inner.runpytest_subprocess("-q", timeout=60)
    result = inner.runpytest_subprocess("--lf", timeout=60)
    result.assert_outcomes(failed=1)


def test_an_ungranted_stub_fails_its_test(inner: pytest.Pytester) -> None:
    body = """
        @pytest.mark.kernel(components=[])
        def test_reaches(kernel):
            kernel.os.readlink("/proc/self/ns/net")
        """
    result = run(inner, body)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*KernelCrash: the kernel crashed: stub: stub reached: net_core_*netns_get(0x*)",
            "pytest *::test_reaches * --kernel-components=base *",
            "*= stubs of kernels with some components =*",
            "  reached ungranted net_core_*netns_get x 1 by *::test_reaches",
        ]
    )


def test_an_ungranted_stub_is_reported(inner: pytest.Pytester) -> None:
    body = """
        @pytest.mark.kernel(components=[])
        @pytest.mark.parametrize("time", range(2))
        def test_reaches(kernel, time):
            with pytest.raises(FileNotFoundError):
                kernel.os.readlink("/proc/self/ns/net")
        """
    result = run(inner, body, "--kernel-stubs=report", "-n2")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "base (*): generated *",
            "  reached ungranted net_core_*netns_get x 2 by *::test_reaches*",
            "  ungranted stubs returned 0 (--kernel-stubs=report): 1 were reached",
        ]
    )


def test_a_run_on_components(inner: pytest.Pytester) -> None:
    body = """
        import errno

        def test_absent(kernel):
            with pytest.raises(OSError) as error:
                kernel.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            assert error.value.errno == errno.EAFNOSUPPORT
        """
    run(inner, body, "--kernel-components=net-ipv4").assert_outcomes(passed=2)
    result = run(inner, body, "--kernel-components=net/ipv5")
    result.assert_outcomes(errors=2)
    assert "this kernel has no component 'net/ipv5'; did you mean" in result.stdout.str()


def test_a_unit_that_the_kernel_does_not_have(inner: pytest.Pytester) -> None:
    """No kernel is missing: it is a file's name, which the test's own line gives."""
    result = run(inner, 'def test_unit(unit):\n    unit("net/ipv4/tcp_cubik.c")\n')
    result.assert_outcomes(failed=1, passed=1)
    said = result.stdout.str()
    assert "no unit of the kernel for" in said and "no kernel for" not in said
    assert "not built from net/ipv4/tcp_cubik.c; did you mean net/ipv4/tcp_cubic.c" in said
    assert 'in test_unit: unit("net/ipv4/tcp_cubik.c")' in said
