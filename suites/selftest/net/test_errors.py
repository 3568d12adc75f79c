# SPDX-License-Identifier: GPL-2.0
"""What can't be is refused with what to do; a crash names its node and leaves the others well."""

from __future__ import annotations

import math
import os
import re
import socket
import stat
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import Deadlock, KernelCrash, UsageError
from suites.selftest.net.raw import Station, crash, mute

if TYPE_CHECKING:
    from collections.abc import Callable

    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.node import Node

WILD = (0x10).to_bytes(8, "little")
ONE, TWO = ("10.0.0.1/24", "10.0.0.2/24")


def test_addresses_that_clash(network: Network) -> None:
    a, b, _ = (network.node(name) for name in "abc")
    network.link(a, b, addresses=(ONE, TWO))
    before = len(network.links), len(a.ports), list(a.netdevs)
    with pytest.raises(UsageError, match=r"10\.0\.0\.2/16 for a clashes: b's eth0 on a-b has"):
        network.link("a", "c", addresses=("10.0.0.2/16", "10.9.0.1/16"))
    with pytest.raises(UsageError, match=r"10\.0\.0\.1/16 for c clashes"):
        network.link("a", "c", addresses=("10.9.0.2/16", "10.0.0.1/16"))
    with pytest.raises(UsageError, match="clash"):
        network.link("a", "c", addresses=("10.9.0.2/16", "10.9.0.2/16"))
    assert (len(network.links), len(a.ports), list(a.netdevs)) == before  # nothing half-made
    network.link("a", "c", name="ok", addresses=(["10.9.0.1/16", "fe80::1/64"], ["fe80::1/64"]))


@pytest.mark.parametrize("bad", ["10.0.0.1", "10.0.0.1/33", "nonsense/8", "10.0.0/8", ""])
def test_addresses_that_are_none(network: Network, bad: str) -> None:
    mute(network, "a", "b")
    with pytest.raises(UsageError, match="address"):
        network.link("a", "b", addresses=(bad, "10.0.0.2/24"))
    assert network.links == ()


MISTAKES: list[tuple[str, Callable[[Network], Any]]] = [
    ("there is no node 'x' in this network; there are a, b, c", lambda n: n.link("a", "x")),
    ("there is no node 'x'", lambda n: n.segment("a", "x")),
    ("there is no node 'x'", lambda n: n.start(print, on="x")),
    ("a link of a to itself", lambda n: n.link("a", "a")),
    ("a link has no option 'speed'; there are", lambda n: n.link("a", "b", speed=3)),
    ("a link has no option 'speed'", lambda n: n.segment("a", speed=3)),
    ("a link has no option 'speed'", lambda n: n.links[0].set(speed=3)),
    ("a link has no option 'speed'", lambda n: n.links[0].set(sender="a", speed=3)),
    ("two parts", lambda n: n.link("a", "b", addresses=(ONE,))),  # type: ignore[arg-type]
    ("two ends already: make a segment or a switch", lambda n: n.links[0].plug("c")),
    ("there is a link taken already", lambda n: n.link("a", "b", name="taken")),
    ("'a' is no name for a new node", lambda n: n.node("a")),
    ("'' is no name for a new node", lambda n: n.node("")),
    ("taken has no end at c", lambda n: n.links[0].port("c")),
    ("taken has no end at c", lambda n: n.links[0].rule(print, sender="c")),
    ("a has no end of", lambda n: n.nodes["a"].port("other")),
    ("saved with its network", lambda n: n.nodes["a"].snapshot()),
    ("restored with its network", lambda n: n.nodes["a"].restore(1)),
    ("no snapshot 1: there are 0", lambda n: n.restore(1)),
    ("a rate is 1 bit/s to", lambda n: n.link("a", "b", rate=0)),
    ("a rate is 1 bit/s to", lambda n: n.link("a", "b", rate=-5)),
    ("no unit of a rate", lambda n: n.link("a", "b", rate="5 apples")),
    ("a time is 0 to one day", lambda n: n.link("a", "b", delay=-1)),
    ("a time is 0 to one day", lambda n: n.link("a", "b", jitter="25000000 s")),
    ("whole nanoseconds", lambda n: n.link("a", "b", delay=1e-10)),
    ("a probability is 0 to 1", lambda n: n.link("a", "b", loss=1.01)),
    ("a probability is 0 to 1", lambda n: n.link("a", "b", corrupt="-1%")),
    ("no probability", lambda n: n.link("a", "b", duplicate="often")),
    ("no probability", lambda n: n.link("a", "b", reorder=float("nan"))),
    ("queue=0: from 1 to", lambda n: n.link("a", "b", queue=0)),
    ("queue=-1: from 1 to", lambda n: n.link("a", "b", queue=-1)),
    ("queue=2000000: from 1 to", lambda n: n.link("a", "b", queue=2_000_000)),
    ("queue=1.5: ", lambda n: n.link("a", "b", queue=1.5)),
    ("queue='many': ", lambda n: n.link("a", "b", queue="many")),
    ("queue=True: ", lambda n: n.link("a", "b", queue=True)),
    ("the MTU must be 68", lambda n: n.link("a", "b", mtu=10)),
    ("the MTU must be 68", lambda n: n.segment("a", "b", mtu=70_000)),
]


