# SPDX-License-Identifier: GPL-2.0
"""System calls can pin user memory: what the machine's own kernel does with it, ours does, too."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

import pytest

from anykernel.kernel import Kernel, Process
from anykernel.kernel.sockets import Socket

SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000
EXTENDED_ERROR = struct.Struct("=IBBBxII")
ORIGIN_ZEROCOPY = 5


class Completion(NamedTuple):
    """struct sock_extended_err of an end of zero-copy sends."""

    errno: int
    first: int
    last: int


def completion(sock: Socket) -> Completion:
    """Raises BlockingIOError."""
    _, ((_, _, data),), flags, _ = sock.recvmsg(0, 200, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    assert flags & socket.MSG_ERRQUEUE
    number, origin, _, _, first, last = EXTENDED_ERROR.unpack_from(data)
    assert origin == ORIGIN_ZEROCOPY
    return Completion(number, first, last)


def pair(system: Process) -> tuple[Socket, Socket]:
    """Of TCP, over the loopback."""
    server = system.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    call = system.submit(server.accept)
    client = system.socket()
    client.connect(server.getsockname())
    served = call.result()[0]
    client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    return client, served


def receive(sock: Socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


def test_tcp_sends_without_a_copy(system: Process) -> None:
    client, served = pair(system)
    data = bytes(range(256)) * 40
    assert client.send(data, MSG_ZEROCOPY) == len(data)
    assert client.sendmsg([data[:5000]], [], MSG_ZEROCOPY) == 5000
    assert receive(served, len(data) + 5000) == data + data[:5000]
    done = [completion(client)]
    while done[-1].last < 1:
        done.append(completion(client))
    assert [one.errno for one in done] == [0] * len(done)
    assert (done[0].first, done[-1].last) == (0, 1)
    with pytest.raises(BlockingIOError):
        completion(client)


def test_udp_sends_without_a_copy(system: Process) -> None:
    server = system.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    client = system.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    for number in range(3):
        data = bytes([number]) * 4000
        assert client.sendto(data, MSG_ZEROCOPY, server.getsockname()) == 4000
        assert server.recv(5000) == data
    done = [completion(client)]
    while done[-1].last < 2:
        done.append(completion(client))
    assert (done[0].first, done[-1].last) == (0, 2)


def test_vmsplice_moves_pages(system: Process) -> None:
    r, w = system.os.pipe()
    with system.memory() as memory:
        text = memory.put(b"hello" + b"x" * 5000)
        parts = struct.pack("4Q", text, 5, text + 5, 5000)
        assert system.syscall("vmsplice", w, parts, 2, 0) == 5005
        assert system.os.read(r, 6000) == b"hello" + b"x" * 5000


def test_a_vmspliced_page_is_no_copy(system: Process) -> None:
    """What is written after the call is what the reader gets."""
    r, w = system.os.pipe()
    with system.memory() as memory:
        room = memory.new(4096)
        room.view[:5] = b"first"
        assert system.syscall("vmsplice", w, struct.pack("2Q", room.address, 5), 1, 0) == 5
        room.view[:5] = b"later"
        assert system.os.read(r, 10) == b"later"


def test_vmsplice_of_a_bad_pointer(system: Process) -> None:
    _, w = system.os.pipe()
    for address in (4096, 1 << 46, (1 << 64) - 4096):
        with pytest.raises(OSError, match="Bad address") as caught:
            system.syscall("vmsplice", w, struct.pack("2Q", address, 5), 1, 0)
        assert caught.value.errno == errno.EFAULT


def test_the_kernels_own_memory_is_nobodys(kernel: Kernel) -> None:
    """Not the image, nor RAM up to where user memory begins, nor what lies behind that."""
    instance = kernel.instance
    client, _ = pair(kernel)
    _, w = kernel.os.pipe()
    window = instance.user.base  # type: ignore[attr-defined]
    end = window + len(instance.user.window)  # type: ignore[attr-defined]
    assert window == instance.ram_end  # type: ignore[attr-defined]
    for address in (instance.image_base, window - 4096, window - 2, end - 2, end):  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="Bad address"):
            kernel.syscall("vmsplice", w, struct.pack("2Q", address, 5), 1, 0)
        with pytest.raises(OSError, match="Bad address"):
            kernel.syscall("sendto", client.fileno(), address, 5, MSG_ZEROCOPY, 0, 0)
        with pytest.raises(OSError, match="Bad address"):
            kernel.syscall("write", w, address, 5)


def test_data_that_is_sent_later_is_as_it_was(kernel: Kernel) -> None:
    """The segments wait for a peer's window, while other calls use user memory."""
    client, served = pair(kernel)
    served.setblocking(False)
    client.setblocking(False)
    data = bytes(range(256)) * 16
    sent = 0
    while True:
        try:
            sent += client.send(data, MSG_ZEROCOPY)
        except BlockingIOError:
            break
        kernel.os.stat("/")
    assert sent > 65536
    got = bytearray()
    while len(got) < sent:
        try:
            got += served.recv(sent)
        except BlockingIOError:
            kernel.instance.run(kernel.instance.now + 300_000_000)
    assert bytes(got) == (data * (sent // len(data) + 1))[:sent]


def test_pins_come_and_go_without_end(kernel: Kernel) -> None:
    """Each pin is given back: a page that loses references would be freed, which is a BUG."""
    r, w = kernel.os.pipe()
    with kernel.memory() as memory:
        part = struct.pack("2Q", memory.put(b"hello"), 5)
        for _ in range(3000):
            assert kernel.syscall("vmsplice", w, part, 1, 0) == 5
            assert kernel.os.read(r, 5) == b"hello"


def test_a_restored_kernel_pins_again(kernel: Kernel) -> None:
    with kernel.snapshot():
        test_tcp_sends_without_a_copy(kernel)
        once = kernel.instance.now
    with kernel.snapshot():
        test_tcp_sends_without_a_copy(kernel)
        assert kernel.instance.now == once


def test_a_forked_process_pins_the_same_memory(kernel: Kernel) -> None:
    child = kernel.fork()
    r, w = child.os.pipe()
    with kernel.memory() as memory:
        part = struct.pack("2Q", memory.put(b"shared"), 6)
        assert child.syscall("vmsplice", w, part, 1, 0) == 6
        assert child.os.read(r, 6) == b"shared"
