# SPDX-License-Identifier: GPL-2.0
"""DCE's "process manager" (process-manager, dce-manager tests): many programs on many nodes.

Programs begin when they are told to, run side by side in virtual time, in an order that is the
same in every run; fork, exit, wait and kill are the kernel's, and nobody stays a zombie.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.node import Node


def spread(index: int) -> float:
    """A start time for a program, in no order, several at the same time."""
    return 2 + (index * 7919 % 20) / 10


def states(node: Node) -> dict[int, str]:
    """Of a node's processes that are its first's children: {pid: state of /proc/<pid>/stat}."""
    found = {}
    for name in node.os.listdir("/proc"):
        if name.isdigit():
            _, _, rest = node.read_text(f"/proc/{name}/stat").rpartition(") ")
            state, parent = rest.split()[:2]
            if parent == "1":
                found[int(name)] = state
    return found


def crowd(network: Network) -> list[tuple[float, str, int]]:
    """50 programs on 10 nodes: each sleeps and asks its kernel, 3 times; who did what when."""
    nodes = network.chain(10)
    diary: list[tuple[float, str, int]] = []

    def worker(process: Process, index: int) -> int:
        for turn in range(3):
            diary.append((network.seconds, process.os.uname().nodename, index))
            network.sleep((1 + index * turn % 5) / 100)
        return index * index

    programs = [
        network.start(worker, index, on=nodes[index % 10], at=spread(index)) for index in range(50)
    ]
    network.run()
    assert [program.result for program in programs] == [index * index for index in range(50)]
    for index, program in enumerate(programs):
        assert program.started_ns == round(spread(index) * 1e9)
        waits = sum((1 + index * turn % 5) * 10_000_000 for turn in range(3))
        assert program.ended_ns == program.started_ns + waits
    return diary


def test_fifty_programs_on_ten_nodes(network: Network) -> None:
    diary = crowd(network)
    assert len(diary) == 150
    assert {(name, index) for _, name, index in diary} == {(f"n{i % 10}", i) for i in range(50)}
    assert [seconds for seconds, _, _ in diary] == sorted(seconds for seconds, _, _ in diary)
    network.restore(0)
    assert crowd(network) == diary, "the order is that of the run before"


def test_at_the_same_time_the_first_that_was_started_is_first(network: Network) -> None:
    nodes = network.chain(5)
    order: list[int] = []

    def worker(process: Process, index: int) -> None:
        order.append(index)

    for index in range(25):
        network.start(worker, index, on=nodes[index * 3 % 5], at=2.0)
    network.run()
    assert order == list(range(25))


def test_children_end_and_are_waited_for(network: Network) -> None:
    """fork(), exit() and wait(), five nodes at once, each with children of its own."""
    nodes = network.chain(5)

    def child(process: Process, status: int) -> None:
        network.sleep(status / 10)
        process.exit(status)

    def parent(process: Process, node: Node) -> list[tuple[int, float]]:
        pids = {}
        for status in (3, 1, 2):
            forked = process.fork()
            pids[forked.os.getpid()] = status
            network.launch(child, forked, node, f"child {status}", status)
        with pytest.raises(ChildProcessError):
            process.os.waitpid(1)
        begin, ended = network.seconds, []
        for _ in pids:
            pid, status = process.os.waitpid(-1)  # blocks
            assert os.waitstatus_to_exitcode(status) == pids[pid]
            ended.append((pids[pid], round(network.seconds - begin, 9)))
        with pytest.raises(ChildProcessError):
            process.os.waitpid(-1)
        return ended

    programs = [network.start(parent, node, on=node) for node in nodes]
    network.run()
    for program in programs:
        assert program.result == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_an_unwaited_child_is_a_zombie_until_it_is_reaped(network: Network) -> None:
    node, other = network.chain(2)

    def worker(process: Process, status: int) -> None:
        process.exit(status)

    network.run(1)
    programs = [network.start(worker, status, on=node) for status in (0, 7, 255)]
    pids = [program.process.os.getpid() for program in programs]
    assert [states(node)[pid] for pid in pids] == ["S"] * 3
    network.run()
    assert [states(node)[pid] for pid in pids] == ["Z"] * 3
    found = [node.os.waitpid(pid, os.WNOHANG) for pid in pids]
    assert found == [(pids[0], 0), (pids[1], 7 << 8), (pids[2], 255 << 8)]
    assert not states(node).keys() & set(pids)
    with pytest.raises(ChildProcessError):
        node.os.waitpid(-1, os.WNOHANG)
    with pytest.raises(ChildProcessError):
        other.os.waitpid(-1, os.WNOHANG)


def test_who_ignores_its_children_has_no_zombies(network: Network) -> None:
    """wait(2), NOTES: with SIGCHLD ignored they are reaped by the kernel."""
    node = network.node()
    node.os.sigaction(signal.SIGCHLD, "ignore")

    def worker(process: Process) -> None:
        process.exit(9)

    programs = [network.start(worker, on=node) for _ in range(10)]
    pids = {program.process.os.getpid() for program in programs}
    assert pids <= states(node).keys()
    network.run()
    assert not pids & states(node).keys()


def test_orphans_go_to_the_first_process(network: Network) -> None:
    node = network.node()
    pids: list[int] = []

    def orphan(process: Process) -> int:
        network.sleep(1)
        parent = process.os.getppid()
        process.exit(5)
        return parent

    def parent(process: Process) -> None:
        forked = process.fork()
        pids.extend((process.os.getpid(), forked.os.getpid()))
        children.append(network.launch(orphan, forked, node, "orphan"))

    children: list[object] = []
    network.start(parent, on=node)
    network.run()
    assert [getattr(child, "result", None) for child in children] == [1]
    assert sorted([node.os.waitpid(-1), node.os.waitpid(-1)]) == [(pids[0], 0), (pids[1], 5 << 8)]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_killing_ends_what_a_process_had(network: Network, signum: signal.Signals) -> None:
    """The victim's connection is closed by its kernel, and the other node is told."""
    a, b = network.chain(2, delay="10ms")
    network.address()

    def victim(process: Process) -> None:
        listener = process.socket()
        listener.bind(("0.0.0.0", 80))
        listener.listen()
        connection, _ = listener.accept()
        connection.recv(100)

    def client(process: Process) -> tuple[float, bytes]:
        sock = process.socket()
        sock.connect(("10.0.0.2", 80))
        data = sock.recv(100)
        ended = network.seconds
        with process.socket() as again, pytest.raises(ConnectionRefusedError):
            again.connect(("10.0.0.2", 80))
        return ended, data

    def killer(process: Process, pid: int) -> None:
        process.os.kill(pid, signum)

    killed = network.start(victim, on=b)
    pid = killed.process.os.getpid()
    heard = network.start(client, on=a)
    network.start(killer, pid, on=b, at=3.0)
    network.run()
    ended, data = heard.result
    assert data == b"" and ended == pytest.approx(3.01, abs=1e-6), "one delay later"
    assert killed.ended_ns == 3_000_000_000
    with pytest.raises(InterruptedError, match=f"victim was killed by {signum.name}"):
        _ = killed.result
    assert b.os.waitpid(pid) == (pid, signum)


