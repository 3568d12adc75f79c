# SPDX-License-Identifier: GPL-2.0
"""select, poll and epoll in the kernel, with the interfaces of Python's select module."""

from __future__ import annotations

import os
import select as pyselect
from typing import TYPE_CHECKING, Any

from anykernel.host.stretch import Since
from anykernel.host.syscalls import NUMBERS
from anykernel.host.times import timeout_ns
from anykernel.kernel import abi
from anykernel.kernel.call import KeepsProcess, Plan, Request, operation
from anykernel.kernel.collected import ClosedLater

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

READ = pyselect.POLLIN | pyselect.POLLHUP | pyselect.POLLERR
WRITE = pyselect.POLLOUT | pyselect.POLLERR
CTL_ADD, CTL_DEL, CTL_MOD = 1, 2, 3


def fileno(file: Any) -> int:
    """The kernel's descriptor of a socket, a file or an int."""
    fd = file if isinstance(file, int) else file.fileno()
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return int(fd)


def _polled(
    process: Process, wanted: list[tuple[int, int]], timeout: float | None
) -> Plan[list[int]]:
    """The answers to (fd, events); the timeout (s) is the kernel's own, so nothing is cancelled."""
    with process.memory() as memory:
        array = memory.new(abi.POLLFD.size * len(wanted))
        for position, (fd, events) in enumerate(wanted):
            abi.POLLFD.pack_into(array.view, position * abi.POLLFD.size, fd, events, 0)
        ns = timeout_ns(timeout)
        limit = 0 if ns is None else memory.put(abi.pack_ns(ns))
        yield Request(NUMBERS["ppoll"], (array.address, len(wanted), limit, 0, 0))
        size = abi.POLLFD.size
        return [abi.POLLFD.unpack_from(array.view, i * size)[2] for i in range(len(wanted))]


def select(
    process: Process, rlist: Any, wlist: Any, xlist: Any, timeout: float | None
) -> tuple[list[Any], list[Any], list[Any]]:
    """select.select(): the files that are ready to be read, written, or have urgent data."""
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    lists = [list(rlist), list(wlist), list(xlist)]
    kinds = (pyselect.POLLIN, pyselect.POLLOUT, pyselect.POLLPRI)
    answers = (READ, WRITE, pyselect.POLLPRI)
    wanted = [(fileno(file), kind) for files, kind in zip(lists, kinds, strict=True)
              for file in files]  # fmt: skip
    found = iter(process.run(_polled(process, wanted, timeout)))
    read, write, urgent = (
        [file for file in files if next(found) & answer]
        for files, answer in zip(lists, answers, strict=True)
    )
    return read, write, urgent


class Poll(KeepsProcess):
    """select.poll() of the kernel.  Timeouts in virtual milliseconds."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._wanted: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = 7) -> None:
        self._wanted[fileno(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int) -> None:
        if fileno(fd) not in self._wanted:
            raise FileNotFoundError(2, os.strerror(2))
        self._wanted[fileno(fd)] = eventmask

    def unregister(self, fd: Any) -> None:
        del self._wanted[fileno(fd)]

    @operation
    def poll(self, timeout: float | None = None) -> Plan[list[tuple[int, int]]]:
        """The (fd, events) that happened within `timeout` ms (None: as long as it takes)."""
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        wanted = list(self._wanted.items())
        found = yield from _polled(self.process, wanted, seconds)
        return [(fd, events) for (fd, _), events in zip(wanted, found, strict=True) if events]


class Epoll(ClosedLater, KeepsProcess):
    """select.epoll() of the kernel.  Timeouts in virtual seconds."""

    def __init__(self, process: Process, flags: int = 0) -> None:
        self.process = process
        self._descriptor = Since(process.syscall("epoll_create1", flags))
        self.closed_later(process)

    @property
    def _fd(self) -> int:
        return self._descriptor.value

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd = self._fd
        self._descriptor.set(-1, self.process.state)
        if fd >= 0:
            self.process.syscall("close", fd)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def __enter__(self) -> Epoll:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _control(self, what: int, fd: Any, events: int) -> None:
        number = fileno(fd)
        event = abi.EPOLL_EVENT.pack(events & 0xFFFFFFFF, number)
        self.process.syscall("epoll_ctl", self._open(), what, number, event)

    def _open(self) -> int:
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")
        return self._fd

    def register(self, fd: Any, eventmask: int = 7) -> None:
        self._control(CTL_ADD, fd, eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        self._control(CTL_MOD, fd, eventmask)

    def unregister(self, fd: Any) -> None:
        self._control(CTL_DEL, fd, 0)

    @operation
    def poll(
        self, timeout: float | None = None, maxevents: int = -1
    ) -> Plan[list[tuple[int, int]]]:
        """The (fd, events) that happened within `timeout` seconds."""
        most = 255 if maxevents == -1 else maxevents
        if most <= 0:
            raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
        ns = None if timeout is not None and timeout < 0 else timeout_ns(timeout)
        milliseconds = -1 if ns is None else -(-ns // 10**6)
        size = abi.EPOLL_EVENT.size
        with self.process.memory() as memory:
            room = memory.new(size * most)
            args = (self._open(), room.address, most, milliseconds & 0xFFFFFFFF, 0)
            if milliseconds < 1 << 31:
                got = yield Request(NUMBERS["epoll_pwait"], args)
            else:  # more than its int holds: 24 days
                limit = memory.put(abi.pack_ns(ns or 0))
                got = yield Request(NUMBERS["epoll_pwait2"], (*args[:3], limit, 0, 0))
            found = [abi.EPOLL_EVENT.unpack_from(room.view, i * size) for i in range(got)]
        return [(fd, events) for events, fd in found]