@pytest.mark.parametrize(
    ("message", "mistake"), MISTAKES, ids=[str(i) for i in range(len(MISTAKES))]
)
def test_mistakes(network: Network, message: str, mistake: Callable[[Network], Any]) -> None:
    mute(network, "a", "b", "c")
    link = network.link("a", "b", name="taken")
    with pytest.raises(UsageError, match=re.escape(message)):
        mistake(network)
    assert network.links == (link,) and len(network.nodes) == 3
    hears = Station(link.port("b"))
    Station(link.port("a")).send(1)
    network.run(0.01)
    assert hears.numbers == [1]


def test_kernels_of_elsewhere(network: Network, kernel_factory: Callable[[], Any]) -> None:
    (old,) = mute(network, "old")
    network.restore(0)
    mute(network, "a")
    lone = kernel_factory()
    assert network.nodes["a"] is old  # the same kernel, in another life
    with pytest.raises(UsageError, match="no node 'old' in this network; there are a"):
        network.link("a", "old")
    with pytest.raises(UsageError, match=r"no node <Kernel(.|\n)* there are a"):
        network.link("a", lone)
    with pytest.raises(UsageError, match="no node None"):
        network.segment("a", None)  # type: ignore[arg-type]


def line(network: Network) -> list[Node]:
    nodes = mute(network, "left", "middle", "right")
    network.link("left", "middle", addresses=("10.0.1.1/24", "10.0.1.2/24"))
    network.link("middle", "right", addresses=("10.0.2.1/24", "10.0.2.2/24"))
    network.link("left", "right", delay="1ms", addresses=("10.0.3.1/24", "10.0.3.2/24"))
    return nodes


def well(network: Network) -> bool:
    ping = network.ping("left", "right", address="10.0.3.2", count=2)
    network.run()
    return ping.lost == 0


@pytest.mark.kernel(allow_crash=True)
def test_a_crash_in_a_programs_call(network: Network) -> None:
    left, middle, right = line(network)
    for node, text in ((middle, "about to go"), (right, "all is well")):
        node.os.mknod("/tmp/kmsg", 0o600 | stat.S_IFCHR, os.makedev(1, 11))
        node.write_text("/tmp/kmsg", f"<1>{text}\n")
    network.start(lambda _: network.sleep(1), on=left, name="beside")

    def bad(_: Process) -> None:
        network.sleep(0.5)
        crash(middle)

    network.start(bad, on=middle)
    with pytest.raises(KernelCrash, match="middle") as caught:
        network.run()
    assert "in program bad on node middle, 1.5" in "".join(caught.value.__notes__)
    assert "about to go" in middle.log.text()
    assert "all is well" in right.log.text()
    assert well(network)
    with pytest.raises(KernelCrash, match="middle"):
        middle.os.getpid()
    with pytest.raises(KernelCrash, match="middle"):
        network.start(print, on=middle)
    assert well(network)


@pytest.mark.kernel(allow_crash=True)
def test_a_crash_while_time_passes(network: Network) -> None:
    """By a frame that arrives: the protocol's handler is a wild pointer."""
    left, middle, _ = line(network)
    handler = int(middle.prog["inet_protos"].address_of_()) + 8 * socket.IPPROTO_UDP
    middle.instance.write_memory(handler, WILD)
    program = network.start(
        lambda process: process.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
            b"x", ("10.0.1.2", 7)
        ),
        on=left,
    )
    with pytest.raises(KernelCrash, match="middle"):
        network.run(1)
    assert program.done
    assert network.now < 10**10
    network.run(1)
    assert well(network)


