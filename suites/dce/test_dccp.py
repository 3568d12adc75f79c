# SPDX-License-Identifier: GPL-2.0
"""DCE's DCCP case (dccp-client/dccp-server): congestion-controlled datagrams (RFC 4340).

Who offers another service is refused; what is lost stays lost; the sender slows down all the same.
Linux has no DCCP since 6.16: there these are skipped.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket
    from anykernel.net import Network
    from anykernel.net.node import Node

DCCP, SOCK_DCCP, SOL_DCCP = 33, 6, 269
SERVICE, CUR_MPS, AVAILABLE_CCIDS, CCID, TX_CCID, RX_CCID, TXQLEN = 2, 5, 12, 13, 14, 15, 17
PORT = 5001
CALL = 0x63616C6C
"""The service code "call"."""
DATA, DATAACK, RESET = 2, 4, 7
"""Packet types (RFC 4340, 5.1)."""


@pytest.fixture
def pair(network: Network) -> tuple[Node, Node]:
    a, b = network.chain(2, rate="10Mbit", delay="10ms", queue=100)
    network.address()
    try:
        a.socket(socket.AF_INET, SOCK_DCCP, DCCP).close()
    except OSError as error:
        pytest.skip(f"this kernel has no DCCP: {error}")
    return a, b


def dccp(process: Process, service: int = CALL, ccid: int | None = None) -> Socket:
    sock = process.socket(socket.AF_INET, SOCK_DCCP, DCCP)
    sock.setsockopt(SOL_DCCP, SERVICE, struct.pack("!I", service))
    if ccid is not None:
        sock.setsockopt(SOL_DCCP, CCID, bytes([ccid]))
    return sock


def ccids(node: Node) -> bytes:
    """Those that the kernel was built with."""
    with node.socket(socket.AF_INET, SOCK_DCCP, DCCP) as sock:
        return bytes(sock.getsockopt(SOL_DCCP, AVAILABLE_CCIDS, 16))


class Session:
    """Numbered datagrams from a to b; who is too fast for the queue tries again."""

    def __init__(
        self, network: Network, pair: tuple[Node, Node], count: int, *, interval: float = 0.0,
        size: int = 1000, ccid: int | None = None,
    ) -> None:  # fmt: skip
        self.network, self.count, self.interval, self.size = network, count, interval, size
        self.ccid = ccid
        self.got: list[tuple[float, int]] = []
        self.used: dict[str, int] = {}
        self.sent: list[float] = []
        self.began = 0.0
        network.start(self.server, on=pair[1])
        network.start(self.client, on=pair[0])

    def server(self, process: Process) -> None:
        listener = dccp(process, CALL, self.ccid)
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        connection, _ = listener.accept()
        while data := connection.recv(2000):
            (number,) = struct.unpack_from("!I", data)
            assert data == struct.pack("!I", number) * (self.size // 4)
            self.got.append((self.network.seconds, number))
        self.used["server"] = connection.getsockopt(SOL_DCCP, RX_CCID)

    def client(self, process: Process) -> None:
        sock = dccp(process, CALL, self.ccid)
        sock.connect(("10.0.0.2", PORT))
        self.used["client"] = sock.getsockopt(SOL_DCCP, TX_CCID)
        self.began = self.network.seconds
        for number in range(self.count):
            while True:
                try:
                    sock.send(struct.pack("!I", number) * (self.size // 4))
                    self.sent.append(self.network.seconds)
                    break
                except BlockingIOError:  # tx_qlen datagrams wait for the congestion control
                    self.network.sleep(0.002)
            if self.interval:
                self.network.sleep(self.interval)
        self.network.sleep(5)  # close() would drop what waits
        sock.close()

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.got]

    @property
    def rate(self) -> float:
        """Bits of payload per second that arrived."""
        return len(self.got) * self.size * 8 / (self.got[-1][0] - self.began)


def packets(frames: list[bytes]) -> list[tuple[int, bytes]]:
    """(type, payload and options) of DCCP's with extended sequence numbers."""
    found = []
    for frame in frames:
        if frame[12:14] == b"\x08\0" and frame[23] == DCCP:
            found.append((frame[34 + 8] >> 1 & 15, frame[34 + 4 * frame[34 + 4] :]))
    return found


def test_datagrams_arrive_whole_and_in_order(network: Network, pair: tuple[Node, Node]) -> None:
    session = Session(network, pair, 100, interval=0.010)
    network.run()
    assert session.numbers == list(range(100))
    assert session.used == {"client": 2, "server": 2}, "CCID 2 is the default (RFC 4340, 10)"
    took = sorted(
        seconds - sent for (seconds, _), sent in zip(session.got, session.sent, strict=True)
    )
    # The delay, and the frame on Ethernet with a header of 16 to 40 bytes.
    assert took[0] > 0.010 + (1000 + 34 + 16 + 24) * 8 / 10e6
    assert took[50] < 0.010 + (1000 + 34 + 40 + 24) * 8 / 10e6


