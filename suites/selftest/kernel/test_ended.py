# SPDX-License-Identifier: GPL-2.0
"""Processes that end in the middle of a call: there is no result, and the error says why."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import ProcessEnded, UsageError

if TYPE_CHECKING:
    from anykernel.kernel import Kernel, Process
    from anykernel.kernel.background import Call

ENDS: dict[str, tuple[Callable[[Process], Any], int, str]] = {
    "killed": (lambda process: kill(process, signal.SIGKILL), 9, "was killed by SIGKILL"),
    "terminated": (lambda process: kill(process, signal.SIGTERM), 15, "was killed by SIGTERM"),
    "realtime": (lambda process: kill(process, 40), 40, "was killed by signal 40"),
    "exits": (lambda process: process.exit(7), 7 << 8, "exited with code 7"),
}


def kill(process: Process, signum: int) -> None:
    assert process._parent is not None
    process._parent.os.kill(process.pid, signum)


@pytest.fixture(params=ENDS)
def end(request: pytest.FixtureRequest) -> tuple[Callable[[Process], Any], int, str]:
    return ENDS[request.param]


def expect(caught: pytest.ExceptionInfo[ProcessEnded], child: Process, how: str, call: str) -> None:
    assert str(caught.value) == f"process {child.pid} {how} in {call}(): there is no result"


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_a_background_call(kernel: Kernel, end: Any, beside: bool, late: bool) -> None:
    """Whether others go on beside it, and whether its end has been seen before it is asked for."""
    act, status, how = end
    pair = kernel.socketpair()
    other = kernel.submit(pair[0].recv, 5) if beside else None
    child = kernel.fork()
    near, _far = child.socketpair()
    call = child.submit(near.recv, 100)
    act(child)
    if late:
        kernel.clock.advance(1)
        assert call.done()
    with pytest.raises(ProcessEnded) as caught:
        call.result(5)
    expect(caught, child, how, "recvfrom")
    assert caught.value.status == status
    assert caught.value.signum == (status & 0x7F or None)
    assert caught.value.exit_status == (None if status & 0x7F else status >> 8)
    assert isinstance(call.exception(), ProcessEnded)
    assert not call.cancel()
    assert kernel.os.waitpid(child.pid) == (child.pid, status)
    if other is not None:
        pair[1].send(b"hello")
        assert other.result() == b"hello"


def test_a_call_that_moves_nothing(kernel: Kernel) -> None:
    child = kernel.fork()
    call: Call[int] = child.submit("pause")
    kernel.os.kill(child.pid, signal.SIGINT)
    with pytest.raises(ProcessEnded, match=r"was killed by SIGINT in pause\(\)"):
        call.result(5)


@pytest.mark.parametrize("beside", [False, True])
def test_who_ends_itself(kernel: Kernel, beside: bool) -> None:
    near, _far = kernel.socketpair()
    waits = kernel.submit(near.recv, 5) if beside else None
    child = kernel.fork()
    with pytest.raises(ProcessEnded) as caught:
        child.os.kill(child.pid, signal.SIGKILL)
    expect(caught, child, "was killed by SIGKILL", "kill")
    other = kernel.fork()
    with pytest.raises(ProcessEnded) as caught:
        other.syscall("exit_group", 3)
    expect(caught, other, "exited with code 3", "exit_group")
    for ended, how in ((child, "it was killed by SIGKILL"), (other, "it exited with code 3")):
        assert ended.ended and repr(ended) == f"<Process {ended.pid}, ended>"
        with pytest.raises(UsageError, match=f"this process has ended: {how}"):
            ended.os.getpid()
    assert waits is None or not waits.done()


def test_in_the_background_it_ends_itself(kernel: Kernel) -> None:
    child = kernel.fork()
    with pytest.raises(ProcessEnded, match=r"exited with code 4 in exit_group\(\)"):
        child.submit("exit_group", 4).result()


def test_between_calls(kernel: Kernel) -> None:
    """Who is killed in no call says so at the next, and how; then, too, in the background."""
    child = kernel.fork()
    kernel.os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(UsageError, match="has ended: it was killed by SIGKILL"):
        child.os.getpid()
    worker = kernel.fork()
    worker.submit("getpid").result()  # it has a thread for such calls now
    kernel.os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UsageError, match="has ended: it was killed"):
        worker.submit("getpid")


def test_a_slot_that_another_has_now_is_not_talked_to(kernel: Kernel) -> None:
    """The task table has few slots: those of who ended are given to others."""
    child = kernel.fork()
    near, _far = child.socketpair()
    call = child.submit(near.recv, 5)
    kernel.os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ProcessEnded):
        call.result()
    with pytest.raises(UsageError, match="has ended"):
        child.os.getpid()
    others = [kernel.fork() for _ in range(4)]
    with pytest.raises(UsageError, match="has ended"):
        child.submit("getpid")
    assert [other.os.getpid() for other in others] == [other.pid for other in others]
    assert all(other.submit("getpid").result() == other.pid for other in others)


@pytest.mark.parametrize("how", ["exit", "kill", "call"])
def test_a_restore_brings_it_back(kernel: Kernel, how: str) -> None:
    child = kernel.fork()
    near, far = child.socketpair()
    here = kernel.snapshot()
    for _ in range(3):
        if how == "exit":
            child.exit()
        elif how == "kill":
            with pytest.raises(ProcessEnded):
                child.os.kill(child.pid, signal.SIGKILL)
        else:
            call = child.submit(near.recv, 5)
            kernel.os.kill(child.pid, signal.SIGKILL)
            with pytest.raises(ProcessEnded):
                call.result()
            with pytest.raises(UsageError, match="has ended"):
                child.os.getpid()
        assert "ended" in repr(child)
        kernel.restore(here)
        assert repr(child) == f"<Process {child.pid}>"
        assert child.os.getpid() == child.pid
        far.send(b"x")
        assert child.submit(near.recv, 5).result() == b"x"
    child.exit()
    after = kernel.snapshot()
    kernel.restore(after)
    assert "ended" in repr(child), "it had ended when the snapshot was taken"


def test_in_poll_and_in_a_pipe(kernel: Kernel) -> None:
    child = kernel.fork()
    near, _far = child.socketpair()
    poll = child.poll()
    poll.register(near)
    read, _write = child.os.pipe()
    room = bytearray(10)
    calls: list[Call[Any]] = [child.submit(poll.poll), child.submit("read", read, room, 10)]
    calls.append(child.submit(near.recv_into, room))
    child.exit(1)
    for call, name in zip(calls, ("ppoll", "read", "recvfrom"), strict=True):
        with pytest.raises(ProcessEnded, match=rf"exited with code 1 in {name}\(\)"):
            call.result()
    assert room == bytes(10)


def test_a_with_block_ends_quietly(kernel: Kernel) -> None:
    """What it would close is gone with the process; the error is the one that counts."""
    child = kernel.fork()

    def ends_inside() -> None:
        with child, child.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            child.os.kill(child.pid, signal.SIGTERM)

    with pytest.raises(ProcessEnded, match="SIGTERM"):
        ends_inside()
