# SPDX-License-Identifier: GPL-2.0
"""Who waits in which system call for what: the answer of a Deadlock."""

from __future__ import annotations

import socket as pysocket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from anykernel.errors import Deadlock
from anykernel.kernel import abi

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

OF_A_FILE = frozenset({
    "read", "write", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "preadv2",
    "pwritev2", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "accept",
    "accept4", "connect", "ioctl", "fcntl", "flock", "fsync", "fdatasync", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "splice", "tee", "sendfile", "io_uring_enter", "close",
})  # fmt: skip
"""System calls whose first argument is the descriptor that they wait for."""
OF_FILES = frozenset({"poll", "ppoll"})
MOST = 4
SOL_SOCKET, SO_TYPE, SO_DOMAIN = 1, 3, 39


def call_name(nr: int, args: tuple[int, ...]) -> str:
    """A system call for people: 'recvfrom(fd 3)'."""
    name = abi.name(nr)
    return f"{name}(fd {args[0]})" if name in OF_A_FILE and args else f"{name}()"


def explain(
    error: Deadlock,
    process: Process,
    nr: int,
    args: tuple[int, ...],
    others: list[tuple[Process, int, tuple[int, ...]]],
) -> None:
    """Gives a Deadlock of a call of `process` its text: what that waits for, and what `others`,
    calls that go on beside it, do."""
    _, blocks, rest = error.what.partition(" blocks")
    error.what = f"{call_name(nr, args)}{blocks}{rest}"
    lines = [_line(process, nr, args)]
    lines += [f"{_line(*other, by=process)} (in the background)" for other in others[:MOST]]
    if len(others) > MOST:
        lines.append(f"  and {len(others) - MOST} more in the background")
    error.waits = "\n".join(lines)
    if not error.list:  # of a call that is over only now
        with suppress(Exception):
            error.list = process.instance.show_tasks()


def _line(process: Process, nr: int, args: tuple[int, ...], by: Process | None = None) -> str:
    """All of it as far as it can be had."""
    who, asks = f"process {process.pid}", by or process
    with suppress(Exception), asks.open(f"/proc/{process.pid}/comm") as file:
        who += f" ({file.read().strip()})"
    return f"  {who}: {call_name(nr, args)}{waited_for(process, nr, args, by)}"


def waited_for(process: Process, nr: int, args: tuple[int, ...], by: Process | None = None) -> str:
    """What a call of `process` waits for, to stand behind its name; '' when it can't be had.

    by: another process of the same kernel, which looks while `process` is in the call.
    """
    name = abi.name(nr)
    if name in OF_A_FILE and args:
        return _said(describe(process, args[0], by))
    if name in OF_FILES:
        fds: list[int] = []
        with suppress(Exception):
            fds = _polled(process, args[0], args[1])
        listed = [f"fd {fd}{_said(describe(process, fd, by))}" for fd in fds[:MOST]]
        more = f" and {len(fds) - MOST} more" if len(fds) > MOST else ""
        return f" on {'; '.join(listed)}{more}" if listed else ""
    if name in ("wait4", "waitid") and args:
        child = args[0] if args[0] < 1 << 31 else -1
        return f" for the end of {f'process {child}' if child > 0 else 'a child'}"
    if name == "futex" and args:
        return f" on the word at {args[0]:#x}"
    if name in ("pause", "rt_sigsuspend", "rt_sigtimedwait"):
        return " for a signal"
    return ""


def _said(text: str) -> str:
    return f", {text}" if text else ""


def _polled(process: Process, address: int, count: int) -> list[int]:
    user = process.instance.user
    at = address - user.base  # type: ignore[attr-defined]
    raw = bytes(user.window[at : at + abi.POLLFD.size * count])  # type: ignore[attr-defined]
    return [fd for fd, _, _ in abi.POLLFD.iter_unpack(raw)]


def describe(process: Process, fd: int, by: Process | None = None) -> str:
    """What a descriptor is: 'AF_INET SOCK_STREAM socket 127.0.0.1:7 to 127.0.0.1:9', 'pipe:[12]';
    '' when it can't be had.  by: as for waited_for()."""
    asks = by or process
    with suppress(Exception):
        target = str(asks.os.readlink(f"/proc/{process.pid}/fd/{fd}"))
        if target.startswith("socket:"):
            with suppress(Exception):
                return _socket(process, fd) if by is None else _socket_of(process, fd, by)
        return target
    return ""


def _socket_of(process: Process, fd: int, by: Process) -> str:
    pidfd = by.syscall("pidfd_open", process.pid, 0)
    try:
        own = by.syscall("pidfd_getfd", pidfd, fd, 0)
    finally:
        by.os.close(pidfd)
    try:
        return _socket(by, own)
    finally:
        by.os.close(own)


def _socket(process: Process, fd: int) -> str:
    def option(number: int) -> int:
        value = bytearray(4)
        process.syscall("getsockopt", fd, SOL_SOCKET, number, value, struct.pack("=i", 4))
        return int(struct.unpack("=i", value)[0])

    def end(name: str) -> str:
        with suppress(OSError):
            room, length = bytearray(abi.SOCKADDR_STORAGE), bytearray(struct.pack("=i", 128))
            process.syscall(name, fd, room, length)
            return _address(abi.unpack_address(bytes(room[: struct.unpack("=i", length)[0]])))
        return ""

    domain, kind = option(SO_DOMAIN), option(SO_TYPE)
    names = [pysocket.AddressFamily(domain).name, pysocket.SocketKind(kind).name, "socket"]
    here, there = end("getsockname"), end("getpeername")
    return " ".join([*names, *([here] if here else []), *(["to", there] if there else [])])


def _address(address: abi.Address) -> str:
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], str):
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{host}:{address[1]}"
    return repr(address) if address else ""
