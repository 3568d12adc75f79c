# SPDX-License-Identifier: GPL-2.0
"""x86-64's user ABI as bytes: socket addresses, control messages, times, file status."""

from __future__ import annotations

import difflib
import os
import socket
import struct
from typing import Any, NamedTuple

from anykernel.errors import UsageError
from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import families

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17
SOCKADDR_STORAGE = 128
CMSG_HEADER = 16

Address = Any
"""As in Python's socket module: (host, port), (host, port, flowinfo, scope), path, (pid, groups),
(ifname, protocol, packet type, hardware type, hardware address), and those of families.py."""


_NAMES = {number: name for name, number in NUMBERS.items()}


def number(name: str) -> int:
    """The number of a system call.  Raises UsageError, which names similar ones."""
    found = NUMBERS.get(name)
    if found is None:
        near = difflib.get_close_matches(name, NUMBERS, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"there is no system call {name!r} on x86-64{hint}")
    return found


def name(number: int) -> str:
    """The name of a system call, or its number where there is none."""
    return _NAMES.get(number, f"system call {number}")


def _host(family: int, host: str) -> bytes:
    """Numeric addresses only: names would need a resolver, which is not the kernel's job."""
    if host == "":
        return bytes(4 if family == AF_INET else 16)
    if family == AF_INET and host == "<broadcast>":
        return b"\xff" * 4
    if host == "localhost":
        host = "127.0.0.1" if family == AF_INET else "::1"
    try:
        return socket.inet_pton(family, host.split("%")[0])
    except (OSError, TypeError) as error:
        kind = "IPv4" if family == AF_INET else "IPv6"
        raise UsageError(f"{host!r} is not an {kind} address; names are not resolved") from error


def _port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise OverflowError("port must be 0-65535.")
    return port


def pack_address(family: int, address: Address, ifindex: Any = None) -> bytes:
    """A struct sockaddr from what Python's socket module takes for `family`.

    Bytes are taken as a whole sockaddr (AF_UNIX: as a path).  `ifindex` is a function from an
    interface's name to its index, needed for AF_PACKET and "fe80::1%eth0".  Raises TypeError for
    another shape.
    """
    if family == AF_UNIX:
        path = address if isinstance(address, bytes | bytearray) else os.fsencode(address)
        if path and not path.startswith(b"\0"):
            path += b"\0"
        if len(path) > 108 + (path[-1:] == b"\0"):
            raise OSError("AF_UNIX path too long")
        return struct.pack("=H", family) + bytes(path[:108])
    if isinstance(address, bytes | bytearray):
        return bytes(address)
    if not isinstance(address, tuple):
        raise TypeError(f"this address family wants a tuple, not {type(address).__name__}")
    if family == AF_INET:
        host, port = address
        return (
            struct.pack("=H", family)
            + struct.pack("!H", _port(port))
            + _host(family, host)
            + bytes(8)
        )
    if family == AF_INET6:
        host, port, flow, scope = (*address, 0, 0)[:4]
        if "%" in host and ifindex is not None:
            zone = host.partition("%")[2]
            scope = int(zone) if zone.isdigit() else ifindex(zone)
        return (
            struct.pack("=H", family)
            + struct.pack("!HI", _port(port), flow)
            + _host(family, host)
            + struct.pack("=I", scope)
        )
    if family == AF_NETLINK:
        pid, groups = address
        return struct.pack("=HHII", family, 0, pid, groups)
    if family == AF_PACKET:
        defaults: Address = ("", 0, 0, 0, b"")
        name, protocol, kind, hardware, mac = address + defaults[len(address) :]
        index = name if isinstance(name, int) else ifindex(name) if name else 0
        return (
            struct.pack("=H", family)
            + struct.pack("!H", protocol)
            + struct.pack("=iHBB8s", index, hardware, kind, len(mac), mac)
        )
    if family in families.FAMILIES:
        return families.pack(family, address, ifindex)
    raise TypeError(f"give the address of family {family} as bytes (a whole struct sockaddr)")


def unpack_address(raw: bytes, ifname: Any = None, protocol: int = 0) -> Address:
    """What Python's socket module makes of a struct sockaddr; bytes for unknown families.
    protocol: the socket's, where the family has several kinds of addresses."""
    if len(raw) < 2:
        return None
    family = int.from_bytes(raw[:2], "little")
    if family == AF_INET:
        return socket.inet_ntop(family, raw[4:8]), int.from_bytes(raw[2:4], "big")
    if family == AF_INET6:
        port, flow = struct.unpack_from("!HI", raw, 2)
        (scope,) = struct.unpack_from("=I", raw, 24)
        return socket.inet_ntop(family, raw[8:24]), port, flow, scope
    if family == AF_UNIX:
        path = raw[2:]
        if path.startswith(b"\0"):
            return path
        return os.fsdecode(path.split(b"\0")[0])
    if family == AF_NETLINK:
        return struct.unpack_from("=II", raw, 4)
    if family == AF_PACKET:
        (ethertype,) = struct.unpack_from("!H", raw, 2)
        index, hardware, kind, length = struct.unpack_from("=iHBB", raw, 4)
        name = ifname(index) if ifname is not None and index else ""
        return name, ethertype, kind, hardware, raw[12 : 12 + length]
    if family in families.FAMILIES:
        return families.unpack(raw, ifname, protocol)
    return raw


def pack_control(messages: Any) -> bytes:
    """struct cmsghdrs from (level, type, data) tuples, as sendmsg takes them."""
    packed = b""
    for level, kind, data in messages:
        data = bytes(data)
        packed += struct.pack("=QII", CMSG_HEADER + len(data), level, kind) + data
        packed += bytes(-len(data) % 8)
    return packed


def unpack_control(raw: bytes) -> list[tuple[int, int, bytes]]:
    """(level, type, data) tuples; of a message cut off by the buffer's end, what is there."""
    messages = []
    at = 0
    while at + CMSG_HEADER <= len(raw):
        length, level, kind = struct.unpack_from("=Qii", raw, at)
        if length < CMSG_HEADER:
            break
        messages.append((level, kind, raw[at + CMSG_HEADER : at + length]))
        at += (length + 7) & ~7
    return messages


def pack_timespec(seconds: float) -> bytes:
    return pack_ns(round(seconds * 1e9))


def pack_ns(nanoseconds: int) -> bytes:
    """struct timespec."""
    return struct.pack("=qq", nanoseconds // 10**9, nanoseconds % 10**9)


class StatResult(NamedTuple):
    """What os.stat_result has of it, by the same names; times in seconds and in ns."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_atime: float
    st_mtime: float
    st_ctime: float
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_blksize: int
    st_blocks: int
    st_rdev: int


STAT = struct.Struct("=QQQIII4xQqqq6Q24x")
STATFS = struct.Struct("=7q2i8q")


def unpack_stat(raw: bytes | bytearray | memoryview) -> StatResult:
    """From x86-64's struct stat."""
    dev, ino, links, mode, uid, gid, rdev, size, blksize, blocks, *t = STAT.unpack(raw)
    atime, mtime, ctime = (t[i] * 10**9 + t[i + 1] for i in (0, 2, 4))
    return StatResult(
        mode, ino, dev, links, uid, gid, size,
        atime / 1e9, mtime / 1e9, ctime / 1e9, atime, mtime, ctime,
        blksize, blocks, rdev,
    )  # fmt: skip


class PollFd(NamedTuple):
    fd: int
    events: int
    revents: int


POLLFD = struct.Struct("=ihh")
EPOLL_EVENT = struct.Struct("=IQ")
IFREQ = 40
