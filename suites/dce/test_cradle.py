# SPDX-License-Identifier: GPL-2.0
"""DCE's "cradle": an application that starts in the middle of a simulation and connects.

A server that was there for long serves it as one that came at the same time; one whose server
comes later is refused by a reset (RFC 9293, 3.10.7.1), at once, until the server is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network

DELAY = 0.010
RTT = 2 * DELAY
LINEAR = "net.ipv4.tcp_syn_linear_timeouts"
EXACT = 1e-5
"""Seconds: no rate, so only the delays count (and ARP, once)."""


def serve(process: Process, count: int) -> list[str]:
    """Says hello to so many who connect; who they are."""
    listener = process.socket()
    listener.bind(("0.0.0.0", 80))
    listener.listen()
    seen = []
    for _ in range(count):
        connection, (host, _) = listener.accept()
        seen.append(host)
        connection.sendall(b"hello " + host.encode())
        connection.close()
    return seen


def fetch(process: Process, address: str) -> bytes:
    """All that a server says."""
    with process.socket() as sock:
        sock.connect((address, 80))
        data = b""
        while part := sock.recv(100):
            data += part
        return data


@pytest.mark.parametrize("start", [1.0, 3600.0, 86_400.0 * 7])
def test_an_application_finds_a_server_that_was_there(network: Network, start: float) -> None:
    a, b = network.chain(2, delay=DELAY)
    network.address()
    server = network.start(serve, 1, on=b, at=1.0)
    client = network.start(fetch, "10.0.0.2", on=a, at=start)
    network.run(start - network.seconds + 60)
    assert client.result == b"hello 10.0.0.1"
    assert server.result == ["10.0.0.1"]
    assert client.started_ns == round(start * 1e9) and client.ended_ns is not None
    # Its ARP, its handshake, and the data that comes half a round trip after the handshake's end.
    took = (client.ended_ns - client.started_ns) / 1e9
    assert took == pytest.approx(3 * RTT, abs=EXACT)


def test_an_application_whose_server_comes_later(network: Network) -> None:
    a, b = network.chain(2, delay=DELAY)
    network.address()
    tries: list[float] = []

    def application(process: Process) -> bytes:
        while True:
            tries.append(network.seconds)
            try:
                return fetch(process, "10.0.0.2")
            except ConnectionRefusedError:
                network.sleep(1 - RTT)

    network.start(serve, 1, on=b, at=5.5)
    client = network.start(application, on=a, at=2.0)
    with network.links[0].capture() as frames:
        network.run()
    assert client.result == b"hello 10.0.0.1"
    # Refused after one round trip each time; the first also asks by ARP.
    assert tries == [2.0] + [pytest.approx(2 + RTT + k, abs=EXACT) for k in (1, 2, 3, 4)]
    resets = [one for one in frames if len(one.data) > 47 and one.data[47] & 0x04]
    assert len(resets) == 4, "one for each attempt that came too early"
    assert {one.data[26:30] for one in resets} == {bytes([10, 0, 0, 2])}


def test_a_host_that_is_not_there_yet(network: Network) -> None:
    """Not refused but silent: the SYN is sent again after 1, 2, 4 ... seconds (RFC 6298), so that
    the connection comes with the first of these after the cable."""
    a, b = network.chain(2, delay=DELAY)
    network.address()
    # Its neighbour is known, else ARP would say "no route to host" after three seconds.
    a.netdevs["eth0"].add_neighbour("10.0.0.2", b.netdevs["eth0"].mac)
    if LINEAR in a.sysctl:
        a.sysctl[LINEAR] = 0  # since Linux 6.5 the first four times are a second each
    network.start(serve, 1, on=b)
    network.links[0].set(loss=1.0)
    begin = network.seconds
    client = network.start(fetch, "10.0.0.2", on=a)
    network.run(5)
    assert not client.done
    network.links[0].set(loss=0)
    network.run()
    assert client.result == b"hello 10.0.0.1"
    assert client.ended_ns is not None
    took = client.ended_ns / 1e9 - begin
    # 1 + 2 + 4 s, each at most an eighth late (kernel/time/timer.c); b asks by ARP, too.
    assert 7 <= took - 3 * RTT <= 7 * 1.125


def test_applications_come_one_after_the_other(network: Network) -> None:
    """Each started by the one before, on another node, while the simulation runs."""
    star = network.star(5, delay=DELAY)
    network.address()
    server = network.start(serve, 5, on=star.centre)
    begun: list[tuple[str, float]] = []

    def application(process: Process, index: int) -> None:
        begun.append((process.os.uname().nodename, network.seconds))
        if index + 1 < len(star.leaves):
            at = network.seconds + 10
            network.start(application, index + 1, on=star.leaves[index + 1], at=at)
        hosts.append(fetch(process, centre[index]))

    centre = [f"10.0.0.{4 * index + 1}" for index in range(5)]
    hosts: list[bytes] = []
    network.start(application, 0, on=star.leaves[0], at=2.0)
    network.run()
    assert begun == [(f"leaf{index}", 2.0 + 10 * index) for index in range(5)]
    assert server.result == [f"10.0.0.{4 * index + 2}" for index in range(5)]
    assert hosts == [b"hello " + host.encode() for host in server.result]
