# SPDX-License-Identifier: GPL-2.0
"""Threads of Python that use one kernel, network or unit: each call is whole, or is refused."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.net import Network

THREADS = 4


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Python changes threads in the middle of nearly everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: Callable[[], object]) -> list[BaseException]:
    """Runs all at once; what they raise."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        start.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors


def test_system_calls_of_threads_do_not_mix(kernel: Kernel) -> None:
    def work(me: int) -> None:
        for turn in range(60):
            text = f"{me} {turn} " + "x" * me * 100
            kernel.write_text(f"/tmp/{me}", text)
            assert kernel.read_text(f"/tmp/{me}") == text
            with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                sock.sendto(text.encode(), sock.getsockname())
                assert sock.recvfrom(1000)[0] == text.encode()

    assert not together(*[lambda me=me: work(me) for me in range(THREADS)])


def test_each_of_the_other_doors_takes_turns_too(kernel: Kernel) -> None:
    """Netdevs, functions and memory of the kernel, its clock, log, netlink, background calls."""
    eth0 = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"])
    peer = eth0.add_peer("10.0.0.2")
    kernel.os.mknod("/tmp/kmsg", stat.S_IFCHR | 0o600, os.makedev(1, 11))
    turns = range(25)

    def ping() -> None:
        for _ in turns:
            assert peer.ping("10.0.0.1")

    def inside() -> None:
        for n in turns:
            assert kernel.inside.int_sqrt(n * n) == n

    def clock() -> None:
        for _ in turns:
            before = kernel.clock.now
            assert kernel.clock.advance(0.001) >= before + 1_000_000

    def log() -> None:
        for n in turns:
            kernel.write_text("/tmp/kmsg", f"line {n}\n")
            assert f"line {n}" in kernel.log

    def netlink() -> None:
        for _ in turns:
            names = [link.get("ifname") for link in kernel.iproute.link("dump")]
            assert names[:1] == ["lo"] and "eth0" in names

    def background() -> None:
        for n in turns:
            one, other = kernel.socketpair()
            with one, other:
                call = kernel.submit(one.recv, 100)
                other.send(b"%d" % n)
                assert call.result() == b"%d" % n

    def devices() -> None:
        for n in turns:
            made = kernel.add_netdev(f"x{n}", up=False)
            assert made.name in kernel.netdevs
            made.remove()

    assert not together(ping, inside, clock, log, netlink, background, devices)
    printed = [record.text for record in kernel.log if record.text.startswith("line ")]
    assert printed == [f"line {n}" for n in turns]


def test_snapshots_wait_for_calls_to_end(kernel: Kernel) -> None:
    kernel.write_text("/tmp/kept", "kept")
    here = kernel.snapshot()

    def read() -> None:
        for _ in range(100):
            assert kernel.read_text("/tmp/kept") == "kept"

    def again() -> None:
        for _ in range(100):
            kernel.restore(here)

    errors = together(read, again)
    # A file that was open in between belongs to what was restored away.
    assert all(isinstance(error, OSError | UsageError) for error in errors)
    kernel.restore(here)
    assert kernel.read_text("/tmp/kept") == "kept"


def test_user_memory_is_given_out_once(kernel: Kernel) -> None:
    memory = kernel.instance.user
    held: list[Any] = []

    def work() -> None:
        for turn in range(300):
            mine = [memory.alloc(64) for _ in range(3)]
            mine[turn % 3].free()
            held.extend(one for position, one in enumerate(mine) if position != turn % 3)

    assert not together(*[work] * THREADS)
    assert len({one.address for one in held}) == len(held) == THREADS * 600


def test_netlink_object_of_another_thread(kernel: Kernel) -> None:
    ipr = kernel.netlink()
    (error,) = together(lambda: ipr.link("dump"))
    assert isinstance(error, UsageError)
    assert "call kernel.netlink() in each thread" in str(error)
    assert ipr.link("dump")


def test_kernels_of_one_network(network: Network) -> None:
    nodes = network.chain(3)

    def work(node: Any) -> None:
        for turn in range(40):
            node.write_text("/tmp/x", f"{node.name} {turn}")
            assert node.read_text("/tmp/x") == f"{node.name} {turn}"

    assert not together(*[lambda node=node: work(node) for node in nodes])


def test_nodes_and_links_made_by_threads(network: Network) -> None:
    def make() -> None:
        a, b = network.node(), network.node()
        network.link(a, b)

    assert not together(*[make] * 3)
    assert [node.index for node in network.nodes.values()] == list(range(6))
    assert len({link.name for link in network.links}) == 3


def test_programs_are_of_one_thread(network: Network) -> None:
    a, b = network.chain(2)
    program = network.start(lambda process: network.sleep(1), on=a, name="sleeper")
    refused = together(
        lambda: network.run(),
        lambda: b.socket(),
        lambda: network.start(lambda process: None, on=b),
        lambda: program.stop(),
        lambda: network.snapshot(),
    )
    assert len(refused) == 5
    for error in refused:
        assert isinstance(error, UsageError)
        assert "run in the thread MainThread, which started them" in str(error)
    network.run()
    assert program.done
    assert not together(lambda: b.socket().close())


def test_a_thread_can_run_a_network(network: Network) -> None:
    (a,) = [network.node()]
    found: list[str] = []

    def work() -> None:
        network.start(lambda process: found.append(process.os.uname().sysname), on=a)
        network.run()

    assert not together(work)
    network.start(lambda process: found.append("here"), on=a)
    network.run()
    assert found == ["Linux", "here"]


def test_programs_of_a_thread_that_has_ended(network: Network) -> None:
    """They can never go on; the next test has its network all the same."""
    a = network.node()
    left: list[Any] = []

    def work() -> None:
        left.append(network.start(lambda process: network.sleep(100), on=a, daemon=True))
        network.run(1)

    assert not together(work)
    with pytest.raises(UsageError, match="which started them"):
        network.run(1)
    network.hub.clear()
    assert left[0].done
    network.run(1)


def test_units(unit: Callable[..., Any]) -> None:
    loaded = unit("lib/rbtree.c")

    def work() -> None:
        for n in range(50):
            node = loaded.new("struct rb_node")
            root = loaded.new("struct rb_root", rb_node=node)
            assert int(loaded.rb_first(root)) == int(node), n

    assert not together(*[work] * THREADS)
