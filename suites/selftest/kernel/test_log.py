# SPDX-License-Identifier: GPL-2.0
"""The log: records from console text that comes in pieces, failures, and going back in time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from anykernel.kernel.log import Log, LogRecord

BOOT = b"""[    0.000000] Linux version 6.1.192
[    0.001250] IP idents hash table entries: 1024
"""


class Console:
    """The part of an instance that the log reads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.written = b""
        self.lost = 0
        self.life = self

    def said(self) -> bytes:
        return self.written


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
def log(console: Console) -> Log:
    instance: Any = console
    return Log(instance)


def test_records(console: Console, log: Log) -> None:
    console.written = BOOT
    assert list(log) == [
        LogRecord(0.0, None, "Linux version 6.1.192"),
        LogRecord(0.00125, None, "IP idents hash table entries: 1024"),
    ]
    assert log.text() == BOOT.decode()
    assert "IP idents" in log
    assert log[0] in log
    assert "something else" not in log
    assert str(log[1]) == "[    0.001250] IP idents hash table entries: 1024"


def test_levels_and_lines_without_a_time(console: Console, log: Log) -> None:
    console.written = b"<4>[   10.000001] low\n<30>[1.0]daemon\nplain\n\n"
    assert list(log) == [
        LogRecord(10.000001, 4, "low"),
        LogRecord(1.0, 6, "daemon"),
        LogRecord(None, None, "plain"),
        LogRecord(None, None, ""),
    ]


def test_a_line_in_pieces_is_one_record(console: Console, log: Log) -> None:
    for piece in (b"[    1.0", b"00000] ha", b"lf"):
        console.written += piece
        assert len(log) == 0
    assert "half" in log, "text() has it at once"
    console.written += b" a line\n[    2.000000] next\n"
    assert [record.text for record in log] == ["half a line", "next"]


def test_bytes_that_are_no_text(console: Console, log: Log) -> None:
    console.written = b"[    1.000000] \xff\xfe\x00name\n"
    (record,) = log
    assert record.text.endswith("name")


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 f+0x1/0x2",
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "BUG: sleeping function called from invalid context at mm/slab.h:1",
        "Kernel panic - not syncing: Attempted to kill init!",
        "Oops: 0002 [#1] PREEMPT SMP",
        "WARNING: possible circular locking dependency detected",
        "WARNING: suspicious RCU usage",
        "INFO: task kworker/0:1:7 blocked for more than 120 seconds.",
        "UBSAN: array-index-out-of-bounds in net/ipv4/route.c:1:2",
        "unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
        "refcount_t: underflow; use-after-free.",
        "list_del corruption. prev->next should be 1, but was 2",
    ],
)
def test_failures(console: Console, log: Log, line: str) -> None:
    console.written = BOOT + f"[    1.000000] {line}\n".encode()
    assert [record.text for record in log.failures()] == [line]


@pytest.mark.parametrize(
    "line",
    [
        "Warning: unable to open an initial console.",
        "TCP: Hash tables configured (established 512 bind 512)",
        "debugfs: Directory 'x' with parent 'y' already present!",
        "IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready",
        "bridge: filtering via arp/ip/ip6tables is no longer available by default.",
        "random: crng init done",
    ],
)
def test_what_is_no_failure(console: Console, log: Log, line: str) -> None:
    console.written = f"[    1.000000] {line}\n".encode()
    assert log.failures() == []


def test_going_back(console: Console, log: Log) -> None:
    console.written = BOOT + b"[    1.000000] unfini"
    saved, before = log.save(), console.written
    console.written += b"shed\n[    2.000000] WARNING: x\n"
    assert len(log) == 4 and log.failures()
    console.written = before
    log.load(saved)
    assert len(log) == 2 and not log.failures()
    console.written += b"te\n"
    assert log[-1].text == "unfinite"


def test_it_is_a_sequence(console: Console, log: Log) -> None:
    console.written = BOOT
    assert [record.text for record in log[1:]] == ["IP idents hash table entries: 1024"]
    assert len(log[:]) == len(log) == 2
    assert repr(log) == "<kernel log of 2 lines>"
    with pytest.raises(IndexError):
        log[2]
