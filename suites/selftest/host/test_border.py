# SPDX-License-Identifier: GPL-2.0
"""Nothing that a kernel or a hostile host can write is believed: always an error that says what is
wrong, never a hang, and never the end of Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from anykernel.errors import BorderError, HostDied, KernelCrash
from anykernel.host import Host, Instance, process, watch
from anykernel.host.compiled import client
from suites.selftest.host import hostile
from suites.selftest.host.conftest import HostFactory
from suites.selftest.host.fake import Fake

C = client()[2]
FAR = 1 << 63


def fuzzed(what: str, first: int, count: int) -> str:
    """Runs seeds in a process of their own.  What should never happen to it is a failure."""
    argv = [sys.executable, "-X", "faulthandler", "-m", "suites.selftest.host.hostile"]
    done = subprocess.run(
        [*argv, what, str(first), str(count)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{what} {first} {count}: {done.stdout}{done.stderr}"
    return done.stdout


def test_hosts_that_lie() -> None:
    found = fuzzed("liar", 0, 10 * len(hostile.WAYS))
    assert "BorderError" in found and "HostDied" in found and "result" in found


def test_somebody_else_writes_to_the_memory() -> None:
    found = fuzzed("poked", 0, 100)
    assert "BorderError" in found and "result" in found


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 5000, 400))
def test_many_more_of_both(first: int) -> None:
    fuzzed("liar", first, 400)
    fuzzed("poked", first, 200)


# One lie at a time, of a host that is honest otherwise.


def captured(host: Host) -> None:
    host.instances[0].captured(clear=False)


def headed(field: str, value: int) -> Callable[[Any, Any], None]:
    return lambda header, kernel: setattr(header, field, value)


def told(field: str, value: int) -> Callable[[Any, Any], None]:
    return lambda header, kernel: setattr(kernel, field, value)


def tampered(frame: bytes) -> Callable[[Host], None]:
    """Changes the first record of the capture ring, and reads it."""

    def use(host: Host) -> None:
        host.instances[0].exchange(0, [bytes(60)])
        at = C.HK_KERNELS_AT + C.HK_CAPTURE_AT
        host.view[at : at + len(frame)] = frame
        host.instances[0].captured(clear=False)

    return use


def frame(time: int = 0, kept: int = 60, length: int = 60, port: int = 0, what: int = 0) -> bytes:
    words = kept, length, port, what
    return time.to_bytes(8, "little") + b"".join(word.to_bytes(4, "little") for word in words)


def nothing(header: Any, kernel: Any) -> None: ...


LIES: dict[str, tuple[Callable[[Any, Any], None], Callable[[Host], object], str]] = {
    "doorbell": (headed("doorbell", 77), lambda h: h.instances[0].run(), "hk_header"),
    "done": (headed("done", 77), lambda h: h.instances[0].run(), "hk_header"),
    "capture_head": (told("capture_head", (1 << 64) - 1), captured, "capture_head"),
    "capture_tail": (told("capture_tail", FAR), captured, "capture_tail"),
    "console_head": (
        told("console_head", (1 << 64) - 1), lambda h: h.instances[0].console(), "console_head",
    ),
    "console goes back": (
        told("console_head", 1), lambda h: h.instances[0].console(), "console_head",
    ),
    "now": (told("now", FAR), lambda h: h.instances[0].now, "now"),
    "warnings": (told("warnings", FAR), lambda h: h.instances[0].warnings, "warnings"),
    "crash": (told("crash", 1), lambda h: h.instances[0].crash, "crash"),
    "crash of no kind": (told("crash", 99), lambda h: h.instances[0].crash, "crash"),
    "crash, then a call": (told("crash", 1), lambda h: h.instances[0].run(), "crash"),
    "image": (told("image_base", 0x1000), lambda h: h.instances[0].crash, "image_base"),
    "kept": (nothing, tampered(frame(kept=0xFFFFFFF0, length=0xFFFFFFF0)), "kept"),
    "kept beyond the head": (nothing, tampered(frame(kept=4000, length=4000)), "kept"),
    "time of a frame": (nothing, tampered(frame(time=FAR)), "a frame"),
    "dev of a frame": (nothing, tampered(frame(port=256)), "a frame"),
    "way of a frame": (nothing, tampered(frame(what=2)), "a frame"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named_and_ends_the_host(start: HostFactory, name: str) -> None:
    write, use, field = LIES[name]
    host = start()
    host.instances[0].console()
    header = host.ffi.cast("struct hk_header *", host.base)
    write(header, host.border.raw(0))
    with pytest.raises(BorderError, match=field) as lie:
        use(host)
    assert field in lie.value.field
    assert "can't be believed any more" in str(lie.value)
    assert not host.alive, "nothing of it is used again"
    with pytest.raises(HostDied):
        host.instances[0].run()
    assert start().instances[0].syscall(Fake.GLOBAL, 1) == 2


def test_counts_of_answers(instance: Instance) -> None:
    from anykernel.host.frames import answers

    def lie(field: str, value: object, should: str) -> BorderError:
        return BorderError(field, value, should)

    def word(number: int) -> bytes:
        return number.to_bytes(4, "little")

    fine = word(2) + word(3) + b"abc\0" + word(0) + word(0)
    assert answers(memoryview(fine), 2, len(fine), lie) == [[b"abc", b""], []]
    bad = [
        (fine, 2, len(fine) - 4), (fine, 1, len(fine)), (fine, 3, len(fine)),
        (word((1 << 32) - 1) * 8, 1, 32), (word(1) + word((1 << 32) - 1), 1, 8), (b"", 1, 0),
    ]  # fmt: skip
    for data, count, size in bad:
        with pytest.raises(BorderError):
            answers(memoryview(data), count, size, lie)


def way(name: str, turn: int = 1) -> int:
    """A seed for which the hostile host behaves so."""
    return turn * len(hostile.WAYS) + hostile.WAYS.index(name)


def asked(name: str) -> HostDied:
    """The error in which a host of this kind ends."""
    with hostile.liar(way(name)) as host:
        for _ in range(3):
            host.instances[0].run() if name not in ("teaser", "again") else None
        with pytest.raises(HostDied) as found:
            host.instances[0].run()
    return found.value


def test_a_host_that_sleeps() -> None:
    assert "it was asleep, and never answered" in str(asked("sleeper"))
    assert "it was asleep, and never answered" in str(asked("dozer"))


def test_a_host_that_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.05)
    # Who doesn't catch the signal is ended by it, who does by us.
    assert "died" in str(asked("spinner"))


def test_a_host_that_says_it_is_done_too_early() -> None:
    error = asked("teaser")
    assert isinstance(error, BorderError) and error.value == "HK_PENDING"


def test_a_host_that_never_ends_to_ask() -> None:
    error = asked("again")
    assert isinstance(error, BorderError) and error.value == "HK_AGAIN"


def test_what_a_host_says_is_bounded() -> None:
    error = asked("flooder")
    assert "ffff" in str(error) and len(str(error)) < 2 * process.SAID


def test_hosts_that_do_not_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BOOTING", 0.2)
    for name, text in {
        "never ready": "the kernel doesn't boot: its host is asleep",
        "dies booting": "the host process died while its kernels booted",
    }.items():
        with pytest.raises(HostDied, match=text):
            hostile.liar(way(name))


# Time.


def test_a_stopped_machine_is_no_lockup(start: HostFactory) -> None:
    """Stopped for much longer than the budget: the kernel has not had its time yet."""
    host = start(budget=0.2)
    looks = 0

    def stop() -> None:
        os.kill(host.pid, signal.SIGSTOP)
        while looks < 25:  # of 20 ms each
            over.wait(0.02)
        os.kill(host.pid, signal.SIGCONT)

    class Counting(watch.Watch):
        def look(self) -> watch.Found:
            nonlocal looks
            looks += 1
            return super().look()

    over = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "Watch", Counting)
        os.kill(host.pid, signal.SIGSTOP)
        thread = threading.Thread(target=stop)
        thread.start()
        assert host.instances[0].syscall(Fake.GLOBAL, 1) == 2
        thread.join()
    assert looks >= 25


def test_a_host_that_stays_stopped(start: HostFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STOPPED", 0.3)
    host = start()
    os.kill(host.pid, signal.SIGSTOP)
    with pytest.raises(HostDied, match="it was stopped, and never answered"):
        host.instances[0].run()


def test_the_budget_is_of_cpu_time(start: HostFactory) -> None:
    host = start(budget=0.1)
    with pytest.raises(KernelCrash) as crash:
        host.instances[0].syscall(Fake.SPIN)
    assert crash.value.report.kind == "lockup"
    assert time.clock_gettime(~host.pid << 3 | 2) >= 0.1
