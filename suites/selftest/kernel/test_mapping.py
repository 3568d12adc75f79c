# SPDX-License-Identifier: GPL-2.0
"""mmap(): files, memory and rings, read and written from Python."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from pathlib import PurePosixPath

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel, Process

ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


def opened(system: Process, folder: PurePosixPath, data: bytes) -> int:
    """A file that holds `data`.  Its size is set first: so nommu gives it contiguous pages."""
    fd = system.os.open(str(folder / "file"), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    system.os.ftruncate(fd, len(data))
    system.os.pwrite(fd, data, 0)
    return fd


def test_a_private_mapping_is_a_copy(system: Process, folder: PurePosixPath) -> None:
    data = bytes(range(256)) * 32
    fd = opened(system, folder, data)
    with system.mmap(fd, len(data), READ_WRITE, mmap.MAP_PRIVATE) as mapping:
        assert len(mapping) == len(data)
        assert mapping[:] == data
        assert mapping[255] == 255
        assert mapping[10:20:3] == data[10:20:3]
        mapping[4096:4100] = b"mine"
        assert mapping[4094:4102] == b"\xfe\xffmine\x04\x05"
        assert system.os.pread(fd, 4, 4096) == data[:4]
    with system.mmap(fd, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, 4096) as mapping:
        assert mapping[:] == data[4096:]


def test_anonymous_memory_is_zeroed_and_the_kernels_to_use(system: Process) -> None:
    r, w = system.os.pipe()
    with system.mmap(-1, 8192, READ_WRITE, ANONYMOUS) as mapping:
        assert mapping[:] == bytes(8192)
        mapping[4090:4100] = b"0123456789"
        assert system.syscall("write", w, mapping.address + 4090, 10) == 10
        assert system.syscall("read", r, mapping.address + 100, 10) == 10
        assert mapping[99:111] == b"\x000123456789\x00"
        address = mapping.address
    assert mapping.closed
    with pytest.raises(ValueError, match="closed"):
        mapping[0]
    with pytest.raises(OSError, match="Bad address"):
        system.syscall("write", w, address, 10)
    mapping.close()


def test_a_mapping_has_bounds(system: Process) -> None:
    with system.mmap(-1, 4096, READ_WRITE, ANONYMOUS) as mapping:
        with pytest.raises(IndexError):
            mapping[4096]
        with pytest.raises(IndexError):
            mapping.read(4090, 7)
        for data in (b"12", b"1234"):
            with pytest.raises(IndexError):
                mapping[0:3] = data
        mapping[-1] = 7
        assert mapping[4095] == 7


def test_a_file_of_a_tmpfs_is_shared(kernel: Kernel) -> None:
    kernel.os.makedirs("/tmp", exist_ok=True)
    fd = opened(kernel, PurePosixPath("/tmp"), b"abcd" * 2048)
    with kernel.mmap(fd, 8192) as mapping:
        assert mapping[:8] == b"abcdabcd"
        mapping[5000:5004] = b"both"
        assert kernel.os.pread(fd, 4, 5000) == b"both"
        kernel.os.pwrite(fd, b"ways", 6000)
        assert mapping[6000:6004] == b"ways"


def test_beyond_a_mapping_is_the_kernels(kernel: Kernel) -> None:
    _, w = kernel.os.pipe()
    with kernel.mmap(-1, 4096, READ_WRITE, ANONYMOUS) as mapping:
        for at in (mapping.address - 1, mapping.address + 4095):
            with pytest.raises(OSError, match="Bad address"):
                kernel.syscall("write", w, at, 2)


def test_a_snapshot_restores_it(kernel: Kernel) -> None:
    mapping = kernel.mmap(-1, 4096, READ_WRITE, ANONYMOUS)
    mapping[:5] = b"early"
    with kernel.snapshot():
        mapping[:5] = b"later"
        other = kernel.mmap(-1, 4096, READ_WRITE, ANONYMOUS)
    assert mapping[:5] == b"early"
    assert other.closed
    with pytest.raises(UsageError, match="map again"):
        other[0]


NOP, READ_FIXED, READ, SEND = 0, 4, 22, 26
PARAMS = struct.Struct("=7I12x10I10I")
SQE = struct.Struct("=BBHiQQIIQ24x")
CQE = struct.Struct("=QiI")
GETEVENTS = 1


class Ring:
    """An io_uring of eight entries; the layout is that of include/uapi/linux/io_uring.h."""

    def __init__(self, system: Process) -> None:
        self.system = system
        params = bytearray(120)
        try:
            self.fd = system.syscall("io_uring_setup", 8, params)
        except PermissionError:
            pytest.skip("this machine allows no io_uring")
        words = struct.unpack("=30I", params)
        sq, cq = words[10:20], words[20:30]
        self.sq_tail, self.array = sq[1], sq[6]
        self.cq_head, self.cq_tail, self.cqes = cq[0], cq[1], cq[5]
        size = max(self.cqes + words[1] * CQE.size, self.array + words[0] * 4)
        self.ring = system.mmap(self.fd, size)
        self.entries = system.mmap(self.fd, 8 * 64, offset=0x10000000)

    def submit(self, op: int, fd: int, address: int, size: int, user: int) -> None:
        self.entries[0:64] = SQE.pack(op, 0, 0, fd, 0, address, size, 0, user)
        tail = int.from_bytes(self.ring[self.sq_tail : self.sq_tail + 4], "little")
        at = self.array + tail % 8 * 4
        self.ring[at : at + 4] = bytes(4)
        self.ring[self.sq_tail : self.sq_tail + 4] = struct.pack("=I", tail + 1)
        assert self.system.syscall("io_uring_enter", self.fd, 1, 1, GETEVENTS, 0, 0) == 1

    def complete(self) -> tuple[int, int]:
        """(user data, result)."""
        head = int.from_bytes(self.ring[self.cq_head : self.cq_head + 4], "little")
        tail = int.from_bytes(self.ring[self.cq_tail : self.cq_tail + 4], "little")
        assert tail == head + 1
        at = self.cqes + head % 16 * CQE.size
        user, result, _ = CQE.unpack(self.ring[at : at + CQE.size])
        self.ring[self.cq_head : self.cq_head + 4] = struct.pack("=I", tail)
        return user, result


def test_io_uring(system: Process) -> None:
    ring = Ring(system)
    ring.submit(NOP, -1, 0, 0, 11)
    assert ring.complete() == (11, 0)
    r, w = system.os.pipe()
    system.os.write(w, b"through the ring")
    with system.memory() as memory:
        room = memory.new(64)
        ring.submit(READ, r, room.address, 64, 12)
        assert ring.complete() == (12, 16)
        assert bytes(room.view[:16]) == b"through the ring"
        ring.submit(READ, r + 1000, room.address, 64, 13)
        assert ring.complete() == (13, -9)
    first, second = system.socketpair()
    with system.memory() as memory:
        ring.submit(SEND, first.fileno(), memory.put(b"sent"), 4, 14)
        assert ring.complete() == (14, 4)
    assert second.recv(10) == b"sent"


def test_memory_that_is_registered_with_io_uring(kernel: Kernel) -> None:
    """It stays pinned: IORING_REGISTER_BUFFERS and its end, then READ_FIXED."""
    ring = Ring(kernel)
    r, w = kernel.os.pipe()
    kernel.os.write(w, b"fixed")
    with kernel.memory() as memory:
        room = memory.new(8192)
        part = struct.pack("2Q", room.address, 8192)
        for _ in range(3):
            kernel.syscall("io_uring_register", ring.fd, 0, part, 1)
            kernel.syscall("io_uring_register", ring.fd, 1, 0, 0)
        kernel.syscall("io_uring_register", ring.fd, 0, part, 1)
        ring.submit(READ_FIXED, r, room.address, 5, 1)
        assert ring.complete() == (1, 5)
        assert bytes(room.view[:5]) == b"fixed"


def test_a_packet_sockets_ring_is_refused(kernel: Kernel) -> None:
    """Its blocks lie apart, and nommu maps no socket: docs/different.md says so."""
    kernel.add_netdev("eth0")
    sock = kernel.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)
    sock.setsockopt(263, 5, struct.pack("IIII", 16384, 4, 2048, 32))  # PACKET_RX_RING
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.mmap(sock.fileno(), 65536)
