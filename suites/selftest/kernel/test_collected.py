# SPDX-License-Identifier: GPL-2.0
"""What Python collects while it is open is closed before the next call."""

from __future__ import annotations

import errno
import gc
import threading

import pytest

from anykernel.kernel import Kernel, Process


def descriptors(process: Process) -> list[str]:
    """Those of an open(), too, which is closed by now."""
    return process.os.listdir("/proc/self/fd")


def listener(process: Process) -> tuple[str, int]:
    """The address of one that nobody has."""
    sock = process.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    address: tuple[str, int] = sock.getsockname()
    return address


def test_a_collected_socket_is_closed_before_the_next_call(system: Process) -> None:
    address = listener(system)
    with system.socket() as client:
        assert client.connect_ex(address) == errno.ECONNREFUSED


def test_its_peer_sees_the_end(kernel: Kernel) -> None:
    ours, theirs = kernel.socketpair()
    with theirs:
        del ours
        assert theirs.recv(1) == b""


def test_what_is_closed_or_given_up(system: Process) -> None:
    before = descriptors(system)
    system.socket().close()
    with system.socket():
        pass
    given = system.socket().detach()
    assert len(descriptors(system)) == len(before) + 1
    system.os.close(given)
    assert descriptors(system) == before


def test_a_file_over_a_socket_keeps_it(system: Process) -> None:
    before = descriptors(system)
    for buffering in (None, 0):
        first, second = system.socketpair()
        file = second.makefile("rb", buffering=buffering)
        second.close()
        del second
        with first:
            first.send(b"kept")
            assert file.read(4) == b"kept"
            del file
            with pytest.raises(BrokenPipeError):
                first.send(b"x")
    assert descriptors(system) == before


def test_an_epoll_is_closed(system: Process) -> None:
    before = descriptors(system)
    system.epoll()
    assert descriptors(system) == before


def test_in_a_cycle(kernel: Kernel) -> None:
    before = descriptors(kernel)
    cycle: list[object] = [kernel.socket(), kernel.open("/tmp/file", "w")]
    cycle[1].write("flushed")  # type: ignore[attr-defined]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert descriptors(kernel) == before
    assert kernel.read_text("/tmp/file") == "flushed"


def test_what_a_restore_took_away_is_no_more(kernel: Kernel) -> None:
    with kernel.snapshot() as snapshot:
        before = descriptors(kernel)
        number = kernel.socket().detach()
        kernel.restore(snapshot)
        kernel.socket(), kernel.open("/proc/version"), kernel.epoll()
        kernel.restore(snapshot)
        assert kernel.os.open("/proc/version", 0) == number, "the same descriptor, another's"
        assert len(descriptors(kernel)) == len(before) + 1


def test_a_snapshot_has_no_descriptor_that_nobody_has(kernel: Kernel) -> None:
    before = descriptors(kernel)
    kernel.socket()
    snapshot = kernel.snapshot()
    kernel.restore(snapshot)
    assert descriptors(kernel) == before


def test_of_a_process_that_has_ended(kernel: Kernel) -> None:
    with kernel.fork() as child:
        held = child.socket()
    del held
    kernel.os.getpid()
    assert not kernel.orphans


def test_a_collected_file_of_a_child_process(kernel: Kernel) -> None:
    """It is closed in that process, whoever makes the next call."""
    with kernel.fork() as child:
        before = child.os.listdir("/proc/self/fd")
        child.socket()
        kernel.os.getpid()
        assert child.os.listdir("/proc/self/fd") == before


def test_a_collected_file_that_can_not_be_flushed(kernel: Kernel) -> None:
    with pytest.raises(OSError):  # noqa: SIM117
        with kernel.open("/dev/full", "w") as file:
            file.write("x")
    kernel.open("/dev/full", "w").write("x")
    kernel.os.getpid()
    assert not kernel.orphans


def test_the_iproute_of_a_thread_that_has_ended(kernel: Kernel) -> None:
    before = descriptors(kernel)
    thread = threading.Thread(target=lambda: kernel.iproute.get_links())
    thread.start()
    thread.join()
    del thread
    gc.collect()
    assert descriptors(kernel) == before
