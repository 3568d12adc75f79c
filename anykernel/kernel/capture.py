# SPDX-License-Identifier: GPL-2.0
"""Captures of frames, and of any device of the kernel: by a packet socket there."""

from __future__ import annotations

import errno
import socket as pysocket
import struct
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from anykernel.errors import UsageError
from anykernel.host.times import nanoseconds
from anykernel.kernel.abi import IFREQ
from anykernel.kernel.pcap import ETHERNET, RAW, write_pcap

if TYPE_CHECKING:
    from anykernel.kernel.interface import Frame, Instance
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket

ETH_P_ALL = 3
SOL_SOCKET, SOL_PACKET = 1, 263
SO_RCVBUFFORCE, SO_TIMESTAMPNS, PACKET_STATISTICS, PACKET_AUXDATA = 33, 35, 6, 8
BUFFER = 16 << 20
"""Bytes of the kernel's memory that frames may take between two looks."""
LONGEST = 1 << 18
SIOCGIFINDEX = 0x8933
OUTGOING = 4
"""sll_pkttype of what the kernel sent."""
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772
HEADERLESS = {519, 65534, 768, 769, 776, 778, 823}
"""Hardware types (ARPHRD_*) of devices whose frames are IP packets: RAWIP, NONE, tunnels."""
VLAN_VALID, TPID_VALID = 0x10, 0x40
"""TP_STATUS_* of struct tpacket_auxdata."""
AUXDATA = struct.Struct("=IIIHHHH")


def to_scapy(data: bytes) -> Any:
    """An Ethernet frame parsed by scapy."""
    import scapy.layers.inet
    import scapy.layers.inet6  # noqa: F401  (they register their protocols)
    from scapy.layers.l2 import Ether

    return Ether(data)


