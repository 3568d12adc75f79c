# SPDX-License-Identifier: GPL-2.0
"""Sockets behave like socket.socket: every test runs on the machine's kernel too."""

from __future__ import annotations

import array
import errno
import socket
import struct
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Process
from anykernel.kernel.sockets import Socket


def connected(system: Process, family: int = socket.AF_INET) -> tuple[Socket, Socket]:
    """A TCP connection over the loopback device."""
    server = system.socket(family, socket.SOCK_STREAM)
    server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    server.listen()
    client = system.socket(family, socket.SOCK_STREAM)
    client.connect(server.getsockname())
    accepted, address = server.accept()
    assert address == client.getsockname()
    server.close()
    return client, accepted


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_tcp_session(system: Process, family: int) -> None:
    client, server = connected(system, family)
    client.sendall(b"hello")
    assert server.recv(100) == b"hello"
    server.send(b"world")
    buffer = bytearray(10)
    assert client.recv_into(buffer) == 5 and buffer[:5] == b"world"
    assert client.getpeername() == server.getsockname()
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    client.close()
    server.close()
    assert client.fileno() == -1


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_udp(system: Process, family: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    one, two = (system.socket(family, socket.SOCK_DGRAM) for _ in range(2))
    one.bind((host, 0))
    two.bind((host, 0))
    assert two.sendto(b"x" * 60000, one.getsockname()) == 60000
    data, address = one.recvfrom(65535)
    assert data == b"x" * 60000 and address == two.getsockname()
    two.sendto(b"cut me", one.getsockname())
    assert one.recv(3) == b"cut"
    two.sendto(b"", one.getsockname())
    assert one.recvfrom(10) == (b"", two.getsockname())
    with pytest.raises(OSError) as caught:
        two.sendto(bytes(70000), one.getsockname())
    assert caught.value.errno == errno.EMSGSIZE
    with pytest.raises(OSError) as caught:
        two.sendto(bytes(1 << 21), one.getsockname())
    assert caught.value.errno == errno.EMSGSIZE


def test_megabytes(system: Process) -> None:
    client, server = connected(system)
    data = bytes(range(256)) * (3 << 12)
    sending = system.submit(client.sendall, data)
    got = bytearray()
    while len(got) < len(data):
        got += server.recv(1 << 22)
    sending.result()
    assert got == data


def test_messages_and_control_data(system: Process) -> None:
    one, two = system.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    read, write = system.os.pipe()
    descriptors = array.array("i", [write])
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors.tobytes())
    assert one.sendmsg([b"he", b"llo"], [rights]) == 5
    data, control, flags, address = two.recvmsg(100, socket.CMSG_SPACE(4))
    assert data == b"hello" and address in (None, "") and not flags & socket.MSG_CTRUNC
    (received,) = struct.unpack("=i", control[0][2])
    assert control[0][:2] == rights[:2] and received != write
    system.os.write(received, b"through")
    assert system.os.read(read, 10) == b"through"
    one.send(b"too long")
    data, control, flags, _ = two.recvmsg(3)
    assert (data, control) == (b"too", []) and flags & socket.MSG_TRUNC


def test_unix_names(system: Process, folder: PurePosixPath) -> None:
    path = str(folder / "socket")
    server = system.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    client = system.socket(socket.AF_UNIX)
    assert client.getsockname() == ""
    client.connect(path)
    assert client.getpeername() == path
    accepted, address = server.accept()
    assert address == "" and accepted.getsockname() == path
    abstract = system.socket(socket.AF_UNIX)
    abstract.bind(b"\0anykernel-test")
    assert abstract.getsockname() == b"\0anykernel-test"
    abstract.close()


def test_options(system: Process) -> None:
    sock = system.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 7))
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 7)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    with pytest.raises(OSError) as caught:
        sock.setsockopt(socket.SOL_SOCKET, 9999, 1)
    assert caught.value.errno == errno.ENOPROTOOPT
    with pytest.raises(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, None, 4)
    sock.close()


ERRORS: list[tuple[type[OSError], int, Callable[[Socket], object]]] = [
    (OSError, errno.ENOTCONN, lambda s: s.getpeername()),
    (OSError, errno.ENOTCONN, lambda s: s.recv(1)),
    (
        BrokenPipeError,
        errno.EPIPE,
        lambda s: s.send(b"", socket.MSG_NOSIGNAL) or s.send(b"x", 16384),
    ),
    (ConnectionRefusedError, errno.ECONNREFUSED, lambda s: s.connect(("127.0.0.1", 1))),
    (OSError, errno.EADDRNOTAVAIL, lambda s: s.bind(("203.0.113.77", 0))),
    (OSError, errno.EINVAL, lambda s: s.accept()),
]