@pytest.mark.kernel(allow_crash=True)
def test_links_of_a_dead_node(network: Network) -> None:
    left, middle, right = line(network)
    with pytest.raises(KernelCrash, match="middle"):
        crash(middle)
    first = left.ports[0].link
    first.down()
    assert not left.ports[0].netdev.carrier
    first.up()
    first.set(delay="1ms")
    sock = left.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(b"to nobody", ("10.0.1.2", 7))
    network.run(1)
    assert well(network)
    with pytest.raises(KernelCrash, match="middle"):
        network.snapshot()
    assert well(network) and right.ports


@pytest.mark.kernel(allow_crash=True)
def test_who_waits_for_a_dead_node(network: Network) -> None:
    left, middle, _ = line(network)

    def client(process: Process) -> None:
        process.socket(socket.AF_INET, socket.SOCK_DGRAM).recv(10)

    def server(process: Process) -> None:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 7))
        sock.recv(10)

    network.start(client, on=left)
    dead = network.start(server, on=middle)
    network.run(1)
    with pytest.raises(KernelCrash):
        crash(middle)
    with pytest.raises(Deadlock, match=r"client on left(.|\n)*server on middle.*\(its kernel"):
        network.run()
    dead.stop()
    assert dead.done


def test_a_partition_is_a_deadlock_that_names_the_link(network: Network) -> None:
    nodes = network.chain(4, delay="1ms")
    network.address()
    network.route()
    network.links[1].down()

    def server(process: Process) -> None:
        sock = process.socket()
        sock.bind(("0.0.0.0", 80))
        sock.listen()
        sock.accept()

    network.start(server, on=nodes[3])
    with pytest.raises(Deadlock, match="link n1-n2 is down") as caught:
        network.run()
    assert re.search(
        r"server on n3: accept4?\(fd 0\), AF_INET SOCK_STREAM socket 0\.0\.0\.0:80, since",
        str(caught.value),
    )


def test_direct_calls_that_nothing_ends(network: Network) -> None:
    a, _, _ = line(network)
    sock = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 9))
    with pytest.raises(Deadlock, match="nothing can wake it"):
        sock.recv(10)
    assert well(network)


@pytest.mark.parametrize("value", [math.nan, "soon"])
def test_what_is_no_time(network: Network, value: Any) -> None:
    a, b = network.chain(2)
    network.address()
    uses: list[Callable[[], Any]] = [
        lambda: network.run(value),
        lambda: network.run(limit=value),
        lambda: network.sleep(value),
        lambda: network.start(print, on=a, at=value),
        lambda: network.bulk(a, b, seconds=value),
        lambda: network.ping(a, b, interval=value),
    ]
    for use in uses:
        with pytest.raises(UsageError, match="is a number of seconds, not"):
            use()
    assert not network.hub.programs


@pytest.mark.parametrize("value", [math.inf, 1e15, 2**64 / 1e9])
def test_what_is_too_long(network: Network, value: float) -> None:
    (node,) = network.chain(1)

    def sleeper(process: Process) -> str:
        with pytest.raises(UsageError, match="a sleep is too long"):
            network.sleep(value)
        near, far = process.socketpair()
        near.settimeout(value)
        far.send(b"x")
        return str(near.recv(1))

    for use in (network.run, network.sleep, lambda at: network.start(print, on=node, at=at)):
        with pytest.raises(UsageError, match="is too long"):
            use(value)
    if value == math.inf:
        program = network.start(sleeper, on=node)
        network.run(limit=value, budget=value)
        assert program.result == "b'x'"
    else:
        with pytest.raises(UsageError, match="the limit is too long"):
            network.run(limit=value)
    with pytest.raises(UsageError, match="the budget is a number of seconds"):
        network.run(1, budget=math.nan)


def test_options_are_listed_in_one_order(network: Network) -> None:
    """That of link()'s arguments, whatever Python's hashes are."""
    a, b = (network.node() for _ in range(2))
    with pytest.raises(UsageError, match="there are rate, delay, jitter, loss, duplicate, reorder"):
        network.link(a, b, latency=1)