def packet_to_scapy(data: bytes) -> Any:
    """An IP packet, of either version, parsed by scapy."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    return IPv6(data) if data[:1] and data[0] >> 4 == 6 else IP(data)


class Frames(Sequence["Frame"]):
    """Frames that were captured."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._running = True
        self._received = 0

    @property
    @abstractmethod
    def _device(self) -> str:
        """Of which device."""

    @abstractmethod
    def _take(self) -> Sequence[Frame]:
        """All of them, by now."""

    @abstractmethod
    def stop(self) -> None:
        """No more frames are added.  Twice does no harm."""

    def receive(self, timeout: float = 60) -> Frame:
        """The next frame that the kernel sent or sends, each once, with .data and .time_ns: lets
        time run until then.

        timeout: virtual seconds.  Raises TimeoutError, and UsageError when the capture was stopped
        and has no more.
        """
        instance = self._instance
        limit = instance.now + nanoseconds(timeout, "a timeout", instance.now)
        while True:
            frames = self._take()
            while self._received < len(frames):
                self._received += 1
                if frames[self._received - 1].direction == "tx":
                    return frames[self._received - 1]
            if not self._running:
                raise UsageError("this capture was stopped, and has no more frames")
            if instance.now >= limit:
                raise TimeoutError(errno.ETIMEDOUT, f"{self._device} sent no frame in {timeout} s")
            instance.run(min(instance.next_timer, limit))

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...
    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        return self._take()[index]

    def __len__(self) -> int:
        return len(self._take())

    def __iter__(self) -> Iterator[Frame]:
        return iter(list(self._take()))

    @property
    def sent(self) -> list[bytes]:
        """What the kernel sent."""
        return [frame.data for frame in self._take() if frame.direction == "tx"]

    @property
    def received(self) -> list[bytes]:
        """What it received: of a netdev, what was injected."""
        return [frame.data for frame in self._take() if frame.direction == "rx"]

    def packets(self) -> list[Any]:
        """All frames, parsed by scapy."""
        return [to_scapy(frame.data) for frame in self._take()]


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that a packet socket saw; times count ns since boot."""

    number: int
    time_ns: int
    dev: int
    """Index of its device."""
    direction: Literal["rx", "tx"]
    data: bytes


class DeviceCapture(Frames):
    """The frames that pass a device of the kernel, whatever it is, as tcpdump there shows them;
    made by capture() of a process.

    Of loopback devices each frame is there once, as it is received.  What the stack doesn't cut up
    or sum for such a device is as it is: super-frames, checksums of the pseudo header.
    """

    def __init__(self, process: Process, device: str) -> None:
        super().__init__(process.instance)
        self._process = process
        self._name = device
        self._frames: list[Seen] = []
        self._socket = process.socket(
            pysocket.AF_PACKET, pysocket.SOCK_RAW | pysocket.SOCK_NONBLOCK, 0
        )
        try:
            self._index, self._kind = _listen(self._socket, device)
        except OSError as error:
            self._socket.close()
            raise UsageError(f"can't capture on {device!r}: {error.strerror}") from error

    def __enter__(self) -> DeviceCapture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more frames are added.  Twice does no harm."""
        if self._running:
            self._take()
            self._running = False
            self._socket.close()

    @property
    def _device(self) -> str:
        return self._name

    @property
    def link(self) -> int:
        """The link type for pcap files: ETHERNET or RAW (IP packets)."""
        return RAW if self._kind in HEADERLESS else ETHERNET

    def packets(self) -> list[Any]:
        """All frames, parsed by scapy."""
        parse = to_scapy if self.link == ETHERNET else packet_to_scapy
        return [parse(frame.data) for frame in self._take()]

    def _take(self) -> Sequence[Seen]:
        if self._running:
            ahead = _time_of_day(self._process) - self._process.instance.now
            while (seen := self._next(self._socket, ahead)) is not None:
                if self._kind != ARPHRD_LOOPBACK or seen.direction == "rx":
                    self._frames.append(seen)
            self._check_lost(self._socket)
        return self._frames

    def _next(self, sock: Socket, ahead: int) -> Seen | None:
        """A frame that waits; `ahead`: ns that the time of day is ahead of the kernel's clock."""
        try:
            data, control, _, address = sock.recvmsg(LONGEST, 128)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            return self._next(sock, ahead)  # once each time that it goes down
        time_ns = 0
        for level, kind, value in control:
            if (level, kind) == (SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, ns = struct.unpack("=qq", value)
                time_ns = seconds * 10**9 + ns - ahead
            elif (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                data = _with_tag(data, *AUXDATA.unpack(value))
        way: Literal["rx", "tx"] = "tx" if address[2] == OUTGOING else "rx"
        return Seen(len(self._frames), time_ns, self._index, way, data)

    def _check_lost(self, sock: Socket) -> None:
        lost = struct.unpack("=II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        if lost:
            raise UsageError(
                f"{lost} frames of {self._name} are lost: more than {BUFFER >> 20} MiB of them "
                "passed since the capture was looked at last; look at it (len() will do) more often"
            )


def _listen(sock: Socket, device: str) -> tuple[int, int]:
    """Makes a packet socket hear all of a device: its index and hardware type (ARPHRD_*)."""
    for level, option, value in (
        (SOL_SOCKET, SO_RCVBUFFORCE, BUFFER // 2),  # it counts double
        (SOL_SOCKET, SO_TIMESTAMPNS, 1),
        (SOL_PACKET, PACKET_AUXDATA, 1),
    ):
        sock.setsockopt(level, option, value)
    sock.bind((device, ETH_P_ALL))
    request = bytearray(device.encode()[:15].ljust(IFREQ, b"\0"))
    sock.process.syscall("ioctl", sock.fileno(), SIOCGIFINDEX, request)
    return struct.unpack_from("=i", request, 16)[0], int(sock.getsockname()[3])


def _time_of_day(process: Process) -> int:
    """CLOCK_REALTIME in ns."""
    now = bytearray(16)
    process.syscall("clock_gettime", 0, now)
    seconds, ns = struct.unpack("=qq", now)
    return int(seconds * 10**9 + ns)


def _with_tag(
    data: bytes, status: int, length: int, kept: int, mac: int, net: int, tci: int, tpid: int
) -> bytes:
    """The frame with the VLAN tag that the stack has taken out: struct tpacket_auxdata."""
    if not status & VLAN_VALID or len(data) < 12:
        return data
    kind = tpid if status & TPID_VALID else 0x8100
    return data[:12] + struct.pack("!HH", kind, tci) + data[12:]


@contextmanager
def device_pcap(process: Process, device: str, path: str | Path) -> Iterator[DeviceCapture]:
    """Writes what passes a device during the with block to a pcap file; also when that fails."""
    capture = DeviceCapture(process, device)
    try:
        yield capture
    finally:
        capture.stop()
        write_pcap(path, capture, capture.link)
