# SPDX-License-Identifier: GPL-2.0
"""pyroute2 over our transport: its own methods, no threads, no descriptors, errors as usual."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from anykernel.kernel import Process
from anykernel.kernel.netlink import open_netlink
from suites.selftest.kernel.machine import Machine


@pytest.fixture
def route(system: Process) -> Iterator[Any]:
    made = open_netlink(system)
    yield made
    made.close()


def test_links(system: Process, route: Any) -> None:
    found = {link.get_attr("IFLA_IFNAME"): link["index"] for link in route.get_links()}
    assert set(found) == set(system.os.listdir("/sys/class/net")) - {"bonding_masters"}
    assert found["lo"] == 1


def test_look_up_and_dump_with_a_filter(route: Any) -> None:
    assert list(route.link_lookup(ifname="lo")) == [1]
    assert [link["index"] for link in route.link("dump", ifname="lo")] == [1]
    assert list(route.link_lookup(ifname="none such")) == []


def test_many_requests_on_one_socket(route: Any) -> None:
    for _ in range(20):
        (link,) = route.link("get", index=1)
        assert link.get("ifname") == "lo"
        list(route.get_addr(family=socket.AF_INET))
        list(route.get_routes(family=socket.AF_INET6))


def test_an_error_of_the_kernel_is_pyroute2s(route: Any) -> None:
    from pyroute2 import NetlinkError

    with pytest.raises(NetlinkError) as raised:
        route.link("get", index=99_999)
    assert raised.value.code == errno.ENODEV
    assert len(list(route.link("get", index=1))) == 1, "and the socket goes on"


def test_a_dump_that_is_left_half_read(route: Any) -> None:
    for _ in range(3):
        next(iter(route.get_links()))
    assert list(route.link_lookup(ifname="lo")) == [1]


def test_neither_threads_nor_descriptors(system: Process) -> None:
    open_netlink(system).close()  # imports, caches
    threads = threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        made = open_netlink(system)
        list(made.get_links())
        own = isinstance(system.instance, Machine)
        assert len(os.listdir("/proc/self/fd")) <= descriptors + own, "at most the socket itself"
        made.close()
    assert threading.active_count() == threads


def test_inside_of_somebodys_event_loop(route: Any) -> None:
    async def main() -> list[int]:
        await asyncio.sleep(0)
        found = [link["index"] for link in route.link("get", index=1)]
        await asyncio.sleep(0)
        return found

    assert asyncio.run(main()) == [1]


def test_requests_carry_the_sockets_address(system: Process) -> None:
    """By default they carry this process' id, and the kernel would see another in each run."""
    made = open_netlink(system)
    sent: list[bytes] = []
    sock = made.asyncore.use_socket
    address = sock.getsockname()[0]
    send = sock.send

    def spy(data: bytes, *rest: int) -> int:
        sent.append(bytes(data))
        count: int = send(data, *rest)
        return count

    sock.send = spy
    list(made.link("get", index=1))
    made.close()
    assert sent
    for message in sent:
        assert int.from_bytes(message[12:16], "little") == address


def test_pyroute2_is_imported_only_when_it_is_used() -> None:
    code = "import sys, anykernel.kernel.netlink; print('pyroute2' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "False"
