# SPDX-License-Identifier: GPL-2.0
"""How programs end: by themselves with a status, killed in a call or in a job, by SIGPIPE not."""

from __future__ import annotations

import errno
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from anykernel.errors import ProcessEnded, UsageError
from anykernel.net.jobs import Job

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network


def test_a_program_may_end_its_process_itself(network: Network) -> None:
    node = network.node()

    def main(process: Process) -> str:
        process.exit(3)
        return "ended"

    program = network.start(main, on=node)
    pid = program.process.os.getpid()
    network.run()
    assert program.result == "ended"
    assert node.os.waitpid(pid) == (pid, 3 << 8)


@pytest.mark.parametrize("tidy", [False, True])
def test_a_blocked_program_is_killed(network: Network, tidy: bool) -> None:
    node = network.node()

    def victim(process: Process) -> bytes:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 7))
        if not tidy:
            return sock.recv(10)
        with sock:  # close() can't work after the end
            return sock.recv(10)

    def killer(process: Process, pid: int) -> None:
        network.sleep(1)
        process.os.kill(pid, signal.SIGKILL)

    def waiter(process: Process) -> float:
        with pytest.raises(InterruptedError, match="victim was killed by SIGKILL"):
            killed.join()
        return network.seconds

    begin = network.seconds
    killed = network.start(victim, on=node)
    pid = killed.process.os.getpid()
    network.start(killer, pid, on=node)
    waits = network.start(waiter, on=node)
    network.run()
    assert waits.result == begin + 1
    with pytest.raises(InterruptedError, match="victim was killed by SIGKILL"):
        _ = killed.result
    assert node.os.waitpid(pid) == (pid, signal.SIGKILL)


def test_slots_of_killed_programs_are_used_again(network: Network) -> None:
    node = network.node()

    def victim(process: Process) -> bytes:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        return sock.recv(10)

    for _ in range(300):  # a kernel has 256
        program = network.start(victim, on=node)
        pid = program.process.os.getpid()
        network.run(0.001)
        node.os.kill(pid, signal.SIGKILL)
        network.run()
        assert program.killed is not None
        assert node.os.waitpid(-1)[0] == pid


@pytest.mark.parametrize("interval", [0.0, 0.5])
def test_a_job_is_killed(network: Network, interval: float) -> None:
    """Blocked in a call, or asleep until the next round."""
    a, b = network.chain(2, rate="1Mbit")
    network.address()
    flow = network.requests(a, b, count=1000, response=10_000, interval=interval)
    client = flow.programs[1]
    pid = client.process.os.getpid()
    network.run(0.2)
    assert not client.done
    a.os.kill(pid, signal.SIGKILL)
    network.run(limit=30)
    assert flow.done
    assert flow.programs[0].error is None


def test_sending_to_nobody_is_an_error_and_no_end(network: Network) -> None:
    a, b = network.chain(2, delay="1ms", addresses=(["10.0.0.1/24"], ["10.0.0.2/24"]))

    def server(process: Process) -> None:
        listener = process.socket()
        listener.bind(("10.0.0.2", 80))
        listener.listen()
        listener.accept()[0].close()

    def client(process: Process) -> str:
        sock = process.socket()
        sock.connect(("10.0.0.2", 80))
        network.sleep(0.1)
        sock.send(b"who is there?")
        network.sleep(0.1)
        with pytest.raises(BrokenPipeError):
            sock.send(b"nobody")
        return "alive"

    network.start(server, on=b)
    program = network.start(client, on=a)
    network.run()
    assert program.result == "alive"


def test_a_call_of_the_test_whose_process_is_killed(network: Network) -> None:
    """While programs run, they go on in the test's calls: here one of them ends the call."""
    node = network.node()
    child = node.fork()
    near, _far = child.socketpair()

    def killer(process: Process) -> None:
        network.sleep(1)
        process.os.kill(child.pid, signal.SIGKILL)

    network.start(killer, on=node)
    with pytest.raises(ProcessEnded, match=r"was killed by SIGKILL in recvfrom\(\)"):
        near.recv(10)
    with pytest.raises(UsageError, match="this process has ended: it was killed by SIGKILL"):
        child.os.getpid()


def test_a_process_that_a_program_uses_is_killed(network: Network) -> None:
    """The program itself lives, and sees it as a test does."""
    node = network.node()

    def user(process: Process) -> str:
        child = process.fork()
        near, _far = child.socketpair()
        user.pid = child.pid  # type: ignore[attr-defined]
        with pytest.raises(ProcessEnded, match=r"was killed by SIGTERM in recvfrom\(\)"):
            near.recv(10)
        other = process.fork()
        with pytest.raises(ProcessEnded, match=r"was killed by SIGKILL in kill\(\)"):
            other.os.kill(other.pid, signal.SIGKILL)
        return "lives"

    def killer(process: Process) -> None:
        network.sleep(1)
        process.os.kill(user.pid, signal.SIGTERM)  # type: ignore[attr-defined]

    program = network.start(user, on=node)
    network.start(killer, on=node)
    network.run()
    assert program.result == "lives"


@pytest.mark.parametrize("how", ["was killed by SIGKILL", "exited with code 5"])
def test_a_program_whose_own_call_ends_it(network: Network, how: str) -> None:
    node = network.node()

    def main(process: Process) -> str:
        if "killed" in how:
            process.os.kill(process.pid, signal.SIGKILL)
        process.syscall("exit_group", 5)
        return "went on without a process"

    program = network.start(main, on=node)
    network.run()
    with pytest.raises(InterruptedError, match=f"main {how}"):
        _ = program.result


def test_a_job_whose_process_is_killed_did_not_end_well(network: Network) -> None:
    node = network.node()
    child = node.fork()
    near, _far = child.socketpair()
    room = child.instance.user.alloc(16).address
    job = Job(network, child, [("read", near.fileno(), room, 16)], rounds=5)
    node.os.kill(child.pid, signal.SIGKILL)
    network.run(1)
    assert job.stats.over and job.stats.error == errno.ESRCH
