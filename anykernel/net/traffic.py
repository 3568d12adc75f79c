# SPDX-License-Identifier: GPL-2.0
"""Traffic between nodes, with statistics: bulk TCP, constant-rate UDP, request/response, ping."""

from __future__ import annotations

import ipaddress
import socket as pysocket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from anykernel.errors import UsageError
from anykernel.host.times import nanoseconds
from anykernel.kernel.tcpinfo import tcp_info
from anykernel.net import units
from anykernel.net.jobs import Job, JobStats

if TYPE_CHECKING:
    from pathlib import Path

    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket
    from anykernel.net.network import Network
    from anykernel.net.node import Node
    from anykernel.net.programs import Program

CHUNK = 1 << 16
"""Bytes of one send() or recv() of bulk traffic."""
WAITALL = 0x100
CONGESTION = 13
FIRST_PORT = 5001
PATTERN = bytes(range(256)) * 257
"""What is sent."""

Curve = list[tuple[float, float]]
"""(seconds, value), ready to plot."""


def address_of(node: Node, family: int = pysocket.AF_INET) -> str:
    """The first global address of the node's links.  Raises UsageError when it has none."""
    version = 4 if family == pysocket.AF_INET else 6
    for port in node.ports:
        for text in port.addresses:
            ip = ipaddress.ip_interface(text).ip
            if ip.version == version and not ip.is_link_local:
                return str(ip)
    raise UsageError(
        f"{node.name} has no IPv{version} address: network.address() gives some, or say address="
    )


def family_of(address: str) -> int:
    """AF_INET or AF_INET6."""
    return pysocket.AF_INET6 if ":" in address else pysocket.AF_INET


