# SPDX-License-Identifier: GPL-2.0
"""Jobs: limits, intervals, tolerated failures, ends, their log."""

from __future__ import annotations

import errno
import socket
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import UsageError
from anykernel.net import Unfinished
from anykernel.net.jobs import Job, JobStats
from suites.selftest.net.raw import mute

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.node import Node


@pytest.fixture
def node(network: Network) -> Node:
    return mute(network, "a")[0]


def pipe_job(network: Network, process: Process, size: int, **options: Any) -> tuple[Job, int]:
    """Writes `size` bytes again and again into a pipe; its other end."""
    read, write = process.os.pipe()
    data = process.instance.user.alloc(size).address
    return Job(network, process, [("write", write, data, size)], **options), read


def test_bytes_are_exact(network: Network, node: Node) -> None:
    job, read = pipe_job(network, node.fork(), 1000, bytes=4321, log=10)
    assert job.stats == JobStats(True, 0, 5, 0, 4321, network.now, network.now)
    assert [one.first for one in job.rounds] == [1000, 1000, 1000, 1000, 321]
    assert len(job.process.os.read(read, 10_000)) == 4321


def test_a_job_begins_with_nothing(network: Network, node: Node) -> None:
    """Whatever else was handed to the host before."""
    area = network.host.c.HK_IN_AT
    network.host.view[area : area + 1000] = b"\xa5" * 1000
    job, _ = pipe_job(network, node.fork(), 10, rounds=2, interval_ns=1000)
    assert job.stats == JobStats(False, 0, 1, 0, 10, network.now, network.now)
    network.run(1)
    assert (job.stats.rounds, job.stats.moved) == (2, 20)


def test_rounds_and_their_log(network: Network, node: Node) -> None:
    begin = network.now
    job, _ = pipe_job(network, node.fork(), 10, rounds=7, interval_ns=1_000_003, log=5)
    assert not job.stats.over
    network.run(3_000_008e-9)
    assert job.stats.rounds == 3
    network.run(1e-9)
    assert job.stats.rounds == 4
    network.run(1)
    assert (job.stats.rounds, job.stats.moved, job.stats.over) == (7, 70, True)
    assert (job.stats.first_ns, job.stats.last_ns) == (begin, begin + 6 * 1_000_003)
    assert [one.begin_ns - begin for one in job.rounds] == [i * 1_000_003 for i in range(5)]
    assert all(one == (one.begin_ns, one.begin_ns, 10, 10) for one in job.rounds)


def test_begin_and_end(network: Network, node: Node) -> None:
    begin = network.now
    job, _ = pipe_job(
        network,
        node.fork(),
        10,
        begin_ns=begin + 500,
        interval_ns=1000,
        end_ns=begin + 3500,  # no round begins then
        log=10,
    )
    network.run(1)
    assert [one.begin_ns - begin for one in job.rounds] == [500, 1500, 2500]
    assert job.stats.over and job.stats.error == 0
    late, _ = pipe_job(network, node.fork(), 10, end_ns=network.now)
    assert late.stats.over and late.stats.rounds == 0


