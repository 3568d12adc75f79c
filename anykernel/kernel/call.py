# SPDX-License-Identifier: GPL-2.0
"""Operations as plans: generators that ask for system calls, so that one code serves both a
blocking call and a call that runs in the background."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from anykernel.errors import KernelError
from anykernel.host.syscalls import NUMBERS

if TYPE_CHECKING:
    from anykernel.kernel.interface import Buffer
    from anykernel.kernel.process import Process

U64 = (1 << 64) - 1
P = ParamSpec("P")
R = TypeVar("R")


class Request(NamedTuple):
    """One system call of a plan; timeout in virtual seconds, None: as long as it takes."""

    nr: int
    args: tuple[int, ...]
    timeout: float | None = None


Plan = Generator[Request, int, R]
"""Yields requests and gets their results, which are not negative: errors are raised in it."""


class HasProcess(Protocol):
    """What operations are methods of."""

    @property
    def process(self) -> Process: ...


S = TypeVar("S", bound=HasProcess)


SIZED = {
    NUMBERS[name]: position
    for name, position in {
        "read": 2, "pread64": 2, "write": 2, "pwrite64": 2, "sendto": 2, "recvfrom": 2,
        "getdents64": 2, "readlink": 2, "readlinkat": 3, "getcwd": 1, "getrandom": 1,
        "sendfile": 3, "splice": 4, "tee": 2, "poll": 1, "epoll_wait": 2, "epoll_pwait": 2,
        "sendmmsg": 2, "recvmmsg": 2,
    }.items()
}  # fmt: skip
"""Calls that return at most one of their arguments: its position."""
MSG_TRUNC = 0x20
RECVFROM = NUMBERS["recvfrom"]


def believed(nr: int, args: Sequence[int], result: int) -> int:
    """A call's result that is not negative.  Raises KernelError for one that it can't have: more
    bytes than there was room for, or more than any call returns."""
    position = SIZED.get(nr, 6)
    cut = nr == RECVFROM and args[3] & MSG_TRUNC  # returns what there was
    if position < len(args) and result > args[position] & U64 and not cut:
        raise KernelError(f"the kernel returned {result} where at most {args[position]} can be")
    if result >> 62:
        raise KernelError(f"the kernel returned {result}, which no system call does")
    return result


def operation(plan: Callable[Concatenate[S, P], Plan[R]]) -> Callable[Concatenate[S, P], R]:
    """Makes a method that runs its plan at once; `submit` finds the plan as its attribute."""

    @wraps(plan)
    def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.process.run(plan(self, *args, **kwargs))

    run.plan = plan  # type: ignore[attr-defined]
    return run


def alone(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Makes a method into which no other thread comes, as into Process.run()."""

    @wraps(method)
    def taken(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.process.exclusive():
            return method(self, *args, **kwargs)

    return taken


def request(nr: int, *args: int, timeout: float | None = None) -> Plan[int]:
    """The plan of a single system call."""
    return (yield Request(nr, args, timeout))


class Memory:
    """User memory that lives as long as a with block: arguments and results of system calls."""

    __slots__ = ("_buffers", "_kept", "_process")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._buffers: list[Buffer] = []
        self._kept = False

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._kept:
            return
        for buffer in self._buffers:
            buffer.free()

    def new(self, size: int) -> Buffer:
        """`size` bytes, of any content."""
        buffer = self._process.instance.user.alloc(max(size, 1))
        self._buffers.append(buffer)
        return buffer

    def put(self, data: Any) -> int:
        """The address of a copy of `data`, bytes-like."""
        view = memoryview(data).cast("B")
        size = len(view)
        buffer = self.new(size)
        if size:
            buffer.view[:size] = view
        return buffer.address

    def keep(self) -> None:
        """What there is outlives the with block: the kernel goes on using it.  It is free again
        when a snapshot is restored."""
        self._kept = True

    def path(self, path: Any) -> int:
        """The address of a path, NUL-terminated.  Raises ValueError for one with a NUL inside."""
        raw: bytes = os.fsencode(path)
        if b"\0" in raw:
            raise ValueError("embedded null byte")
        return self.put(raw + b"\0")


class KeepsProcess:
    """Base of objects whose operations run in one process."""

    process: Process
