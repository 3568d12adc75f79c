# SPDX-License-Identifier: GPL-2.0
"""Netlink messages as bytes, for what pyroute2 has no words for."""

from __future__ import annotations

import socket
import struct
from typing import Any

from anykernel.kernel import Process
from anykernel.kernel.rtnl import CREATE, NEWLINK, Rtnl
from anykernel.kernel.rtnl import attribute as attribute

NESTED = 0x8000
NEWQDISC, NEWCLASS, NEWFILTER = 36, 40, 44
ROOT, INGRESS_BLOCK, EGRESS_BLOCK, CLSACT = 0xFFFFFFFF, 0xFFFFFFF2, 0xFFFFFFF3, 0xFFFF0000
GENL_ID_CTRL, GETFAMILY, FAMILY_ID, FAMILY_NAME = 0x10, 3, 1, 2
REQUEST, ACK = 1, 4


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=Q", value))


def nest(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def link_add(process: Process, kind: str, name: str, *data: bytes, over: Any = None) -> int:
    """`ip link add NAME [link OVER] type KIND` with IFLA_INFO_DATA `data`, up; its ifindex."""
    info = text(1, kind) + (nest(2, *data) if data else b"")
    body = bytes(16) + text(3, name) + (u32(5, process.ifindex(over)) if over else b"")
    with Rtnl(process) as rtnl:
        rtnl.request(NEWLINK, CREATE, body + nest(18, info))
        index = process.ifindex(name)
        rtnl.up(index)
    return index


def tc(
    process: Process, what: int, device: Any, kind: str, *options: bytes,
    parent: int = ROOT, handle: int = 0x10000, info: int = 0,
) -> None:  # fmt: skip
    """`tc qdisc|class|filter add dev DEVICE ... KIND` with TCA_OPTIONS `options`."""
    body = struct.pack("=BxHiIII", 0, 0, process.ifindex(device), handle, parent, info)
    body += text(1, kind) + (attribute(2, b"".join(options)) if options else b"")
    with Rtnl(process) as rtnl:
        rtnl.request(what, CREATE | 0x200, body)


def block(process: Process, device: Any) -> None:
    """`tc qdisc add dev DEVICE clsact`."""
    tc(process, NEWQDISC, device, "clsact", parent=0xFFFFFFF1, handle=CLSACT)


class Genl:
    """A generic netlink family, by its name."""

    def __init__(self, process: Process, family: str, version: int = 1) -> None:
        self._socket = process.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
        self._version = version
        self._id = GENL_ID_CTRL
        (answer,) = self.ask(GETFAMILY, text(FAMILY_NAME, family))
        self._id = struct.unpack("=H", attributes(answer)[FAMILY_ID])[0]

    def __enter__(self) -> Genl:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def ask(self, command: int, *parts: bytes, header: bytes = b"") -> list[bytes]:
        """What is answered, without headers; raises OSError."""
        body = struct.pack("=BBH", command, self._version, 0) + header + b"".join(parts)
        head = struct.pack("=IHHII", 16 + len(body), self._id, REQUEST | ACK, 1, 0)
        self._socket.send(head + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 16)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind == 2:
                    number = -struct.unpack_from("=i", data, 16)[0]
                    if number:
                        raise OSError(number, f"generic netlink command {command}")
                    return found
                found.append(data[20 + len(header) : size])
                data = data[size + -size % 4 :]


def attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:size]
        data = data[size + -size % 4 :]
    return found