def test_a_caught_signal_interrupts_and_an_ignored_one_does_not(network: Network) -> None:
    node = network.node()

    def victim(process: Process, action: str) -> tuple[str, float]:
        process.os.sigaction(signal.SIGUSR1, action)  # type: ignore[arg-type]
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        try:
            sock.recv(10)
        except OSError as error:
            return type(error).__name__, network.seconds
        return "data", network.seconds

    victims = [network.start(victim, action, on=node, at=2) for action in ("catch", "ignore")]
    pids = [one.process.os.getpid() for one in victims]

    def killer(process: Process) -> None:
        for pid in pids:
            process.os.kill(pid, signal.SIGUSR1)
        with pytest.raises(ProcessLookupError):
            process.os.kill(4999, signal.SIGUSR1)

    network.start(killer, on=node, at=3)
    network.run()
    assert victims[0].result == ("InterruptedError", 3.0)
    assert victims[1].result == ("TimeoutError", 7.0)


def test_processes_of_nodes_do_not_see_each_other(network: Network) -> None:
    """Each kernel numbers its own; a number of another node's is nobody's or somebody else's."""
    a, b = network.chain(2)

    def worker(process: Process) -> int:
        network.sleep(1)
        return process.os.getpid()

    here = [network.start(worker, on=a) for _ in range(3)]
    there = network.start(worker, on=b)
    before = states(b)
    network.run()
    assert len({program.result for program in here}) == 3
    assert there.result == here[0].result, "the same number, two processes"
    assert states(b).keys() == before.keys()