class Flow:
    """Traffic from one node to another, as programs; its figures are there when it has ended."""

    def __init__(
        self,
        network: Network,
        a: Node | str,
        b: Node | str,
        *,
        address: str | None = None,
        port: int | None = None,
        family: int = pysocket.AF_INET,
    ) -> None:
        self.network = network
        self.a = network.find(a)
        self.b = network.find(b)
        self.address = address or address_of(self.b, family)
        self.family = family_of(self.address)
        self.port = port or FIRST_PORT + len(network.hub.programs)
        self.name = f"{type(self).__name__.lower()} {self.a.name}-{self.b.name}"
        self.programs: list[Program[Any]] = []

    def _start(
        self,
        role: str,
        function: Callable[[Process], Any],
        node: Node,
        at: float | None = None,
        daemon: bool = False,
    ) -> Program[Any]:
        program = self.network.start(
            function, on=node, name=f"{self.name} {role}", at=at, daemon=daemon
        )
        self.programs.append(program)
        return program

    def _server(self, process: Process, kind: int, protocol: int = 0) -> Socket:
        sock = process.socket(self.family, kind, protocol)
        sock.setsockopt(pysocket.SOL_SOCKET, pysocket.SO_REUSEADDR, 1)
        sock.bind(("::" if self.family == pysocket.AF_INET6 else "0.0.0.0", self.port))
        if kind != pysocket.SOCK_DGRAM:
            sock.listen()
        return sock

    @property
    def done(self) -> bool:
        """Whether all its programs have ended."""
        return all(program.done for program in self.programs if not program.daemon)

    def _buffer(self, process: Process, size: int) -> int:
        """Room for payload, which is the same in each run: user memory is part of no snapshot."""
        buffer = process.instance.user.alloc(size)
        buffer.view[:size] = (PATTERN * (size // len(PATTERN) + 1))[:size]
        return buffer.address


class Bulk(Flow):
    """One TCP (or, with `protocol`, MPTCP or SCTP) connection that sends as fast as it can:
    `bytes`, or for `seconds`.

    congestion: the algorithm ("cubic", "reno", "bbr" ...).  sample: seconds between looks at
    TCP_INFO, for curve().
    """

    def __init__(
        self,
        network: Network,
        a: Node | str,
        b: Node | str,
        *,
        bytes: int | None = None,
        seconds: float | None = None,
        congestion: str | None = None,
        sample: float | None = None,
        at: float | None = None,
        protocol: int = 0,
        chunk: int = CHUNK,
        **options: Any,
    ) -> None:
        super().__init__(network, a, b, **options)
        if (bytes is None) == (seconds is None):
            raise UsageError("bulk traffic has an end: give bytes= or seconds=")
        for name, value in (("seconds=", seconds), ("sample=", sample)):
            if value is not None:
                nanoseconds(value, name)
        self._bytes, self._seconds, self._congestion = bytes, seconds, congestion
        self._sample, self._protocol, self._chunk = sample, protocol, chunk
        self.samples: list[tuple[float, dict[str, int]]] = []
        """(seconds, TCP_INFO of the sender)."""
        self.info: dict[str, int] = {}
        """TCP_INFO of the sender when all has arrived."""
        self.received: JobStats | None = None
        self.began_ns = 0
        """When the connection was there."""
        self._running = True
        self._start("sink", self._sink, self.b)
        self._start("source", self._source, self.a, at)

    def _sink(self, process: Process) -> None:
        server = self._server(process, pysocket.SOCK_STREAM, self._protocol)
        sock, _ = server.accept()
        room = self._buffer(process, self._chunk)
        job = Job(self.network, process, [("recvfrom", sock.fileno(), room, self._chunk, 0, 0, 0)])
        self.received = job.wait("bytes to receive")
        sock.close()

    def _source(self, process: Process) -> None:
        sock = process.socket(self.family, pysocket.SOCK_STREAM, self._protocol)
        if self._congestion:
            sock.setsockopt(pysocket.IPPROTO_TCP, CONGESTION, self._congestion.encode())
        sock.connect((self.address, self.port))
        self.began_ns = self.network.now
        if self._sample is not None:
            self._watch(process, sock)
        end = 0 if self._seconds is None else self.began_ns + round(self._seconds * 1e9)
        data = self._buffer(process, self._chunk)
        job = Job(
            self.network,
            process,
            [("sendto", sock.fileno(), data, self._chunk, 0x4000, 0, 0)],
            bytes=self._bytes or 0,
            end_ns=end,
        )
        stats = job.wait("room to send")
        if not stats.error:
            sock.shutdown(pysocket.SHUT_WR)
            self.programs[0].join()
        self._running = False
        if self._protocol in (0, pysocket.IPPROTO_TCP):
            # The last acknowledgements are on their way.
            self.network.sleep(2 * tcp_info(sock)["rtt"] / 1e6)
            self.info = tcp_info(sock)
        sock.close()
        if stats.error:
            raise OSError(stats.error, f"sending to {self.address} port {self.port}")

    def _watch(self, process: Process, sock: Socket) -> None:
        """Looks at TCP_INFO from time to time, from a process of its own."""
        assert self._sample is not None
        sample = self._sample
        child = process.fork()

        def look(own: Process) -> None:
            mirror = type(sock)(own, sock.family, sock.type, sock.proto, fileno=sock.fileno())
            while self._running:
                self.samples.append((self.network.seconds, tcp_info(mirror)))
                self.network.sleep(sample)

        self.network.launch(look, child, self.a, f"{self.name} samples", daemon=True)

    @property
    def moved(self) -> int:
        """Bytes that arrived."""
        return self.received.moved if self.received else 0

    @property
    def seconds(self) -> float:
        """From the connection's beginning to the last byte's arrival."""
        return (self.received.last_ns - self.began_ns) / 1e9 if self.received else 0.0

    @property
    def goodput(self) -> float:
        """Bits per second of payload."""
        return self.moved * 8 / self.seconds if self.seconds else 0.0

    @property
    def retransmits(self) -> int:
        """Segments that were sent again."""
        return self.info.get("total_retrans", 0)

    def curve(self, field: str) -> Curve:
        """A field of TCP_INFO over virtual time: "snd_cwnd" (segments), "rtt" (us) ..."""
        if not self.samples:
            raise UsageError("there are no samples: give sample=, and run")
        return [(seconds, float(info[field])) for seconds, info in self.samples]

    def plot(self, path: str | Path, *fields: str) -> None:
        """Draws curves of TCP_INFO's fields (snd_cwnd if none is given): PNG or SVG by the path's
        suffix.  Raises UsageError."""
        from anykernel.net.plot import curves

        named = fields or ("snd_cwnd",)
        curves({f: self.curve(f) for f in named}, path, title=self.name, step=True)


class Cbr(Flow):
    """UDP datagrams of `size` bytes of payload at a constant `rate` of payload, for `seconds`."""

    def __init__(
        self,
        network: Network,
        a: Node | str,
        b: Node | str,
        *,
        rate: float | str,
        seconds: float,
        size: int = 1470,
        at: float | None = None,
        log: int = 0,
        drain: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(network, a, b, **options)
        if not 1 <= size <= 65_507:
            raise UsageError(f"size={size}: a datagram has 1 to 65,507 bytes of payload")
        self._interval = max(1, round(size * 8 * 1e9 / units.rate(rate)))
        nanoseconds(seconds, "seconds=")
        self._seconds, self._size, self._logs, self._drain = seconds, size, log, drain
        self.sent: JobStats | None = None
        self.received: JobStats | None = None
        self._sinks: list[Job] = []
        self._start("sink", self._sink, self.b, daemon=True)
        self._start("source", self._source, self.a, at)

    def _sink(self, process: Process) -> None:
        sock = self._server(process, pysocket.SOCK_DGRAM)
        room = self._buffer(process, 65_536)
        call = ("recvfrom", sock.fileno(), room, 65_536, 0, 0, 0)
        self._sinks.append(Job(self.network, process, [call], log=self._logs))
        self._sinks[0].wait("datagrams")

    def _source(self, process: Process) -> None:
        sock = process.socket(self.family, pysocket.SOCK_DGRAM)
        sock.connect((self.address, self.port))
        data = self._buffer(process, self._size)
        job = Job(
            self.network,
            process,
            [("sendto", sock.fileno(), data, self._size, 0, 0, 0)],
            interval_ns=self._interval,
            rounds=max(1, round(self._seconds * 1e9 / self._interval)),
            tolerate=(0,),
        )
        self.sent = job.wait("the next datagram's time")
        self.network.sleep(self._drain)
        self.received = self._sinks[0].stats
        self._sinks[0].stop()

    @property
    def lost(self) -> int:
        """Datagrams that were sent and did not arrive."""
        if self.sent is None or self.received is None:
            raise UsageError("it has not ended: network.run() lets it")
        return self.sent.rounds - self.sent.failed - self.received.rounds

    @property
    def goodput(self) -> float:
        """Bits per second of payload that arrived."""
        got = self.received
        if got is None or got.last_ns == got.first_ns:
            return 0.0
        return (got.moved - self._size) * 8e9 / (got.last_ns - got.first_ns)

    @property
    def arrivals(self) -> list[int]:
        """When datagrams arrived, ns; as many as `log`."""
        return [one.end_ns for one in self._sinks[0].rounds] if self._sinks else []


class Requests(Flow):
    """`count` requests of `request` bytes, each answered by `response` bytes, over one TCP
    connection, one after the other."""

    def __init__(
        self,
        network: Network,
        a: Node | str,
        b: Node | str,
        *,
        count: int,
        request: int = 64,
        response: int = 1024,
        interval: float = 0.0,
        at: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, a, b, **options)
        self._count, self._request, self._response = count, request, response
        nanoseconds(interval, "interval=")
        self._interval = interval
        self.latencies: list[float] = []
        """Seconds from each request to its answer."""
        self._start("server", self._serve, self.b)
        self._start("client", self._ask, self.a, at)

    def _calls(self, sock: Socket, process: Process, sends: int, gets: int) -> Any:
        fd = sock.fileno()
        out, room = self._buffer(process, sends), self._buffer(process, gets)
        return ("sendto", fd, out, sends, 0x4000, 0, 0), ("recvfrom", fd, room, gets, WAITALL, 0, 0)

    def _serve(self, process: Process) -> None:
        sock, _ = self._server(process, pysocket.SOCK_STREAM).accept()
        sock.setsockopt(pysocket.IPPROTO_TCP, pysocket.TCP_NODELAY, 1)
        send, receive = self._calls(sock, process, self._response, self._request)
        Job(self.network, process, [receive, send]).wait("requests")

    def _ask(self, process: Process) -> None:
        sock = process.socket(self.family, pysocket.SOCK_STREAM)
        sock.connect((self.address, self.port))
        sock.setsockopt(pysocket.IPPROTO_TCP, pysocket.TCP_NODELAY, 1)
        job = Job(
            self.network,
            process,
            self._calls(sock, process, self._request, self._response),
            rounds=self._count,
            interval_ns=round(self._interval * 1e9),
            log=self._count,
        )
        stats = job.wait("answers")
        self.latencies = [(one.end_ns - one.begin_ns) / 1e9 for one in job.rounds]
        sock.close()
        if stats.error:
            raise OSError(stats.error, f"asking {self.address} port {self.port}")


class Echo(NamedTuple):
    """One echo request: its number, when it was sent, seconds to the reply (None: lost)."""

    number: int
    sent: float
    rtt: float | None


class Ping(Flow):
    """ICMP echo requests, `interval` seconds apart, each waited for until the next."""

    def __init__(
        self,
        network: Network,
        a: Node | str,
        b: Node | str | None = None,
        *,
        count: int = 4,
        interval: float = 1.0,
        size: int = 56,
        at: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, a, b or a, **options)
        nanoseconds(interval, "interval=")
        self._count, self._interval, self._size = count, interval, size
        self.echoes: list[Echo] = []
        self._start("ping", self._ping, self.a, at)

    def _ping(self, process: Process) -> None:
        six = self.family == pysocket.AF_INET6
        proto = pysocket.IPPROTO_ICMPV6 if six else pysocket.IPPROTO_ICMP
        sock = process.socket(self.family, pysocket.SOCK_RAW, proto)
        network = self.network
        for number in range(self._count):
            begin = network.now
            network_order = struct.pack(">BBHHH", 128 if six else 8, 0, 0, self.port, number)
            packet = network_order + bytes(self._size)
            if not six:
                packet = packet[:2] + struct.pack(">H", checksum(packet)) + packet[4:]
            end = begin + round(self._interval * 1e9)
            got = None
            try:
                sock.sendto(packet, (self.address, 0))
                got = self._reply(sock, six, number, end)
            except (TimeoutError, ConnectionError, OSError):
                got = None
            rtt = None if got is None else (got - begin) / 1e9
            self.echoes.append(Echo(number, begin / 1e9, rtt))
            if number + 1 < self._count and network.now < end:
                network.sleep((end - network.now) / 1e9)

    def _reply(self, sock: Socket, six: bool, number: int, end: int) -> int:
        """When the reply came.  Raises TimeoutError."""
        while True:
            sock.settimeout(max(end - self.network.now, 1) / 1e9)
            data = sock.recv(65_536)
            icmp = data if six else data[(data[0] & 15) * 4 :]
            wanted = (129 if six else 0, self.port, number)
            if len(icmp) >= 8 and (icmp[0], *struct.unpack_from(">HH", icmp, 4)) == wanted:
                return self.network.now

    @property
    def rtts(self) -> list[float]:
        """Seconds, of those that were answered."""
        return [one.rtt for one in self.echoes if one.rtt is not None]

    @property
    def lost(self) -> int:
        """How many were not."""
        return len(self.echoes) - len(self.rtts)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes, or of one more with a zero."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
