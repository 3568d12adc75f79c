# SPDX-License-Identifier: GPL-2.0
"""An exception out of a signal's handler, as Ctrl-C is, at each place where Python has one."""

from __future__ import annotations

import dis
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import anykernel.host
from anykernel.host import process
from anykernel.kernel import Kernel
from anykernel.net import Network

HOST = str(Path(anykernel.host.__file__).parent)
"""The code that is interrupted."""

LOOKS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "RESUME", "JUMP_BACKWARD"}
"""At the end of these instructions CPython looks for signals (ceval.c)."""


class Interruption(Exception):
    """As KeyboardInterrupt."""


@cache
def instructions(code: CodeType) -> dict[int, tuple[str, int]]:
    """By its offset: an instruction's name, and where an exception in it goes on."""
    found = dis.Bytecode(code)
    handlers = dict.fromkeys((one.offset for one in found), -1)
    for entry in found.exception_entries:  # type: ignore[attr-defined]
        handlers |= {at: entry.target for at in handlers if entry.start <= at < entry.end}
    return {one.offset: (one.opname, handlers[one.offset]) for one in found}


def interrupted_at(place: int, work: Callable[[], object]) -> bool:
    """Does `work`, and raises Interruption at the place of that number.  False if it has fewer."""
    passed = 0
    before: dict[FrameType, tuple[str, int]] = {}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.startswith(HOST):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            opname, handler = before.get(frame, ("", 0))
            before[frame] = instructions(frame.f_code)[frame.f_lasti]
            # Where a with block ends, this exception would come too late for it.
            looked = opname in LOOKS and handler == before[frame][1]
            passed += looked
            if looked and passed == place:
                sys.settrace(None)
                raise Interruption
        return trace

    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except Interruption:
        return True
    finally:
        sys.settrace(outer)
    return False


def at_each_place(work: Callable[[], object], check: Callable[[], object]) -> int:
    """How many there are."""
    place = 1
    while interrupted_at(place, work):
        check()
        place += 1
    return place - 1


def test_a_call_of_a_kernel(kernel: Kernel) -> None:
    kernel.write_text("/tmp/file", "text")

    def check() -> None:
        assert kernel.read_text("/tmp/file") == "text"

    assert at_each_place(lambda: kernel.read_text("/tmp/file"), check) > 10


def test_a_call_that_is_waited_for(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lasts longer than Python waits at once."""
    monkeypatch.setattr(process, "SLICE_NS", 1)
    random = kernel.os.open("/dev/urandom", os.O_RDONLY)

    def check() -> None:
        assert len(kernel.os.read(random, 1 << 20)) == 1 << 20

    assert at_each_place(check, check) > 10


def test_a_restore(kernel: Kernel) -> None:
    def work() -> None:
        kernel.write_text("/tmp/dirt", "dirt")
        kernel.restore(saved)

    saved = kernel.snapshot()

    def check() -> None:
        kernel.restore(saved)
        assert not kernel.os.exists("/tmp/dirt")

    assert at_each_place(work, check) > 10


def test_a_call_that_waits_for_the_network(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.link(a, b, delay="1ms", addresses=("10.0.0.1/24", "10.0.0.2/24"))
    receiver = b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", 5000))

    def work() -> None:
        sender.sendto(b"frame", ("10.0.0.2", 5000))
        assert receiver.recv(100) == b"frame"

    def check() -> None:
        network.run(0.01)
        receiver.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                assert receiver.recv(100) == b"frame"
        receiver.setblocking(True)

    assert at_each_place(work, check) > 10


def test_who_waits_for_a_call_leaves_it_alone(network: Network) -> None:
    a, b = network.node("a"), network.node("b")
    network.link(a, b, addresses=("10.0.0.1/24", "10.0.0.2/24"))
    receiver = b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("0.0.0.0", 5000))
    call = b.submit(receiver.recv, 100)

    def waits() -> None:
        with suppress(TimeoutError):
            call.result(0.01)

    def check() -> None:
        assert not call.done()

    assert at_each_place(waits, check) > 10
    with a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"frame", ("10.0.0.2", 5000))
        assert call.result() == b"frame"
