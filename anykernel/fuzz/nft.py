# SPDX-License-Identifier: GPL-2.0
"""nf_tables by hand: messages to the kernel's nfnetlink, expression by expression."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

NETLINK_NETFILTER, SUBSYSTEM = 12, 10
BEGIN, END = 0x10, 0x11
NEWTABLE, NEWCHAIN, NEWRULE, GETRULE, NEWSET, NEWELEMENTS = 0, 3, 6, 7, 9, 12
REQUEST, ACK, CREATE, APPEND, DUMP, NESTED = 1, 4, 0x400, 0x800, 0x300, 0x8000
ACCEPT, DROP, CONTINUE, JUMP, GOTO, RETURN = 1, 0, -1, -3, -4, -5
NETWORK, TRANSPORT = 1, 2
INTERVAL, MAP = 4, 8
VERDICTS = 0xFFFFFF00
TABLE = b"t\0"


def attr(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack(">I", value & 0xFFFFFFFF))


def text(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def nest(kind: int, *parts: bytes) -> bytes:
    return attr(kind | NESTED, b"".join(parts))


def attrs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes, parsed."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[length + -length % 4 :]


# Expressions


def expression(name: str, *parts: bytes) -> bytes:
    return nest(1, text(1, name), nest(2, *parts))


def value(kind: int, data: bytes) -> bytes:
    return nest(kind, attr(1, data))


def payload(base: int, offset: int, length: int, register: int = 1) -> bytes:
    """Loads bytes of a header."""
    return expression("payload", u32(1, register), u32(2, base), u32(3, offset), u32(4, length))


def equal(data: bytes) -> bytes:
    return expression("cmp", u32(1, 1), u32(2, 0), value(3, data))


def unequal(data: bytes) -> bytes:
    return expression("cmp", u32(1, 1), u32(2, 1), value(3, data))


def masked(mask: bytes) -> bytes:
    size = len(mask)
    parts = u32(1, 1), u32(2, 1), u32(3, size), value(4, mask), value(5, bytes(size))
    return expression("bitwise", *parts)


def within(first: bytes, last: bytes) -> bytes:
    return expression("range", u32(1, 1), u32(2, 0), value(3, first), value(4, last))


def counter() -> bytes:
    return expression("counter")


def lookup(name: str, *, verdict: bool = False, inverted: bool = False) -> bytes:
    parts = [text(1, name), u32(2, 1)]
    parts += [u32(3, 0)] if verdict else []
    return expression("lookup", *parts, u32(5, int(inverted)))


def verdict_data(kind: int, code: int, chain: str = "") -> bytes:
    return nest(kind, nest(2, u32(1, code), *([text(2, chain)] if chain else [])))


def verdict(code: int, chain: str = "") -> bytes:
    return expression("immediate", u32(1, 0), verdict_data(2, code, chain))


def load(register: int, data: bytes) -> bytes:
    return expression("immediate", u32(1, register), value(2, data))


class Batch:
    """One transaction on the table `t` of IPv4, which it makes."""

    def __init__(self, kernel: Kernel) -> None:
        self._socket = kernel.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._messages: list[bytes] = []
        self._sets = 0
        self._add(NEWTABLE, attr(1, TABLE))

    def _add(self, kind: int, body: bytes, flags: int = CREATE | APPEND) -> None:
        header = struct.pack("=BBH", socket.AF_INET, 0, 0)
        message = SUBSYSTEM << 8 | kind, REQUEST | ACK | flags, header + body
        self._messages.append(self._pack(*message))

    @staticmethod
    def _pack(kind: int, flags: int, body: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body

    def chain(self, name: str, hook: int | None = None, priority: int = 0, kind: str = "") -> None:
        """A chain; with a hook (0: prerouting, 1: input, 4: postrouting), a base chain."""
        body = attr(1, TABLE) + text(3, name)
        if hook is not None:
            body += nest(4, u32(1, hook), u32(2, priority)) + text(7, kind or "filter")
        self._add(NEWCHAIN, body)

    def rule(self, chain: str, *expressions: bytes) -> None:
        """Appended to the chain."""
        self._add(NEWRULE, attr(1, TABLE) + text(2, chain) + nest(4, *expressions))

    def set(
        self, size: int, elements: Iterable[bytes], *, interval: bool = False, maps: bool = False
    ) -> str:
        """A set of keys of `size` bytes, or a map from them to verdicts; gives its name."""
        self._sets += 1
        name = f"s{self._sets}"
        flags = INTERVAL * interval | MAP * maps
        body = attr(1, TABLE) + text(2, name) + u32(3, flags) + u32(4, 0) + u32(5, size)
        body += u32(6, VERDICTS) if maps else b""
        self._add(NEWSET, body + u32(10, self._sets))
        self._add(NEWELEMENTS, attr(1, TABLE) + text(2, name) + nest(3, *elements))
        return name

    def commit(self) -> None:
        """Raises OSError of the first message that is refused."""
        mark = struct.pack("=BBH", 0, 0, SUBSYSTEM << 8)
        framed = [self._pack(BEGIN, REQUEST, mark), *self._messages]
        self._socket.sendto(b"".join([*framed, self._pack(END, REQUEST, mark)]), (0, 0))
        for _ in self._messages:
            (error,) = struct.unpack_from("=i", self._socket.recv(1 << 16), 16)
            if error:
                raise OSError(-error, f"nf_tables refuses: error {-error}")

    def counters(self, chain: str) -> list[tuple[int, int]]:
        """Packets and bytes of each rule's counter."""
        body = struct.pack("=BBH", socket.AF_INET, 0, 0) + attr(1, TABLE) + text(2, chain)
        request = SUBSYSTEM << 8 | GETRULE, REQUEST | DUMP, body
        self._socket.sendto(self._pack(*request), (0, 0))
        found: list[tuple[int, int]] = []
        while True:
            data = self._socket.recv(1 << 18)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == 3:  # NLMSG_DONE
                    return found
                rule = dict(attrs(data[20:length]))
                found += [counts for _, one in attrs(rule[4]) for counts in _counts(one)]
                data = data[length + -length % 4 :]


def _counts(one: bytes) -> Iterator[tuple[int, int]]:
    parsed = dict(attrs(one))
    if parsed[1] == b"counter\0":
        values = dict(attrs(parsed[2]))
        yield int.from_bytes(values[2], "big"), int.from_bytes(values[1], "big")


def element(key: bytes, *, end: bool = False, code: int | None = None, chain: str = "") -> bytes:
    """Of a set or map; `end`: the first key that is no longer in the interval."""
    parts = [value(1, key)]
    if code is not None:
        parts.append(verdict_data(2, code, chain))
    if end:
        parts.append(u32(3, 1))
    return nest(1, *parts)
