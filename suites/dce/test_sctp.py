# SPDX-License-Identifier: GPL-2.0
"""DCE's SCTP cases (dce-sctp, multihoming): an association over several addresses (RFC 9260).

Each address is a path, which heartbeats watch; when the primary path fails, data goes over the
other, and comes back when it is mended; messages stay messages.
"""

from __future__ import annotations

import socket
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket
    from anykernel.net import Network
    from anykernel.net.link import Link
    from anykernel.net.node import Node

SCTP = 132
NODELAY, PRIMARY_ADDR, BINDX_ADD, GET_PEER_ADDR_INFO = 3, 6, 100, 15
INACTIVE, POTENTIALLY_FAILED, ACTIVE, UNCONFIRMED = range(4)
"""enum sctp_spinfo_state."""
PORT = 3868
MINE = ["10.0.0.1", "10.0.1.1"]
THEIRS = ["10.0.0.2", "10.0.1.2"]
DELAY = 0.010


def sockaddr(address: str, port: int = PORT) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(
        address
    ) + bytes(8)  # fmt: skip


def two_paths(network: Network, count: int = 2) -> tuple[Node, Node, list[Link]]:
    a, b = network.node("a"), network.node("b")
    try:
        a.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP).close()
    except OSError as error:
        pytest.skip(f"this kernel has no SCTP: {error}")
    links = [
        network.link(a, b, name=f"path{i}", rate="10Mbit", delay=DELAY,
                     addresses=([f"{MINE[i]}/24"], [f"{THEIRS[i]}/24"]))
        for i in range(count)
    ]  # fmt: skip
    return a, b, links


def endpoint(process: Process, addresses: list[str], kind: int = socket.SOCK_STREAM) -> Socket:
    """A socket with these addresses, and only these."""
    sock = process.socket(socket.AF_INET, kind, SCTP)
    sock.setsockopt(SCTP, NODELAY, 1)
    sock.bind((addresses[0], PORT))
    for address in addresses[1:]:
        sock.setsockopt(SCTP, BINDX_ADD, sockaddr(address))
    return sock


def path_state(sock: Socket, address: str) -> int:
    """SCTP_GET_PEER_ADDR_INFO's."""
    info = bytearray(struct.pack("=i", 0) + sockaddr(address).ljust(128, b"\0") + bytes(20))
    size = bytearray(struct.pack("=I", len(info)))
    sock.process.syscall("getsockopt", sock.fileno(), SCTP, GET_PEER_ADDR_INFO, info, size)
    return int(struct.unpack_from("=i", info, 132)[0])


def remote(node: Node) -> dict[str, str]:
    """{address: state} of /proc/net/sctp/remaddr."""
    rows = [line.split() for line in node.read_text("/proc/net/sctp/remaddr").splitlines()]
    head = rows[0]
    return {row[head.index("ADDR")]: row[head.index("STATE")] for row in rows[1:] if row}