def test_who_is_late_keeps_the_beat(network: Network, node: Node) -> None:
    """Rounds that had to wait are caught up with, and the beat is what it was."""
    process = node.fork()
    read, write = process.os.pipe()
    drain = process.fork()
    data = process.instance.user.alloc(40_000).address
    begin, second = network.now, 10**9
    call = ("write", write, data, 40_000)
    job = Job(network, process, [call], rounds=8, interval_ns=second, log=8)
    network.run(3.5)  # the second write blocks, as a pipe has 64 KiB
    assert job.stats.rounds == 1
    while job.stats.rounds < 4:
        drain.os.read(read, 1 << 16)
    assert job.rounds[1] == (begin + second, begin + 3 * second + second // 2, 40_000, 40_000)
    for _ in range(100):
        network.run(0.1)
        drain.os.read(read, 1 << 16)
        if job.stats.over:
            break
    starts = [one.begin_ns - begin for one in job.rounds]
    assert starts == [i * second for i in range(8)]
    assert job.rounds[-1].end_ns == begin + 7 * second


def test_the_first_error_ends_it(network: Network, node: Node) -> None:
    process = node.fork()
    job = Job(network, process, [("getppid",), ("close", 77)], rounds=5)
    assert job.stats.over and job.stats.error == errno.EBADF and job.stats.rounds == 0


def test_tolerated_errors_do_not(network: Network, node: Node) -> None:
    process = node.fork()
    job = Job(network, process, [("close", 77), ("getpid",)], rounds=5, tolerate=(0,), log=5)
    stats = job.stats
    assert (stats.over, stats.error, stats.rounds, stats.failed) == (True, 0, 5, 5)
    pid = process.os.getpid()
    assert [(one.first, one.last) for one in job.rounds] == [(-errno.EBADF, pid)] * 5
    other = Job(network, process, [("getppid",), ("close", 77)], rounds=5, tolerate=(0,))
    assert other.stats.error == errno.EBADF


def test_the_end_of_a_stream_is_no_error(network: Network, node: Node) -> None:
    process = node.fork()
    one, other = process.socketpair()
    one.sendall(b"x" * 100)
    one.close()
    room = process.instance.user.alloc(64).address
    job = Job(network, process, [("recvfrom", other.fileno(), room, 64, 0, 0, 0)])
    assert job.stats[:5] == (True, 0, 2, 0, 100)


def blocked(network: Network, process: Process) -> Job:
    sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    room = process.instance.user.alloc(64).address
    return Job(network, process, [("recvfrom", sock.fileno(), room, 64, 0, 0, 0)], tolerate=(0,))


@pytest.mark.parametrize("sleeps", [False, True])
def test_stop(network: Network, node: Node, sleeps: bool) -> None:
    """In the middle of a call, and between rounds; who waits for it is told."""
    jobs = []

    def waits(process: Process) -> tuple[JobStats, int]:
        if sleeps:
            job, _ = pipe_job(network, process, 10, interval_ns=10**10)
        else:
            job = blocked(network, process)
        jobs.append(job)
        return job.wait(), network.now

    begin = network.now
    program = network.start(waits, on=node)
    network.run(2)
    assert not program.done
    jobs[0].stop()
    jobs[0].stop()
    network.run()
    stats, at = program.result
    assert (stats.over, stats.error, stats.rounds) == (True, 0, int(sleeps))
    assert at == begin + 2 * 10**9
    network.run(20)
    assert program.result[0].rounds == stats.rounds


def test_stopping_the_program_stops_its_job(network: Network, node: Node) -> None:
    jobs = []

    def waits(process: Process) -> None:
        jobs.append(blocked(network, process))
        jobs[0].wait()

    program = network.start(waits, on=node)
    network.run(1)
    program.stop()
    assert jobs[0].stats.over and program.done


@pytest.mark.parametrize("sleeps", [False, True])
def test_a_process_has_one_job(network: Network, node: Node, sleeps: bool) -> None:
    process = node.fork()
    if sleeps:
        job, _ = pipe_job(network, process, 10, interval_ns=10**9)
    else:
        job = blocked(network, process)
    with pytest.raises(UsageError, match="in a call or in a job already"):
        Job(network, process, [("getpid",)], rounds=1)
    with pytest.raises(UsageError, match="in a call or in a job already"):
        process.os.getpid()
    job.stop()
    network.run(0)
    assert process.os.getpid() > 1
    assert Job(network, process, [("getpid",)], rounds=3).stats.rounds == 3


def test_a_job_has_one_to_four_calls(network: Network, node: Node) -> None:
    for count in (0, 5):
        with pytest.raises(UsageError, match=f"1 to 4 calls, not {count}"):
            Job(network, node.fork(), [("getpid",)] * count)


def test_a_job_without_end_and_without_time_meets_the_budget(network: Network, node: Node) -> None:
    """And others have their turns beside it."""
    turns = []

    def program(process: Process) -> None:
        job = Job(network, process, [("getpid",)])
        job.wait("nothing")

    def beside(process: Process) -> None:
        for _ in range(3):
            turns.append(process.os.getpid())

    network.start(program, on=node)
    network.start(beside, on=node)
    with pytest.raises(Unfinished, match=r"budget of 0\.2 s(.|\n)*program on a: nothing"):
        network.run(budget=0.2)
    assert len(turns) == 3


def test_long_traffic_is_no_deadlock(network: Network) -> None:
    a, b = network.chain(2, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    flow = network.cbr(a, b, rate=8, size=100, seconds=20_000)  # one in 100 s
    network.run()
    assert flow.lost == 0 and flow.received is not None and flow.received.rounds == 200


def test_arrivals_have_the_interval_exactly(network: Network) -> None:
    a, b = network.chain(2, rate="1Gbit", delay="1ms", addresses=("10.0.0.1/24", "10.0.0.2/24"))
    flow = network.cbr(a, b, rate="1Mbit", size=125, seconds=0.1, log=200, at=network.seconds + 1)
    network.run()
    gaps = [later - earlier for earlier, later in pairwise(flow.arrivals)]
    assert set(gaps[3:]) == {1_000_000} and len(gaps) == 99  # the first wait for ARP
