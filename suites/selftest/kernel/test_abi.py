# SPDX-License-Identifier: GPL-2.0
"""Structs of the ABI: socket addresses both ways, control messages, times, file status."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.kernel import abi

INTERFACES = {"lo": 1, "eth0": 2}


def index(name: str) -> int:
    return INTERFACES[name]


def name(number: int) -> str:
    return next(key for key, value in INTERFACES.items() if value == number)


ADDRESSES: list[tuple[int, Any]] = [
    (socket.AF_INET, ("192.0.2.1", 80)),
    (socket.AF_INET, ("255.255.255.255", 65535)),
    (socket.AF_INET6, ("2001:db8::1", 443, 5, 0)),
    (socket.AF_INET6, ("fe80::1", 0, 0, 2)),
    (socket.AF_UNIX, "/tmp/socket"),
    (socket.AF_UNIX, "/" + "x" * 107),
    (socket.AF_UNIX, b"\0abstract\0name"),
    (socket.AF_NETLINK, (17, 0x8001)),
    (socket.AF_PACKET, ("eth0", 0x0806, 0, 1, b"\x02\0\0\0\0\1")),
    (socket.AF_CAN, ("eth0",)),
    (socket.AF_CAN, ("",)),
    (socket.AF_VSOCK, (socket.VMADDR_CID_HOST, 1024)),
    (socket.AF_VSOCK, (socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)),
    (socket.AF_PPPOX, (0x1234, "02:00:00:00:00:01", "eth0")),
    (socket.AF_TIPC, (socket.TIPC_ADDR_NAMESEQ, 18888, 1, 10, socket.TIPC_NODE_SCOPE)),
    (socket.AF_TIPC, (socket.TIPC_ADDR_ID, 0x1001001, 7, 0, socket.TIPC_CLUSTER_SCOPE)),
]


@pytest.mark.parametrize(("family", "address"), ADDRESSES)
def test_there_and_back(family: int, address: Any) -> None:
    raw = abi.pack_address(family, address, index)
    assert struct.unpack_from("=H", raw) == (family,)
    assert len(raw) <= abi.SOCKADDR_STORAGE
    assert abi.unpack_address(raw, name) == address


@pytest.mark.parametrize(
    ("family", "given_as", "meant"),
    [
        (socket.AF_INET, ("", 1), ("0.0.0.0", 1)),
        (socket.AF_INET, ("<broadcast>", 1), ("255.255.255.255", 1)),
        (socket.AF_INET, ("localhost", 1), ("127.0.0.1", 1)),
        (socket.AF_INET6, ("localhost", 1), ("::1", 1, 0, 0)),
        (socket.AF_INET6, ("::1", 1), ("::1", 1, 0, 0)),
        (socket.AF_INET6, ("::1", 1, 7), ("::1", 1, 7, 0)),
        (socket.AF_INET6, ("fe80::1%eth0", 1), ("fe80::1", 1, 0, 2)),
        (socket.AF_INET6, ("fe80::1%9", 1), ("fe80::1", 1, 0, 9)),
        (socket.AF_TIPC, (2, 18888, 5, 0), (2, 18888, 5, 0, socket.TIPC_CLUSTER_SCOPE)),
        (socket.AF_PACKET, ("eth0", 3), ("eth0", 3, 0, 0, b"")),
        (socket.AF_PACKET, (2, 3, 4), ("eth0", 3, 4, 0, b"")),
        (socket.AF_PACKET, ("", 3), ("", 3, 0, 0, b"")),
    ],
)
def test_short_forms(family: int, given_as: Any, meant: Any) -> None:
    assert abi.unpack_address(abi.pack_address(family, given_as, index), name) == meant


@pytest.mark.parametrize(
    ("family", "address", "error"),
    [
        (socket.AF_INET, ("example.org", 80), UsageError),
        (socket.AF_INET, ("::1", 80), UsageError),
        (socket.AF_INET6, ("1.2.3.4", 80), UsageError),
        (socket.AF_INET, ("1.2.3.4", 65536), OverflowError),
        (socket.AF_INET, ("1.2.3.4", -1), OverflowError),
        (socket.AF_INET, "1.2.3.4", TypeError),
        (socket.AF_INET, ("1.2.3.4",), (TypeError, ValueError)),
        (socket.AF_UNIX, "x" * 109, OSError),
        (socket.AF_DECnet, (1, 2), TypeError),
        (socket.AF_CAN, ("eth0", 1), TypeError),
        (socket.AF_VSOCK, (1, 2, 3), TypeError),
        (socket.AF_PPPOX, (1, "02:00:00:00:00:01"), TypeError),
        (socket.AF_TIPC, (2, 1, 2), TypeError),
        (socket.AF_ALG, ("hash",), TypeError),
        (socket.AF_ALG, ("hash" * 4, "sha256"), ValueError),
        (socket.AF_ALG, ("hash", "x" * 64), ValueError),
    ],
)
def test_what_is_no_address(family: int, address: Any, error: Any) -> None:
    with pytest.raises(error):
        abi.pack_address(family, address, index)


@given(raw=st.binary(max_size=140))
def test_whatever_the_kernel_says_is_unpacked_or_refused_cleanly(raw: bytes) -> None:
    try:
        abi.unpack_address(raw, lambda number: f"if{number}")
    except (struct.error, ValueError, OSError):
        assert len(raw) < 28


MESSAGES = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 300), st.binary(max_size=40)), max_size=5
)


@given(messages=MESSAGES)
def test_control_messages_there_and_back(messages: list[tuple[int, int, bytes]]) -> None:
    packed = abi.pack_control(messages)
    assert len(packed) == sum(socket.CMSG_SPACE(len(data)) for _, _, data in messages)
    assert abi.unpack_control(packed) == messages


@given(raw=st.binary(max_size=200))
def test_any_control_buffer_comes_to_an_end(raw: bytes) -> None:
    for _, _, data in abi.unpack_control(raw):
        assert len(data) <= len(raw)


def test_stat_is_the_machines(tmp_path: Path) -> None:
    import ctypes

    file = tmp_path / "file"
    file.write_bytes(b"x" * 5000)
    os.utime(file, ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    raw = ctypes.create_string_buffer(abi.STAT.size)
    libc = ctypes.CDLL(None)
    assert libc.syscall(4, os.fsencode(file), raw) == 0
    found, wanted = abi.unpack_stat(bytes(raw.raw)), os.stat(file)
    for field in found._fields:
        assert getattr(found, field) == pytest.approx(getattr(wanted, field)), field


@pytest.mark.parametrize(
    ("seconds", "parts"), [(0, (0, 0)), (1.5, (1, 500_000_000)), (0.9999999999, (1, 0))]
)
def test_timespec(seconds: float, parts: tuple[int, int]) -> None:
    assert struct.unpack("=qq", abi.pack_timespec(seconds)) == parts
