# SPDX-License-Identifier: GPL-2.0
"""The fixture `network`: pristine for each test and example; what a failing test shows of it."""

import textwrap

import pytest

HEAD = """
import pytest
from hypothesis import given, settings, strategies as st

def pair(network, **options):
    return network.chain(2, addresses=("10.0.0.1/24", "10.0.0.2/24"), **options)

def say(node, text):
    import os, stat
    node.os.mknod("/tmp/kmsg", 0o600 | stat.S_IFCHR, os.makedev(1, 11))
    node.write_text("/tmp/kmsg", f"<1>{text}{chr(10)}")
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
    inner.makepyfile(HEAD + textwrap.dedent(body))
    return inner.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=120)


def test_each_test_has_an_empty_network(inner: pytest.Pytester) -> None:
    """Whatever the one before left: programs, captures, rules, links that are down."""
    result = run(
        inner,
        """
        LIVES = []

        @pytest.mark.parametrize("number", range(4))
        def test_life(network, number):
            assert (network.now, network.trace, len(network.nodes)) == (10**9, 0, 0)
            assert network.links == () and network.hub.programs == []
            a, b = pair(network, loss=0.2)
            assert a.os.listdir("/tmp") == [] and a.netdevs.keys() == {"eth0"}
            ping = network.ping(a, b, count=20, interval=0.01)
            network.run()
            LIVES.append((network.now, network.trace, ping.rtts))
            a.write_text("/tmp/left", "over")
            link, = network.links
            if number == 0:
                network.start(lambda process: network.sleep(100), on=a)
                network.run(0.1)
            elif number == 1:
                link.rule(lambda frame: 1 / 0)
                link.capture().__enter__()
                a.write_text("/tmp/other", "over")
                network.snapshot()
            elif number == 2:
                link.down()
                assert len(set(map(repr, LIVES))) == 1
                assert False, "on purpose"
            assert len(set(map(repr, LIVES))) == 1
        """,
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: on purpose"])


def test_each_example_has_what_the_fixtures_made(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        @pytest.fixture
        def nodes(network):
            made = pair(network, delay="1ms")
            network.ping(*made, count=1)
            network.run()
            return made

        SEEN = {}

        @settings(max_examples=30, derandomize=True)
        @given(count=st.integers(1, 3), loss=st.sampled_from([0, 0.5]))
        def test_it(network, nodes, count, loss):
            a, b = nodes
            assert network.nodes == {"n0": a, "n1": b} and network.links[0].is_up
            assert network.links[0].cable.loss == 0 and a.os.listdir("/tmp") == []
            a.write_text("/tmp/left", "over")
            network.links[0].set(loss=loss)
            network.node("more")
            ping = network.ping(a, b, count=count, interval=0.1)
            network.run()
            assert SEEN.setdefault((count, loss), network.trace) == network.trace
            network.links[0].down()
        """,
    )
    result.assert_outcomes(passed=1)


def test_what_a_failing_test_shows(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        def test_fails(network):
            left, middle, right = (network.node(n) for n in ("left", "middle", "right"))
            network.link(left, middle, name="first", addresses=("10.0.0.1/24", "10.0.0.2/24"))
            second = network.switch(middle, right, name="second", delay="1ms")
            say(left, "left was here")
            say(right, "and right")
            network.ping(left, middle, count=1)
            network.run()
            second.set(loss=1)
            right.ports[0].netdev.add_address("10.0.1.1/24")
            network.ping(right, middle, address="10.0.1.9", count=1, interval=0.1)
            network.run()
            assert False, "on purpose"

        def test_next(network):
            network.ping(*pair(network), count=1)
            network.run()
        """,
        "--kernel-seed=3",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: on purpose",
            "*- Kernel log of node left -*",
            "*left was here*",
            "*- Kernel log of node right -*",
            "*and right*",
            "*- Last packets -*",
            "*first * left * passed *ICMP 10.0.0.1 > 10.0.0.2 echo-request*",
            "*first * middle * passed *ICMP 10.0.0.2 > 10.0.0.1 echo-reply*",
            "*second * right * lost *ARP who has 10.0.1.9*",
            "*first * left * passed *MLD report v2 :: > ff02::16: ...",
            "*- Replay -*",
            "pytest *::test_fails --kernel-source=* --kernel-flavour=* --kernel-seed=3*",
        ]
    )
    result.stdout.no_fnmatch_line("*Kernel log of node middle*")


def test_the_crash_of_one_node(inner: pytest.Pytester) -> None:
    """Fails the test that didn't notice, too; the next has a network of its own."""
    result = run(
        inner,
        """
        def test_crashes(network):
            a, b = pair(network)
            b.inside.memset(16, 1, 8)

        def test_unnoticed(network):
            a, b = pair(network)
            with pytest.raises(Exception, match="n1"):
                b.inside.memset(16, 1, 8)

        @pytest.mark.kernel(allow_crash=True)
        def test_on_purpose(network):
            a, b = pair(network)
            with pytest.raises(Exception, match="n1"):
                b.inside.memset(16, 1, 8)

        def test_next(network):
            a, b = pair(network)
            ping = network.ping(a, b, count=2)
            network.run()
            assert ping.lost == 0
        """,
    )
    result.assert_outcomes(failed=2, passed=2)
    result.stdout.fnmatch_lines(
        ["*KernelCrash: the kernel of node n1 crashed: oops: bad memory access", "*memset+*"]
    )


def test_a_warning_of_one_node_fails_the_test(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        def test_warns(network):
            a, b = pair(network)
            b.inside.warn_slowpath_fmt(b"net/core/dev.c", 7, 9, None)

        def test_next(network):
            pair(network)
        """,
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*WARNING*dev.c*"])


def test_real_clock_is_refused(inner: pytest.Pytester) -> None:
    result = run(
        inner,
        """
        @pytest.mark.kernel(clock="real")
        def test_it(network):
            pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*a network has one clock, which is virtual: leave clock= out"])
