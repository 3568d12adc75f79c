# SPDX-License-Identifier: GPL-2.0
"""Addresses of CAN, vsock, PPPoE, TIPC and AF_ALG sockets: tuples, and struct sockaddr_can, _vm,
_pppox, _tipc and _alg."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

AF_PPPOX, AF_CAN, AF_TIPC, AF_ALG, AF_VSOCK = 24, 29, 30, 38, 40
CAN_ISOTP, CAN_J1939 = 6, 7
PX_PROTO_OE = 0
CAN = struct.Struct("=H2xi16s")
CAN_TP, CAN_NAMED = struct.Struct("=II8x"), struct.Struct("=QIB3x")
VSOCK = struct.Struct("=HHIIB3x")
PPPOE = struct.Struct("=HI2s6s16s")
TIPC = struct.Struct("=HBbIII")
TIPC_NAME, TIPC_ID = 2, 3
TIPC_CLUSTER = 2
ALG = struct.Struct("=H14sII64s")
FAMILIES = (AF_PPPOX, AF_CAN, AF_TIPC, AF_ALG, AF_VSOCK)

Index = Callable[[str], int] | None
Name = Callable[[int], str] | None


def pack(family: int, address: tuple[Any, ...], ifindex: Index) -> bytes:
    """A struct sockaddr.

    AF_CAN as Python's socket module has it: (interface,), of ISO-TP (interface, rx id, tx id), of
    J1939 (interface, name, pgn, address).  AF_VSOCK: (cid, port).  AF_PPPOX, PPPoE: (session,
    the peer's MAC address, interface).  AF_TIPC and AF_ALG as Python's: (kind, v1, v2, v3[,
    scope]) and (type, name[, features[, mask]]).  Raises TypeError for another shape,
    ValueError for a name that is too long.
    """
    if family == AF_VSOCK and len(address) == 2:
        cid, port = address
        return VSOCK.pack(family, 0, port & 0xFFFFFFFF, cid & 0xFFFFFFFF, 0)
    if family == AF_CAN and len(address) in (1, 3, 4):
        interface, *rest = address
        body = (b"", CAN_TP, CAN_NAMED)[(1, 3, 4).index(len(address))]
        packed = body.pack(*rest) if isinstance(body, struct.Struct) else bytes(16)
        return CAN.pack(family, _index(interface, ifindex), packed)
    if family == AF_PPPOX and len(address) == 3:
        session, mac, interface = address
        raw = mac if isinstance(mac, bytes) else bytes.fromhex(mac.replace(":", " "))
        number = session.to_bytes(2, "big")
        return PPPOE.pack(family, PX_PROTO_OE, number, raw, interface.encode())
    if family == AF_TIPC and len(address) in (4, 5):
        kind, first, second, third = address[:4]
        scope = address[4] if len(address) == 5 else TIPC_CLUSTER
        if kind == TIPC_ID:  # Python has the node first, the structure the socket's number
            first, second = second, first
        return TIPC.pack(family, kind, scope, first, second, third)
    if family == AF_ALG and len(address) in (2, 3, 4):
        kind, name, features, mask = (*address, 0, 0)[:4]
        if len(kind) >= 14 or len(name) >= 64:
            raise ValueError(f"AF_ALG type or name too long: {kind!r}, {name!r}")
        return ALG.pack(family, kind.encode(), features, mask, name.encode())
    raise TypeError(f"no address of family {family}: {address!r}")


def unpack(raw: bytes, ifname: Name, protocol: int) -> Any:
    """As pack() takes it; bytes for what is shorter, or of another protocol.  protocol: that of
    the socket, which says what an address of CAN is."""
    family = int.from_bytes(raw[:2], "little")
    if family == AF_VSOCK and len(raw) >= VSOCK.size:
        _, _, port, cid, _ = VSOCK.unpack_from(raw)
        return cid, port
    if family == AF_CAN and len(raw) >= 8:
        _, index, rest = CAN.unpack_from(raw.ljust(CAN.size, b"\0"))
        name = ifname(index) if index and ifname is not None else ""
        if protocol == CAN_ISOTP:
            return name, *CAN_TP.unpack(rest)
        return (name, *CAN_NAMED.unpack(rest)) if protocol == CAN_J1939 else (name,)
    if family == AF_TIPC and len(raw) >= TIPC.size:
        _, tipc, scope, first, second, third = TIPC.unpack_from(raw)
        if tipc == TIPC_ID:
            return tipc, second, first, 0, scope
        return tipc, first, second, third, scope
    if family == AF_PPPOX and len(raw) >= PPPOE.size:
        _, kind, session, mac, interface = PPPOE.unpack_from(raw)
        if kind == PX_PROTO_OE:
            name = interface.split(b"\0")[0].decode(errors="replace")
            return int.from_bytes(session, "big"), mac.hex(":"), name
    return raw


def _index(interface: Any, ifindex: Index) -> int:
    if isinstance(interface, int):
        return interface
    return ifindex(interface) if interface and ifindex is not None else 0
