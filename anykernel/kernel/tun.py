# SPDX-License-Identifier: GPL-2.0
"""tun and tap devices whose user is the test: what the kernel sends, Python reads."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anykernel.errors import UsageError
from anykernel.host.stretch import Since
from anykernel.kernel.capture import DeviceCapture, device_pcap, packet_to_scapy, to_scapy
from anykernel.kernel.rtnl import Rtnl

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

PATH = "/dev/net/tun"
MISC, MINOR = 10, 200
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI = 1, 2, 0x1000
SIOCGIFINDEX = 0x8933
LONGEST = 1 << 17


class Tun:
    """A tun device (IP packets), or a tap device (Ethernet frames); made by add_tun().

    It exists until it is closed.  Packets are bytes, or packets of scapy.
    """

    def __init__(self, process: Process, name: str, tap: bool) -> None:
        self._process = process
        self.tap = tap
        self._state = process.state
        self._fd = Since(_open(process))
        request = bytearray(struct.pack("=16sH22x", name.encode(), _flags(tap)))
        process.syscall("ioctl", self._fd.value, TUNSETIFF, request)
        self.name = bytes(request[:16]).split(b"\0")[0].decode()
        """As it was called when it was made."""
        with Rtnl(process) as rtnl:
            request = bytearray(struct.pack("=16s24x", self.name.encode()))
            process.syscall("ioctl", rtnl.fileno(), SIOCGIFINDEX, request)
            self.ifindex = int(struct.unpack_from("=i", request, 16)[0])

    def __repr__(self) -> str:
        return f"<{'tap' if self.tap else 'tun'} device {self.name} ifindex={self.ifindex}>"

    def fileno(self) -> int:
        """Its descriptor in the kernel, for select() and poll() there.  Raises UsageError when it
        is closed or was restored away."""
        if not self._state.alive:
            raise UsageError(
                f"{self.name} belongs to a state that was restored away: add it again, or add it "
                "before the snapshot"
            )
        if self._fd.value < 0:
            raise UsageError(f"{self.name} was removed")
        return self._fd.value

    def remove(self) -> None:
        """Closes it: the device is no more."""
        self._process.os.close(self.fileno())
        self._fd.set(-1, self._process.state)

    # Packets

    def inject(self, *packets: Any) -> None:
        """The kernel receives these, one after the other.  Raises OSError for what it refuses
        (EINVAL: no IP packet; EIO: the device is down)."""
        for packet in packets:
            data = packet if isinstance(packet, bytes) else bytes(packet)
            self._process.os.write(self.fileno(), data)

    def receive(self) -> list[bytes]:
        """What the kernel has sent since the last look.  It keeps as many as the device's queue
        has room for (txqueuelen: 500), and drops the rest."""
        return list(self._read())

    def exchange(self, packet: Any) -> list[Any]:
        """Injects a packet and returns what is sent by then: bytes for bytes, scapy packets for a
        scapy packet."""
        self.inject(packet)
        if isinstance(packet, bytes):
            return self.receive()
        parse = to_scapy if self.tap else packet_to_scapy
        return [parse(one) for one in self.receive()]

    def _read(self) -> Iterator[bytes]:
        while True:
            try:
                yield self._process.os.read(self.fileno(), LONGEST)
            except BlockingIOError:
                return

    def capture(self) -> DeviceCapture:
        """Collects what passes it from now on, both ways; see Process.capture()."""
        self.fileno()
        return DeviceCapture(self._process, self.name)

    def pcap(self, path: str | Path) -> AbstractContextManager[DeviceCapture]:
        """Writes what passes during a with block to a pcap file."""
        self.fileno()
        return device_pcap(self._process, self.name, path)

    # Link

    @contextmanager
    def _link(self) -> Iterator[Rtnl]:
        self.fileno()
        with Rtnl(self._process) as rtnl:
            yield rtnl

    def up(self, up: bool = True) -> None:
        with self._link() as rtnl:
            rtnl.up(self.ifindex, up)

    def set_mtu(self, mtu: int) -> None:
        """Bytes.  Raises OSError for what the kernel refuses."""
        with self._link() as rtnl:
            rtnl.set_mtu(self.ifindex, mtu)

    def add_address(self, *addresses: str) -> None:
        """Adds "10.0.0.1/24" or "fd00::1/64", usable at once."""
        with self._link() as rtnl:
            for address in addresses:
                rtnl.add_address(self.ifindex, address)

    def add_route(self, network: str, via: str | None = None) -> None:
        """Adds a route through this device: a network or "default"."""
        with self._link() as rtnl:
            rtnl.add_route(self.ifindex, network, via)


def add_tun(
    process: Process, name: str, tap: bool, addresses: Iterable[str], mtu: int | None, up: bool
) -> Tun:
    """Makes one; see Kernel.add_tun()."""
    made = Tun(process, name, tap)
    if mtu is not None:
        made.set_mtu(mtu)
    if up:
        made.up()
    made.add_address(*((addresses,) if isinstance(addresses, str) else addresses))
    return made


def _flags(tap: bool) -> int:
    return (IFF_TAP if tap else IFF_TUN) | IFF_NO_PI


def _open(process: Process) -> int:
    if not process.os.exists(PATH):
        process.os.makedirs(os.path.dirname(PATH), exist_ok=True)
        process.os.mknod(PATH, stat.S_IFCHR | 0o666, os.makedev(MISC, MINOR))
    try:
        return process.os.open(PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV):
            raise UsageError("this kernel has no tun devices: it is built without TUN") from error
        raise
