# SPDX-License-Identifier: GPL-2.0
"""Control messages of sendmsg() and recvmsg() as values: errors, time stamps, packet information.

What sends one gives a (level, type, data) tuple for sendmsg(); what reads one looks through the
list of such tuples that recvmsg() returns.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from anykernel.kernel import abi

Message = tuple[int, int, bytes]
"""(level, type, data)."""
SOL_SOCKET, SOL_IP, SOL_IPV6, SOL_UDP = 1, 0, 41, 17
SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING, SO_TXTIME = 29, 35, 37, 61
SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW, SO_TIMESTAMPING_NEW = 63, 64, 65
SCM_RIGHTS, SCM_CREDENTIALS = 1, 2
IP_TOS, IP_TTL, IP_PKTINFO, IP_RECVERR = 1, 2, 8, 11
IPV6_PKTINFO, IPV6_HOPLIMIT, IPV6_RECVERR, IPV6_TCLASS = 50, 52, 25, 67
UDP_SEGMENT, UDP_GRO = 103, 104
EXTENDED = struct.Struct("=IBBBxII")
ORIGINS = {0: "none", 1: "local", 2: "icmp", 3: "icmp6", 4: "timestamping", 5: "zerocopy",
           6: "txtime"}  # fmt: skip
STAMPS = {0: "sent", 1: "scheduled", 2: "acknowledged", 3: "completed"}
"""ee_info of a time stamp: SCM_TSTAMP_SND ... (include/uapi/linux/errqueue.h)."""


class ExtendedError(NamedTuple):
    """struct sock_extended_err, from an error queue (recvmsg() with MSG_ERRQUEUE)."""

    errno: int
    origin: str
    """local, icmp, icmp6, timestamping, zerocopy, txtime or none."""
    type: int
    code: int
    info: int
    """By origin: the MTU of a path; of zerocopy the first send() that is done."""
    data: int
    """By origin: of time stamps the number of the packet or byte; of zerocopy the last send()."""
    offender: Any
    """Who sent the ICMP error, an address as recvmsg() has it, or None."""

    @property
    def name(self) -> str:
        """The error's name: ECONNREFUSED."""
        return errno.errorcode.get(self.errno, str(self.errno))

    @property
    def stamp(self) -> str | None:
        """Of origin timestamping, what the moment is of: sent, scheduled, acknowledged."""
        return STAMPS.get(self.info) if self.origin == "timestamping" else None


class Timestamps(NamedTuple):
    """When a packet was received or sent, in ns of the kernel's clock of the time of day; 0: that
    wasn't noted."""

    software: int
    hardware: int
    """As the device has it (SOF_TIMESTAMPING_RAW_HARDWARE)."""


class PacketInfo(NamedTuple):
    """struct in_pktinfo or in6_pktinfo."""

    ifindex: int
    destination: str
    local: str
    """IPv4 only: the address of this machine; else as the destination."""


def extended_errors(messages: Iterable[Message]) -> list[ExtendedError]:
    """All of IP_RECVERR and IPV6_RECVERR, those of time stamps and zero copy too."""
    found = []
    for level, kind, data in messages:
        if (level, kind) in ((SOL_IP, IP_RECVERR), (SOL_IPV6, IPV6_RECVERR)) and len(data) >= 16:
            number, origin, icmp, code, info, more = EXTENDED.unpack_from(data)
            behind = data[EXTENDED.size :]
            known = len(behind) >= 16 and any(behind[:2])  # AF_UNSPEC: nobody's
            offender = abi.unpack_address(behind) if known else None
            name = ORIGINS.get(origin, str(origin))
            found.append(ExtendedError(number, name, icmp, code, info, more, offender))
    return found


def timestamps(messages: Iterable[Message]) -> Timestamps | None:
    """Of SO_TIMESTAMP, SO_TIMESTAMPNS or SO_TIMESTAMPING; None where there is none."""
    for level, kind, data in messages:
        if level != SOL_SOCKET:
            continue
        if kind in (SO_TIMESTAMPING, SO_TIMESTAMPING_NEW):
            software, _, hardware = (_ns(data, 16 * part) for part in range(3))
            return Timestamps(software, hardware)
        if kind in (SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW):
            return Timestamps(_ns(data), 0)
        if kind in (SO_TIMESTAMP, SO_TIMESTAMP_NEW):
            seconds, microseconds = struct.unpack_from("=qq", data)
            return Timestamps(seconds * 10**9 + microseconds * 1000, 0)
    return None


def _ns(data: bytes, at: int = 0) -> int:
    seconds, nanoseconds = struct.unpack_from("=qq", data, at)
    return int(seconds * 10**9 + nanoseconds)


def packet_info(messages: Iterable[Message]) -> PacketInfo | None:
    """Of IP_PKTINFO or IPV6_RECVPKTINFO; None where there is none."""
    for level, kind, data in messages:
        if (level, kind) == (SOL_IP, IP_PKTINFO):
            index, local, to = struct.unpack_from("=i4s4s", data)
            return PacketInfo(index, _text(to), _text(local))
        if (level, kind) == (SOL_IPV6, IPV6_PKTINFO):
            to, index = struct.unpack_from("=16si", data)
            return PacketInfo(index, _text(to), _text(to))
    return None


def number(messages: Iterable[Message], level: int, kind: int) -> int | None:
    """The number in a message of a kind: a TTL, a traffic class, UDP_GRO's segment size ...; None
    where there is none."""
    for one_level, one_kind, data in messages:
        if (one_level, one_kind) == (level, kind):
            return int.from_bytes(data[:4], "little", signed=True)
    return None


def _text(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))


# For sendmsg()


def from_address(source: str, ifindex: int = 0) -> Message:
    """Where a packet comes from: IP_PKTINFO or IPV6_PKTINFO."""
    address = ipaddress.ip_address(source)
    if address.version == 4:
        return SOL_IP, IP_PKTINFO, struct.pack("=i4s4x", ifindex, address.packed)
    return SOL_IPV6, IPV6_PKTINFO, struct.pack("=16si", address.packed, ifindex)


def ttl(value: int, version: int = 4) -> Message:
    """A packet's TTL, of IPv6 its hop limit."""
    level, kind = (SOL_IP, IP_TTL) if version == 4 else (SOL_IPV6, IPV6_HOPLIMIT)
    return level, kind, struct.pack("=i", value)


def tos(value: int, version: int = 4) -> Message:
    """A packet's TOS (DSCP and ECN), of IPv6 its traffic class."""
    level, kind = (SOL_IP, IP_TOS) if version == 4 else (SOL_IPV6, IPV6_TCLASS)
    return level, kind, struct.pack("=i", value)


def segments(size: int) -> Message:
    """UDP_SEGMENT: the data is sent as datagrams of `size` bytes."""
    return SOL_UDP, UDP_SEGMENT, struct.pack("=H", size)


def transmit_at(time_ns: int) -> Message:
    """SO_TXTIME: when it is to be sent, in ns of the socket's clock."""
    return SOL_SOCKET, SO_TXTIME, struct.pack("=Q", time_ns)


def rights(*descriptors: int) -> Message:
    """Descriptors, through an AF_UNIX socket."""
    return SOL_SOCKET, SCM_RIGHTS, struct.pack(f"={len(descriptors)}i", *descriptors)


def credentials(pid: int, uid: int, gid: int) -> Message:
    """struct ucred, through an AF_UNIX socket."""
    return SOL_SOCKET, SCM_CREDENTIALS, struct.pack("=iII", pid, uid, gid)
