# SPDX-License-Identifier: GPL-2.0
"""Sockets of the kernel that behave like socket.socket."""

from __future__ import annotations

import errno
import os
import socket as pysocket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from anykernel.errors import KernelError, UsageError
from anykernel.host.stretch import Since
from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import abi
from anykernel.kernel.call import Memory, Plan, Request, operation
from anykernel.kernel.collected import ClosedLater
from anykernel.kernel.families import AF_ALG
from anykernel.kernel.fileio import KernelFile
from anykernel.kernel.socketio import makefile

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

CHUNK = 1 << 20
"""The most bytes that one system call moves."""
FIONBIO = 0x5421
SOL_SOCKET, SO_ERROR = 1, 4
MSG_ZEROCOPY = 0x4000000
MESSAGE = struct.Struct("=QI4xQQQQi4x")
"""struct msghdr."""
BIND, CONNECT, LISTEN, ACCEPT4 = (NUMBERS[n] for n in ("bind", "connect", "listen", "accept4"))
SENDTO, RECVFROM = NUMBERS["sendto"], NUMBERS["recvfrom"]
SENDMSG, RECVMSG = NUMBERS["sendmsg"], NUMBERS["recvmsg"]


class Socket(ClosedLater):
    """A socket of the kernel under test: the methods of socket.socket, with its arguments,
    results and errors.  Timeouts count virtual time.  Names are not resolved.

    One that is collected is closed before the kernel's next call.
    """

    def __init__(
        self, process: Process, family: int, type: int, proto: int, fileno: int | None = None
    ) -> None:
        self.process = process
        self.family = _enum(pysocket.AddressFamily, family)
        kind = type & ~(pysocket.SOCK_NONBLOCK | pysocket.SOCK_CLOEXEC)
        self.type = _enum(pysocket.SocketKind, kind)
        self.proto = proto
        self._waits: Since[float | None] = Since(0.0 if type & pysocket.SOCK_NONBLOCK else None)
        self._users = 0
        self._closing = False
        if fileno is None:
            fileno = process.syscall("socket", family, type, proto)
        self._descriptor = Since(fileno)
        self._state = process.state
        self.closed_later(process)

    @property
    def closed(self) -> bool:
        """Whether it has no descriptor (any more)."""
        return self._fd < 0

    @property
    def _fd(self) -> int:
        return self._descriptor.value

    @property
    def _timeout(self) -> float | None:
        return self._waits.value

    def __repr__(self) -> str:
        state = "closed" if self._fd < 0 else f"fd={self._fd}"
        return f"<kernel socket {state} {self.family!s} {self.type!s} proto={self.proto}>"

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None or not issubclass(kind, KernelError):
            self.close()

    # State

    def fileno(self) -> int:
        """The descriptor in the kernel, -1 when closed."""
        return self._fd

    def _open_fd(self) -> int:
        if not self._state.alive:
            raise UsageError(
                "this socket belongs to a state that was restored away: make a new one, or make "
                "it before the snapshot"
            )
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._fd

    def close(self) -> None:
        """Closes the socket, at the latest when the last file of makefile() is closed."""
        self._closing = True
        if self._users <= 0:
            self._real_close()

    def _real_close(self) -> None:
        fd = self.detach()
        if fd >= 0 and self._state.alive:
            self.process.syscall("close", fd)

    def detach(self) -> int:
        """Gives up the descriptor, which stays open, and returns it."""
        fd = self._fd
        self._descriptor.set(-1, self.process.state)
        return fd

    def settimeout(self, value: float | None) -> None:
        """None: blocking; 0: non-blocking; else the virtual seconds that a call may take."""
        if value is not None and not value >= 0:
            raise ValueError(f"Timeout value out of range: {value}")
        with self.process.memory() as memory:
            flag = memory.put(struct.pack("=i", value == 0))
            self.process.syscall("ioctl", self._open_fd(), FIONBIO, flag)
        self._waits.set(None if value is None else float(value), self.process.state)

    def gettimeout(self) -> float | None:
        return self._timeout

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def dup(self) -> Socket:
        """A second socket object for the same socket of the kernel."""
        fd = self.process.syscall("dup", self._open_fd())
        return Socket(self.process, self.family, self.type, self.proto, fileno=fd)

    # Names

    def _ifindex(self, name: str) -> int:
        request = bytearray(name.encode()[:15].ljust(abi.IFREQ, b"\0"))
        self.process.syscall("ioctl", self._open_fd(), 0x8933, request)
        return int(struct.unpack_from("=i", request, 16)[0])

    def _ifname(self, index: int) -> str:
        request = bytearray(struct.pack("=16xi", index).ljust(abi.IFREQ, b"\0"))
        try:
            self.process.syscall("ioctl", self._open_fd(), 0x8910, request)
        except OSError:
            return ""
        return bytes(request[:16]).split(b"\0")[0].decode()

    def _pack(self, address: Any) -> bytes:
        return abi.pack_address(self.family, address, self._ifindex)

    def _unpack(self, raw: bytes) -> Any:
        if self.family == abi.AF_UNIX and len(raw) <= 2:
            return "" if len(raw) == 2 else None
        return abi.unpack_address(raw, self._ifname, self.proto)

    def _name(self, call: str) -> Any:
        with self.process.memory() as memory:
            room = memory.new(abi.SOCKADDR_STORAGE)
            size = memory.new(4)
            size.view[:4] = struct.pack("=I", abi.SOCKADDR_STORAGE)
            self.process.syscall(call, self._open_fd(), room.address, size.address)
            raw = _address(room.view, size.view)
        return self._unpack(raw)

    def getsockname(self) -> Any:
        return self._name("getsockname")

    def getpeername(self) -> Any:
        return self._name("getpeername")

    # Connections

    @operation
    def bind(self, address: Any) -> Plan[None]:
        with self.process.memory() as memory:
            raw = self._pack(address)
            yield Request(BIND, (self._open_fd(), memory.put(raw), len(raw)))

    @operation
    def listen(self, backlog: int = 128) -> Plan[None]:
        yield Request(LISTEN, (self._open_fd(), max(backlog, 0)))

    @operation
    def connect(self, address: Any) -> Plan[None]:
        with self.process.memory() as memory:
            raw = self._pack(address)
            args = (self._open_fd(), memory.put(raw), len(raw))
            yield Request(CONNECT, args, self._wait)

    def connect_ex(self, address: Any) -> int:
        """Like connect(), but returns the errno (0: connected) in place of raising."""
        try:
            self.connect(address)
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno
        return 0

    @operation
    def accept(self) -> Plan[tuple[Socket, Any]]:
        with self.process.memory() as memory:
            room = memory.new(abi.SOCKADDR_STORAGE)
            length = memory.new(4)
            length.view[:4] = struct.pack("=I", abi.SOCKADDR_STORAGE)
            named = self.family != AF_ALG  # which would be ECONNABORTED (as Python does)
            where = (room.address, length.address) if named else (0, 0)
            fd = yield Request(ACCEPT4, (self._open_fd(), *where, 0), self._wait)
            raw = _address(room.view, length.view) if named else b""
        made = Socket(self.process, self.family, self.type, self.proto, fileno=fd)
        return made, self._unpack(raw)

    @operation
    def shutdown(self, how: int) -> Plan[None]:
        yield Request(NUMBERS["shutdown"], (self._open_fd(), how))

    # Options

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int = 0) -> None:
        """`value`: int, bytes, or None with `optlen`."""
        if value is None:
            args: tuple[Any, ...] = (None, optlen)
        else:
            data = struct.pack("=i", value) if isinstance(value, int) else bytes(value)
            args = (data, len(data))
        self.process.syscall("setsockopt", self._open_fd(), level, optname, *args)

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """An int, or, with `buflen`, at most so many bytes."""
        if not 0 <= buflen <= 1024:
            raise OSError("getsockopt buflen out of range")
        value = bytearray(buflen or 4)
        size = bytearray(struct.pack("=I", len(value)))
        self.process.syscall("getsockopt", self._open_fd(), level, optname, value, size)
        if buflen:
            return bytes(value[: struct.unpack("=I", size)[0]])
        return struct.unpack("=i", value)[0]

    def tcp_info(self) -> dict[str, int]:
        """TCP_INFO with all fields that the running kernel has: {"snd_cwnd": segments, "rtt": us,
        "total_retrans": ...} (include/uapi/linux/tcp.h, without "tcpi_")."""
        from anykernel.kernel.tcpinfo import tcp_info

        return tcp_info(self)

    @property
    def _wait(self) -> float | None:
        """How long a system call may block, for a non-blocking socket: the kernel knows."""
        return self._timeout or None

    # Sending

    def _most(self, size: int) -> int:
        """How much of `size` bytes one call is given."""
        if size <= CHUNK:
            return size
        if self.type == pysocket.SOCK_STREAM:
            return CHUNK
        raise OSError(errno.EMSGSIZE, f"{size} bytes are more than any message may have")

    def _send(self, data: memoryview, flags: int, address: bytes) -> Plan[int]:
        with self.process.memory() as memory:
            size = self._most(len(data))
            where = memory.put(address) if address else 0
            args = (self._open_fd(), memory.put(data[:size]), size, flags, where, len(address))
            if flags & MSG_ZEROCOPY:
                memory.keep()
            return (yield Request(SENDTO, args, self._wait))

    @operation
    def send(self, data: Any, flags: int = 0) -> Plan[int]:
        return self._send(memoryview(data).cast("B"), flags, b"")

    @operation
    def sendto(self, data: Any, *rest: Any) -> Plan[int]:
        """sendto(data, address) or sendto(data, flags, address)."""
        flags, address = rest if len(rest) == 2 else (0, *rest)
        return self._send(memoryview(data).cast("B"), flags, self._pack(address))

    @operation
    def sendall(self, data: Any, flags: int = 0) -> Plan[None]:
        return self._all(memoryview(data).cast("B"), flags)

    def _all(self, view: memoryview, flags: int) -> Plan[None]:
        while True:
            sent = yield from self._send(view, flags, b"")
            view = view[sent:]
            if not len(view):
                return

    @operation
    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> Plan[int]:
        """Sends a file from `offset` to its end, or `count` bytes; returns how many.  A file of
        the kernel (kernel.open()) goes by sendfile(2), another one by send()."""
        if self.type != pysocket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        ours = isinstance(getattr(file, "raw", file), KernelFile)
        total = 0
        while count is None or total < count:
            most = CHUNK if count is None else min(count - total, CHUNK)
            if not ours:
                file.seek(offset + total)
                data = file.read(most)
                yield from self._all(memoryview(data).cast("B"), 0)
                sent = len(data)
            else:
                sent = yield from self._sendfile(file.fileno(), offset + total, most)
            if not sent:
                break
            total += sent
        file.seek(offset + total)
        return total

    def _sendfile(self, fd: int, offset: int, most: int) -> Plan[int]:
        with self.process.memory() as memory:
            at = memory.put(struct.pack("=q", offset))
            return (yield Request(NUMBERS["sendfile"], (self._open_fd(), fd, at, most), self._wait))

    @operation
    def sendmsg(
        self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, *rest: Any
    ) -> Plan[int]:
        """sendmsg(buffers, [ancdata, [flags, [address]]])"""
        parts = [memoryview(part).cast("B") for part in buffers]
        data = memoryview(b"".join(parts))
        with self.process.memory() as memory:
            size = self._most(len(data))
            address = self._pack(rest[0]) if rest and rest[0] is not None else b""
            control = abi.pack_control(ancdata)
            header = _message(memory, memory.put(data[:size]), size, address, control)
            if flags & MSG_ZEROCOPY:
                memory.keep()
            return (yield Request(SENDMSG, (self._open_fd(), header.address, flags), self._wait))

    # Receiving

    def _receive(self, into: memoryview, flags: int, named: bool) -> Plan[tuple[int, bytes]]:
        with self.process.memory() as memory:
            size = min(len(into), CHUNK)
            data = memory.new(size)
            where = (0, 0)
            if named:
                room = memory.new(abi.SOCKADDR_STORAGE)
                length = memory.new(4)
                length.view[:4] = struct.pack("=I", abi.SOCKADDR_STORAGE)
                where = room.address, length.address
            args = (self._open_fd(), data.address, size, flags, *where)
            got = yield Request(RECVFROM, args, self._wait)
            filled = min(got, size)
            into[:filled] = data.view[:filled]
            return got, _address(room.view, length.view) if named else b""

    @operation
    def recv(self, bufsize: int, flags: int = 0) -> Plan[bytes]:
        data = bytearray(_size(bufsize))
        got, _ = yield from self._receive(memoryview(data), flags, False)
        return bytes(data[:got])

    @operation
    def recvfrom(self, bufsize: int, flags: int = 0) -> Plan[tuple[bytes, Any]]:
        data = bytearray(_size(bufsize))
        got, address = yield from self._receive(memoryview(data), flags, True)
        return bytes(data[:got]), self._unpack(address)

    @operation
    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> Plan[int]:
        view = _room(buffer, nbytes)
        got, _ = yield from self._receive(view, flags, False)
        return got

    @operation
    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> Plan[tuple[int, Any]]:
        view = _room(buffer, nbytes)
        got, address = yield from self._receive(view, flags, True)
        return got, self._unpack(address)

    def _message(
        self, size: int, ancbufsize: int, flags: int
    ) -> Plan[tuple[bytes, list[tuple[int, int, bytes]], int, Any]]:
        with self.process.memory() as memory:
            data, room = memory.new(size), memory.new(abi.SOCKADDR_STORAGE)
            control = memory.new(ancbufsize)
            header = memory.new(MESSAGE.size + 16)
            base = header.address + MESSAGE.size
            MESSAGE.pack_into(
                header.view, 0, room.address, abi.SOCKADDR_STORAGE, base, 1,
                control.address if ancbufsize else 0, ancbufsize, 0,
            )  # fmt: skip
            struct.pack_into("=QQ", header.view, MESSAGE.size, data.address, size)
            got = yield Request(RECVMSG, (self._open_fd(), header.address, flags), self._wait)
            _, named, _, _, _, filled, answer = MESSAGE.unpack_from(header.view)
            ancillary = abi.unpack_control(bytes(control.view[:filled]))
            address = bytes(room.view[:named])
            content = bytes(data.view[: min(got, size)])
        return content, ancillary, answer, self._unpack(address)

    @operation
    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> Plan[tuple[bytes, list[tuple[int, int, bytes]], int, Any]]:
        return self._message(_size(bufsize), ancbufsize, flags)

    @operation
    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0
    ) -> Plan[tuple[int, list[tuple[int, int, bytes]], int, Any]]:
        """(bytes written to the buffers, ancillary data, flags, address)."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        size = _size(sum(map(len, views)))
        data, *rest = yield from self._message(size, ancbufsize, flags)
        left = memoryview(data)
        for view in views:
            part = left[: len(view)]
            view[: len(part)] = part
            left = left[len(part) :]
        return len(data), *rest

    # Files

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """A file object over the socket, as socket.socket.makefile makes it."""
        return makefile(self, mode, buffering, encoding, errors, newline)

    def hold(self) -> None:
        """A file of makefile() uses it: close() waits for that."""
        self._users += 1

    def release(self) -> None:
        """A file of makefile() was closed."""
        self._users -= 1
        if self._closing:
            self.close()


def _enum(kind: Any, value: int) -> Any:
    try:
        return kind(value)
    except ValueError:
        return value


def _size(size: int) -> int:
    if size < 0:
        raise ValueError("negative buffersize in recv")
    return min(size, CHUNK)


def _room(buffer: Any, nbytes: int) -> memoryview:
    view = memoryview(buffer).cast("B")
    if nbytes < 0:
        raise ValueError("negative buffersize in recv_into")
    if nbytes > len(view):
        raise ValueError("buffer too small for requested bytes")
    return view[:nbytes] if nbytes else view


def _address(room: memoryview, length: memoryview) -> bytes:
    size = int.from_bytes(length[:4], "little")
    return bytes(room[: min(size, abi.SOCKADDR_STORAGE)])


def _message(memory: Memory, data: int, size: int, address: bytes, control: bytes) -> Any:
    """A struct msghdr with one iovec in user memory."""
    header = memory.new(MESSAGE.size + 16)
    base = header.address + MESSAGE.size
    MESSAGE.pack_into(
        header.view, 0, memory.put(address) if address else 0, len(address), base, 1,
        memory.put(control) if control else 0, len(control), 0,
    )  # fmt: skip
    struct.pack_into("=QQ", header.view, MESSAGE.size, data, size)
    return header