class Session:
    """Numbered messages from a to b, one each `interval` seconds, with the paths' states."""

    def __init__(
        self, network: Network, a: Node, b: Node, count: int, paths: int = 2,
        interval: float = 0.1, size: int = 500, primary: str = "",
    ) -> None:  # fmt: skip
        self.network, self.count, self.interval, self.size = network, count, interval, size
        self.paths, self.primary = paths, primary
        self.got: list[tuple[float, int]] = []
        self.states: list[tuple[float, tuple[int, ...]]] = []
        network.start(self.server, on=b, daemon=True)
        self.client = network.start(self.send, on=a)

    def server(self, process: Process) -> None:
        listener = endpoint(process, THEIRS[: self.paths])
        listener.listen()
        connection, _ = listener.accept()
        while data := connection.recv(1 << 16):
            (number,) = struct.unpack_from("!I", data)
            assert data == struct.pack("!I", number) * (self.size // 4)
            self.got.append((self.network.seconds, number))

    def send(self, process: Process) -> None:
        sock = endpoint(process, MINE[: self.paths])
        sock.connect((THEIRS[0], PORT))
        if self.primary:
            self.network.sleep(10)  # until a heartbeat has confirmed it
            sock.setsockopt(SCTP, PRIMARY_ADDR, struct.pack("=i", 0) + sockaddr(
                self.primary).ljust(128, b"\0"))  # fmt: skip
        for number in range(self.count):
            sock.send(struct.pack("!I", number) * (self.size // 4))
            self.network.sleep(self.interval)
            states = tuple(path_state(sock, address) for address in THEIRS[: self.paths])
            self.states.append((self.network.seconds, states))

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.got]


def test_an_association_knows_all_addresses(network: Network) -> None:
    """The second is unconfirmed until a heartbeat has come back (RFC 9260, 5.4)."""
    a, b, links = two_paths(network)
    session = Session(network, a, b, 100)
    network.run(9)
    assert remote(a).keys() == set(THEIRS) and remote(b).keys() == set(MINE)
    network.run()
    network.run(1)
    assert session.numbers == list(range(100))
    seen = [states for _, states in session.states]
    assert seen[0] == (ACTIVE, UNCONFIRMED) and seen[-1] == (ACTIVE, ACTIVE)
    assert sum(x != y for x, y in pairwise(seen)) == 1
    assert 0 < links[1].port(a).sent["bytes"] < 5000, "heartbeats only"
    assert links[0].port(a).sent["bytes"] > 100 * 500


@pytest.mark.parametrize("silent", [True, False])
def test_the_primary_path_is_cut(network: Network, silent: bool) -> None:
    a, b, links = two_paths(network)
    session = Session(network, a, b, 2600)
    network.run(5)
    before = len(session.got)
    assert 40 <= before <= 50
    if silent:
        links[0].set(loss=1)
    else:
        links[0].down()
    cut = network.seconds
    network.run(120)  # Path.Max.Retrans is 5: timeouts of 1, 2, 4, 8, 16 and 32 seconds
    first, second = session.states[-1][1]
    assert second == ACTIVE
    # What has no carrier isn't tried, so it only fails by the heartbeats, one in half a minute.
    assert first == INACTIVE if silent else first in (INACTIVE, POTENTIALLY_FAILED)
    assert session.numbers == list(range(len(session.got))), "all, in order, once"
    assert len(session.got) == pytest.approx(1250, abs=5), "it has caught up"
    # One retransmission timeout (RTO.Min is a second), and the message is there.
    late = next(seconds for seconds, number in session.got if number == before + 1)
    assert late - cut < 3
    if silent:
        links[0].set(loss=0)
    else:
        links[0].up()
    mended = network.seconds
    network.run()
    network.run(1)
    assert session.numbers == list(range(2600))
    again = [seconds for seconds, states in session.states if states == (ACTIVE, ACTIVE)]
    back = next(seconds for seconds in again if seconds > mended)
    # HB.interval 30 s + RTO with jitter; the RTO was doubled to at most RTO.Max, 60 s.
    assert back - mended < 30 + 1.5 * 60


def test_the_primary_path_comes_back_into_use(network: Network) -> None:
    """RFC 9260, 6.4.1 and 8.2: data goes to the primary again when it is active again."""
    a, b, links = two_paths(network)
    session = Session(network, a, b, 2500)
    network.run(3)
    links[0].set(loss=1)
    network.run(60)
    links[0].set(loss=0)
    network.run(120)
    on_second = links[1].port(a).sent["bytes"]
    on_first = links[0].port(a).sent["bytes"]
    network.run()
    network.run(1)
    assert session.numbers == list(range(2500))
    assert links[0].port(a).sent["bytes"] - on_first > 400 * 500
    assert links[1].port(a).sent["bytes"] - on_second < 5000


def test_with_one_address_it_stalls(network: Network) -> None:
    """The control: the same cut, the same second cable, but nobody has bound its addresses."""
    a, b, links = two_paths(network)
    session = Session(network, a, b, 1000, paths=1)
    network.run(5)
    links[0].set(loss=1)
    network.run(0.1)
    before = len(session.got)
    network.run(20)
    assert len(session.got) == before
    assert links[1].port(a).sent["bytes"] < 2000
    links[0].set(loss=0)
    network.run(60)
    assert len(session.got) > before + 100
    assert session.numbers == list(range(len(session.got)))


def test_the_primary_path_can_be_chosen(network: Network) -> None:
    a, b, links = two_paths(network)
    session = Session(network, a, b, 100, primary=THEIRS[1])
    network.run()
    network.run(1)
    assert session.numbers == list(range(100))
    assert links[1].port(a).sent["bytes"] > 95 * 500
    assert links[0].port(a).sent["bytes"] < 5 * 500


@pytest.mark.parametrize("loss", [0, 0.05])
def test_messages_stay_messages(network: Network, loss: float) -> None:
    """Of any size, also when they are fragmented and fragments are lost."""
    a, b, links = two_paths(network)
    for link in links:
        link.set(loss=loss)
    sizes = [1, 100, 1452, 1453, 5000, 30_000] * 5

    def server(process: Process) -> list[bytes]:
        listener = endpoint(process, THEIRS)
        listener.listen()
        connection, _ = listener.accept()
        return [connection.recv(1 << 16) for _ in sizes]

    def client(process: Process) -> None:
        sock = endpoint(process, MINE)
        sock.connect((THEIRS[0], PORT))
        for number, size in enumerate(sizes):
            sock.send(bytes([number]) * size)

    program = network.start(server, on=b)
    network.start(client, on=a)
    network.run(limit=600)
    assert program.result == [bytes([number]) * size for number, size in enumerate(sizes)]
    assert any(link.statistics["lost"] for link in links) == bool(loss)


def test_one_socket_for_many_associations(network: Network) -> None:
    """SOCK_SEQPACKET, the one-to-many style of RFC 6458."""
    star = network.star(4, rate="10Mbit", delay="1ms")
    network.address()
    try:
        star.centre.socket(socket.AF_INET, socket.SOCK_SEQPACKET, SCTP).close()
    except OSError as error:
        pytest.skip(f"this kernel has no SCTP: {error}")

    def server(process: Process) -> list[tuple[str, bytes]]:
        sock = process.socket(socket.AF_INET, socket.SOCK_SEQPACKET, SCTP)
        sock.bind(("0.0.0.0", PORT))
        sock.listen()
        found = []
        for _ in range(8):
            data, address = sock.recvfrom(1000)
            found.append((address[0], data))
            sock.sendto(data.upper(), address)
        return found

    def client(process: Process, address: str, name: str) -> list[bytes]:
        sock = process.socket(socket.AF_INET, socket.SOCK_SEQPACKET, SCTP)
        answers = []
        for word in ("hello", "bye"):
            sock.sendto(f"{word} from {name}".encode(), (address, PORT))
            answers.append(sock.recv(1000))
        return answers

    program = network.start(server, on=star.centre)
    clients = [
        network.start(client, f"10.0.0.{4 * i + 1}", leaf.name, on=leaf)
        for i, leaf in enumerate(star.leaves)
    ]
    network.run()
    for i, one in enumerate(clients):
        words = [f"{word} from leaf{i}".encode() for word in ("hello", "bye")]
        assert one.result == [word.upper() for word in words]
        assert [data for host, data in program.result if host == f"10.0.0.{4 * i + 2}"] == words
