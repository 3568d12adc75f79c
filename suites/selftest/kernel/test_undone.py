# SPDX-License-Identifier: GPL-2.0
"""What a restore takes back of Python's objects."""

from __future__ import annotations

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel


def test_what_was_closed_since_is_open_again(kernel: Kernel) -> None:
    """What a test does to objects of its fixtures is undone on Python's side, too."""
    listener, epoll = kernel.socket(), kernel.epoll()
    listener.bind(("127.0.0.1", 80))
    listener.listen()
    listener.settimeout(5)
    eth0 = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"])
    here = kernel.snapshot()
    for _ in range(2):
        listener.settimeout(0)
        listener.settimeout(7)
        eth0.remove()
        epoll.close()
        listener.close()
        assert [listener.fileno(), epoll.closed] == [-1, True]
        with pytest.raises(UsageError, match="eth0 was removed"):
            eth0.inject(bytes(60))
        kernel.restore(here)
        assert listener.gettimeout() == 5
        with kernel.socket() as client:
            client.connect(("127.0.0.1", 80))
            accepted, address = listener.accept()
            with accepted:
                assert address == client.getsockname()
        assert [epoll.closed] == [False]
        eth0.inject(bytes(60))


def test_what_was_closed_before_stays_so(kernel: Kernel) -> None:
    sock = kernel.socket()
    fd = sock.fileno()
    with kernel.snapshot():
        sock.close()
        inner = kernel.snapshot()
        kernel.restore(inner)
        assert sock.fileno() == -1
    assert sock.fileno() == fd
    last = kernel.snapshot()
    sock.close()
    kernel.drop(last)
    assert sock.fileno() == -1
