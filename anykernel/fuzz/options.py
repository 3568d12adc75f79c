# SPDX-License-Identifier: GPL-2.0
"""Bytes of the options that headers carry: TCP, IPv4, IPv6 extension headers, neighbour discovery.

All are plain functions to bytes, to be joined: ``Tcp(options=mss(1460) + sack_permitted())``.
"""

from __future__ import annotations

import struct

NOP = b"\x01"
END = b"\0"


def option(kind: int, content: bytes = b"", *, length: int | None = None) -> bytes:
    """A TCP or IPv4 option; length counts kind and itself, and is computed unless given."""
    return bytes((kind, len(content) + 2 if length is None else length)) + content


# TCP: RFC 9293, 7323, 2018, 2385, 7413


def mss(size: int) -> bytes:
    return option(2, size.to_bytes(2))


def window_scale(shift: int) -> bytes:
    return option(3, bytes((shift,)))


def sack_permitted() -> bytes:
    return option(4)


def sack(*blocks: tuple[int, int]) -> bytes:
    """Selective acknowledgements: left and right edges, as absolute sequence numbers."""
    return option(5, b"".join(struct.pack("!II", *block) for block in blocks))


def timestamps(value: int, echo: int = 0) -> bytes:
    return option(8, struct.pack("!II", value, echo))


def md5(digest: bytes) -> bytes:
    """16 bytes of signature."""
    return option(19, digest)


def fast_open(cookie: bytes = b"") -> bytes:
    """0 (a request) or 4 to 16 bytes of cookie."""
    return option(34, cookie)


# IPv4: RFC 791, 2113


def record_route(slots: int, *, pointer: int = 4) -> bytes:
    """Room for `slots` addresses; pointer counts from 1 and says where the next one goes."""
    return option(7, bytes((pointer,)) + bytes(4 * slots))


def router_alert() -> bytes:
    return option(148, b"\0\0")


# IPv6: RFC 8200


def tlv(kind: int, content: bytes = b"", *, length: int | None = None) -> bytes:
    """An option of a hop-by-hop or destination header; length doesn't count kind and itself."""
    return bytes((kind, len(content) if length is None else length)) + content


def padded(content: bytes) -> bytes:
    """What a header of options holds behind its first two bytes: filled up to 8n - 2 bytes."""
    missing = -(len(content) + 2) % 8
    if missing < 2:
        return content + bytes(missing)
    return content + tlv(1, bytes(missing - 2))


def fragment(offset: int, *, more: bool, ident: int) -> bytes:
    """A fragment header's content; offset in bytes, a multiple of 8."""
    return struct.pack("!HI", offset | more, ident)


def routing(kind: int, segments_left: int, data: bytes = bytes(4)) -> bytes:
    """A routing header's content; data has 8n + 4 bytes."""
    return bytes((kind, segments_left)) + data


# Neighbour discovery: RFC 4861


def nd_link_address(mac: bytes, *, target: bool = False) -> bytes:
    return bytes((2 if target else 1, 1)) + mac


def nd_mtu(size: int) -> bytes:
    return struct.pack("!BBHI", 5, 1, 0, size)


def nd_prefix(
    prefix: bytes, length: int = 64, *, valid: int = 3600, preferred: int = 1800
) -> bytes:
    """Prefix information, on-link and autonomous; lifetimes in seconds."""
    return struct.pack("!BBBBIII", 3, 4, length, 0xC0, valid, preferred, 0) + prefix
