# SPDX-License-Identifier: GPL-2.0
"""Network interfaces by ioctl and plain netlink: what must work before anybody imports pyroute2."""

from __future__ import annotations

import ipaddress
import os
import socket as pysocket
import struct
from typing import TYPE_CHECKING

from anykernel.errors import UsageError
from anykernel.kernel.abi import IFREQ

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

SIOCGIFNAME, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8910, 0x8913, 0x8914
SIOCGIFMTU, SIOCSIFMTU, SIOCGIFHWADDR, SIOCSIFHWADDR = 0x8921, 0x8922, 0x8927, 0x8924
SIOCGIFINDEX = 0x8933
IFF_UP = 1
RTM_NEWADDR = 20
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL = 1, 4, 0x400, 0x200
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 2
NLMSG_ERROR = 2


def request(process: Process, number: int, name: str, payload: bytes = b"") -> bytes:
    """An interface ioctl; `payload` and the result are what follows the name in struct ifreq."""
    raw = name.encode()
    if not 0 < len(raw) <= 15:
        raise UsageError(f"{name!r} is no interface name: they have 1 to 15 bytes")
    room = bytearray(raw.ljust(16, b"\0") + payload.ljust(IFREQ - 16, b"\0"))
    with process.socket(pysocket.AF_INET, pysocket.SOCK_DGRAM) as sock:
        process.syscall("ioctl", sock.fileno(), number, room)
    return bytes(room[16:])


def name_of(process: Process, index: int) -> str:
    """The name of the interface with an index.  Raises OSError when there is none."""
    room = bytearray(struct.pack("=16xi", index).ljust(IFREQ, b"\0"))
    with process.socket(pysocket.AF_INET, pysocket.SOCK_DGRAM) as sock:
        process.syscall("ioctl", sock.fileno(), SIOCGIFNAME, room)
    return bytes(room[:16]).split(b"\0")[0].decode()


def index_of(process: Process, name: str) -> int:
    """The index of the interface with a name.  Raises OSError when there is none."""
    found: int = struct.unpack_from("=i", request(process, SIOCGIFINDEX, name))[0]
    return found


def is_up(process: Process, name: str) -> bool:
    flags: int = struct.unpack_from("=H", request(process, SIOCGIFFLAGS, name))[0]
    return bool(flags & IFF_UP)


def set_up(process: Process, name: str, up: bool = True) -> None:
    """Like ``ip link set NAME up`` (or down)."""
    (flags,) = struct.unpack_from("=H", request(process, SIOCGIFFLAGS, name))
    wanted = flags | IFF_UP if up else flags & ~IFF_UP
    request(process, SIOCSIFFLAGS, name, struct.pack("=H", wanted))


def add_address(process: Process, index: int, address: str) -> None:
    """Like ``ip address add ADDRESS/LENGTH``; IPv6 without duplicate detection, so usable at once.

    Raises UsageError for what is no address, OSError when the kernel refuses it.
    """
    try:
        interface = ipaddress.ip_interface(address)
    except ValueError as error:
        raise UsageError(
            f"{address!r} is no address with a prefix length, such as 192.0.2.1/24"
        ) from error
    family, flags = pysocket.AF_INET, 0
    if interface.version == 6:
        family, flags = pysocket.AF_INET6, IFA_F_NODAD
    packed = interface.ip.packed
    body = struct.pack("=BBBBi", family, interface.network.prefixlen, flags, 0, index)
    for kind in (IFA_LOCAL, IFA_ADDRESS):
        body += struct.pack("=HH", 4 + len(packed), kind) + packed
    _netlink(process, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body, address)


def _netlink(process: Process, kind: int, flags: int, body: bytes, what: str) -> None:
    """One rtnetlink request that is acknowledged.  Raises OSError with `what` as the filename."""
    flags |= NLM_F_REQUEST | NLM_F_ACK
    message = struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
    with process.socket(pysocket.AF_NETLINK, pysocket.SOCK_RAW, 0) as sock:
        sock.send(message)
        answer = sock.recv(8192)
    (got,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, 16)
    if got == NLMSG_ERROR and code:
        raise OSError(-code, os.strerror(-code), what)