@pytest.mark.parametrize(("kind", "code", "what"), ERRORS)
def test_errors(
    system: Process, kind: type[OSError], code: int, what: Callable[[Socket], object]
) -> None:
    sock = system.socket()
    with pytest.raises(kind) as caught:
        what(sock)
    assert caught.value.errno == code
    sock.close()
    with pytest.raises(OSError) as caught:
        what(sock)
    assert caught.value.errno == errno.EBADF


def test_not_blocking_and_timeouts(system: Process) -> None:
    sock = system.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    assert sock.gettimeout() is None and sock.getblocking()
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    assert sock.gettimeout() == 0.0 and not sock.getblocking()
    sock.settimeout(0.05)
    before = system.instance.now
    with pytest.raises(TimeoutError):
        sock.recv(1)
    assert 0.04 < (system.instance.now - before) / 1e9 < 5
    assert sock.getblocking()
    with pytest.raises(ValueError, match="range"):
        sock.settimeout(-1)
    refused = system.socket()
    refused.setblocking(False)
    assert refused.connect_ex(("127.0.0.1", 1)) in (errno.EINPROGRESS, errno.ECONNREFUSED)


def test_makefile(system: Process) -> None:
    client, server = connected(system)
    with client.makefile("rw", newline="\n") as file:
        file.write("line 1\nline 2\n")
        file.flush()
        with server.makefile("rb") as other:
            assert other.readline() == b"line 1\n" and other.readline() == b"line 2\n"
        server.sendall("grüße\n".encode())
        assert file.readline() == "grüße\n"
        client.close()
        assert client.fileno() >= 0, "the file still uses it"
    assert client.fileno() == -1
    with pytest.raises(ValueError, match="unbuffered"):
        server.makefile("r", buffering=0)
    raw = server.makefile("rb", buffering=0)
    assert raw.read(1) == b""


def test_socketpair_dup_detach(system: Process) -> None:
    one, two = system.socketpair()
    other = one.dup()
    one.close()
    other.send(b"dup")
    assert two.recv(10) == b"dup"
    fd = other.detach()
    assert other.fileno() == -1
    system.os.write(fd, b"raw")
    assert two.recv(10) == b"raw"
    system.os.close(fd)
    assert two.recv(10) == b""


def test_background_accept(system: Process) -> None:
    server = system.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    call = system.submit(server.accept)
    assert not call.done()
    client = system.socket()
    client.connect(server.getsockname())
    accepted, address = call.result(timeout=5)
    assert address == client.getsockname()
    reading = system.submit(accepted.recv, 10)
    assert not reading.done()
    client.send(b"now")
    assert reading.result() == b"now"
    assert reading.exception() is None


def test_background_errors(system: Process) -> None:
    sock = system.socket()
    failed = system.submit(sock.recv, 1)
    assert isinstance(failed.exception(), OSError)
    with pytest.raises(OSError):
        failed.result()
    assert system.submit("getpid").result() == system.os.getpid()
    with pytest.raises(UsageError, match="submit"):
        system.submit(print)


def test_select(system: Process) -> None:
    one, two = system.socketpair()
    assert system.select([one, two], [one], [], 0) == ([], [one], [])
    two.send(b"x")
    assert system.select([one, two], [], [], 10) == ([one], [], [])
    poll = system.poll()
    poll.register(one, 1)
    poll.register(two.fileno(), 1)
    assert poll.poll(10) == [(one.fileno(), 1)]
    poll.unregister(one)
    assert poll.poll(10) == []
    with pytest.raises(FileNotFoundError):
        poll.modify(one, 1)
    with system.epoll() as epoll:
        epoll.register(one, 1)
        epoll.register(two, 4)
        assert sorted(epoll.poll(0.01)) == sorted([(one.fileno(), 1), (two.fileno(), 4)])
        epoll.modify(two, 1)
        epoll.unregister(one)
        assert epoll.poll(0.01) == []
    assert epoll.closed


def test_addresses_are_checked(system: Process) -> None:
    sock = system.socket()
    for bad, kind in [
        (("example.org", 80), UsageError),
        ("127.0.0.1", TypeError),
        (("127.0.0.1", 70000), OverflowError),
    ]:
        with pytest.raises(kind):
            sock.connect(bad)
    unix = system.socket(socket.AF_UNIX)
    with pytest.raises(OSError, match="too long"):
        unix.bind("x" * 200)


def test_an_unknown_system_call_is_named(system: Process) -> None:
    with pytest.raises(UsageError, match="did you mean getpid"):
        system.syscall("getpidd")
    with pytest.raises(UsageError, match="at most 6"):
        system.syscall("getpid", *range(7))