def test_another_service_is_refused(network: Network, pair: tuple[Node, Node]) -> None:
    """Reset, code 8: Bad Service Code (RFC 4340, 8.1.2)."""
    a, b = pair

    def server(process: Process) -> None:
        listener = dccp(process, CALL)
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        listener.accept()

    def client(process: Process) -> float:
        with pytest.raises(OSError) as caught:
            dccp(process, CALL + 1).connect(("10.0.0.2", PORT))
        assert caught.value.errno == errno.EBADRQC
        return network.seconds

    network.start(server, on=b, daemon=True)
    program = network.start(client, on=a)
    begin = network.seconds
    with network.links[0].capture() as frames:
        network.run()
    assert program.result - begin == pytest.approx(0.040, abs=0.001), "ARP, one round trip"
    resets = [data for kind, data in packets([one.data for one in frames]) if kind == RESET]
    assert len(resets) == 1
    whole = next(one.data for one in frames if one.data[23] == DCCP and one.data[42] >> 1 & 15 == 7)
    assert whole[34 + 24] == 8


def test_a_port_without_a_server(network: Network, pair: tuple[Node, Node]) -> None:
    def client(process: Process) -> None:
        with pytest.raises(ConnectionRefusedError):
            dccp(process).connect(("10.0.0.2", PORT))

    network.start(client, on=pair[0])
    network.run()


def test_what_is_lost_stays_lost(network: Network, pair: tuple[Node, Node]) -> None:
    a, _ = pair
    session = Session(network, pair, 500, interval=0.010)
    network.run(1)
    network.links[0].set(sender=a, loss="10%")
    with network.links[0].capture() as frames:
        network.run()
    wire = [
        (one.verdict, struct.unpack("!I", data[:4])[0])
        for one in frames
        for kind, data in packets([one.data])
        if kind in (DATA, DATAACK) and network.ends(one)[1] == a.name
    ]
    sent = [number for _, number in wire]
    assert len(sent) == len(set(sent)) == 500 - sent[0], "nothing is sent twice"
    lost = [number for verdict, number in wire if verdict == "lost"]
    assert len(lost) == pytest.approx(0.1 * len(sent), abs=4 * (0.09 * len(sent)) ** 0.5)
    assert session.numbers == sorted(session.numbers)
    assert sorted(session.numbers + lost) == list(range(500))


def test_a_datagram_is_no_longer_than_the_path(network: Network, pair: tuple[Node, Node]) -> None:
    """EMSGSIZE beyond the maximum packet size; DCCP doesn't fragment."""
    a, b = pair

    def server(process: Process) -> int:
        listener = dccp(process)
        listener.bind(("0.0.0.0", PORT))
        listener.listen()
        connection, _ = listener.accept()
        return len(connection.recv(2000))

    def client(process: Process) -> int:
        sock = dccp(process)
        sock.connect(("10.0.0.2", PORT))
        most = int(sock.getsockopt(SOL_DCCP, CUR_MPS))
        with pytest.raises(OSError) as caught:
            sock.send(bytes(most + 1))
        assert caught.value.errno == errno.EMSGSIZE
        sock.send(bytes(most))
        network.sleep(1)
        return most

    arrived = network.start(server, on=b)
    program = network.start(client, on=a)
    network.run()
    assert arrived.result == program.result
    assert 1400 < program.result <= 1500 - 20 - 16


@pytest.mark.parametrize("ccid", [2, 3])
def test_loss_slows_the_sender(network: Network, pair: tuple[Node, Node], ccid: int) -> None:
    """CCID 2 (RFC 4341, TCP-like) and 3 (RFC 4342, TFRC): less than half the rate at 5 % loss."""
    a, _ = pair
    if ccid not in ccids(a):
        pytest.skip(f"this kernel has no CCID {ccid}: there are {list(ccids(a))}")
    free = Session(network, pair, 1000, ccid=ccid)
    network.run(limit=600)
    assert free.used == {"client": ccid, "server": ccid}
    # The line, but for slow start.
    assert 0.4 * 10e6 < free.rate < 10e6 * 1000 / 1066
    network.links[0].set(sender=a, loss="5%")
    lossy = Session(network, pair, 300, ccid=ccid)
    network.run(limit=600)
    assert 0.85 * 300 < len(lossy.got) < 300
    assert lossy.rate < 0.5 * free.rate
