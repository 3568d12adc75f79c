# SPDX-License-Identifier: GPL-2.0
"""Network devices whose other end is the test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from anykernel.errors import AnykernelError, UsageError
from anykernel.host.frames import LONGEST
from anykernel.host.stretch import Since
from anykernel.kernel import quiet
from anykernel.kernel.capture import Frames
from anykernel.kernel.capture import to_scapy as to_scapy
from anykernel.kernel.pcap import write_pcap
from anykernel.kernel.rtnl import LinkInfo, Rtnl

if TYPE_CHECKING:
    from anykernel.kernel.interface import Frame
    from anykernel.kernel.kernel import Kernel
    from anykernel.kernel.peer import Peer


def frame_bytes(frame: Any) -> bytes:
    """A frame given as bytes or as a packet of scapy.  Raises UsageError for an impossible size."""
    data = frame if isinstance(frame, bytes) else bytes(frame)
    if not 0 < len(data) <= LONGEST:
        raise UsageError(f"a frame has 1 to {LONGEST} bytes, not {len(data)}")
    return data


def parse_mac(mac: str | bytes) -> bytes:
    """Six bytes from "02:00:00:00:00:01".  Raises UsageError."""
    try:
        data = bytes(mac) if isinstance(mac, bytes) else bytes.fromhex(mac.replace(":", " "))
    except ValueError:
        data = b""
    if len(data) != 6:
        raise UsageError(f"{mac!r} is no MAC address, such as 02:00:00:00:00:01")
    return data


class Capture(Frames):
    """The frames that pass a netdev, all of them, from the capture's beginning to its stop()."""

    def __init__(self, netdev: Netdev) -> None:
        self._netdev = netdev
        self._frames: list[Frame] = []
        super().__init__(netdev.kernel.instance)
        self._stop = netdev.kernel.instance.listen(self._add)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more frames are added.  Twice does no harm."""
        if self._running:
            self._running = False
            self._stop()

    def _add(self, frame: Frame) -> None:
        if frame.dev == self._netdev.dev and not self._netdev.removed:
            self._frames.append(frame)

    def _take(self) -> list[Frame]:
        if self._running:
            self._netdev.check_life()  # what a removed one has sent stays
            self._netdev.kernel.instance.drain()
        return self._frames

    @property
    def _device(self) -> str:
        return self._netdev.last.name


class Netdev:
    """An Ethernet device of the kernel; made by kernel.add_netdev().

    What it is called, where it is and how it is set is asked of the kernel each time: it may get
    another name or MAC address, or be moved to another network namespace, where its methods work
    all the same.
    """

    def __init__(self, kernel: Kernel, dev: int, last: LinkInfo) -> None:
        self.kernel = kernel
        self.dev = dev
        self.last = last
        """As it was when the kernel was asked last, for reports."""
        self._state = kernel.state
        self._removed = Since(False)
        self._silent = False

    def __repr__(self) -> str:
        last = self.last
        return f"<Netdev {last.name} ifindex={last.ifindex} mac={last.mac.hex(':')}>"

    def _find(self) -> tuple[LinkInfo, int | None]:
        """As it is now, and its namespace, as Kernel.look() has it."""
        self.check()
        self.last, namespace = self.kernel.look(self)
        return self.last, namespace

    def info(self) -> LinkInfo:
        """As it is now.  Raises UsageError when it is no more, or while the kernel's first process,
        which asks, is in a call."""
        info, namespace = self._find()
        if namespace is not None:
            self.kernel.os.close(namespace)
        return info

    def seen(self) -> LinkInfo:
        """As it is now; of one that is no more, and of a dead kernel, as it was asked for last."""
        with suppress(AnykernelError):
            self.info()
        return self.last

    @property
    def name(self) -> str:
        """What it is called, as seen() has it."""
        return self.seen().name

    @property
    def ifindex(self) -> int:
        """Its number in the namespace that it is in now."""
        return self.info().ifindex

    @property
    def mac(self) -> str:
        return self.mac_bytes.hex(":")

    @property
    def mac_bytes(self) -> bytes:
        """Of one that was restored away: what it was."""
        return (self.info() if self._state.alive else self.last).mac

    @property
    def mtu(self) -> int:
        """Bytes; setting it asks the kernel.  Raises UsageError for what is no number of bytes,
        OSError for one that the kernel refuses."""
        return self.info().mtu

    @mtu.setter
    def mtu(self, value: int) -> None:
        if not isinstance(value, int) or not 0 <= value < 1 << 32:
            raise UsageError(f"the MTU is a number of bytes, not {value!r}")
        self._rtnl("set_mtu", value)

    @property
    def removed(self) -> bool:
        """Whether remove() was called, and no restore has brought it back."""
        return self._removed.value

    def check(self) -> None:
        """Raises UsageError when the device is no more."""
        if self.removed:
            raise UsageError(f"{self.last.name} was removed")
        self.check_life()

    def check_life(self) -> None:
        """Raises UsageError when the state in which it was made was restored away."""
        if not self._state.alive:
            raise UsageError(
                f"{self.last.name} belongs to a state that was restored away: add it again, or add "
                "it before the snapshot"
            )

    # Frames

    def inject(self, *frames: Any, gso_size: int = 0) -> None:
        """The device receives `frames` (bytes or scapy packets); the kernel handles all it can at
        the current time.

        `gso_size`: each is what GRO in hardware hands over: TCP segments or UDP datagrams with so
        many bytes of payload each, the last perhaps with fewer, put together to one frame, which
        may be longer than the MTU, with the checksum of that frame.  Needs the features
        rx-checksum and rx-gro-hw; one that can't be so is taken as a frame like others.

        Raises UsageError for a frame of 0 or more than 65,557 bytes, and another gso_size."""
        self.check()
        if type(gso_size) is not int or not 0 <= gso_size < 0xFFFF:
            raise UsageError(f"gso_size={gso_size!r}: bytes of payload of a segment, below 65535")
        self.kernel.instance.inject(self.dev, [frame_bytes(frame) for frame in frames], gso_size)

    @overload
    def exchange(self, frames: bytes) -> list[bytes]: ...
    @overload
    def exchange(self, frames: Any) -> Any: ...
    def exchange(self, frames: Any) -> Any:
        """Injects and returns what the device sends in answer, at the current time.

        A frame gives a list of frames; a list (or another iterable) of frames gives a list of such
        lists, with the frames injected one after the other.  bytes give bytes, scapy packets give
        scapy packets.
        """
        self.check()
        if isinstance(frames, bytes):
            return self.kernel.instance.exchange(self.dev, (frame_bytes(frames),))[0]
        if _is_packet(frames):
            answers = self.kernel.instance.exchange(self.dev, (frame_bytes(frames),))[0]
            return [to_scapy(answer) for answer in answers]
        given = list(frames)
        found = self.kernel.instance.exchange(self.dev, [frame_bytes(frame) for frame in given])
        return [
            [to_scapy(answer) for answer in answers] if _is_packet(frame) else answers
            for frame, answers in zip(given, found, strict=True)
        ]

    def receive(self, timeout: float = 60) -> Frame:
        """The next frame that the device sends from now on, as Capture.receive(): lets time run
        until then.  What may be sent before is for a capture()."""
        with self.capture() as capture:
            return capture.receive(timeout)

    def recent(self) -> Sequence[Frame]:
        """The last frames that passed, both ways, as many as the host keeps; of a network's node
        only those since a capture() began, as its links keep the others."""
        self.check()
        return self.kernel.instance.captured(self.dev, clear=False)

    def capture(self) -> Capture:
        """Collects the frames from now on: a sequence of frames with time_ns, direction, data.

        As a with block it ends there.
        """
        self.kernel.record()
        return Capture(self)

    @contextmanager
    def pcap(self, path: str | Path) -> Iterator[Capture]:
        """Writes what passes during the with block to a pcap file; also when the block fails."""
        capture = self.capture()
        try:
            yield capture
        finally:
            capture.stop()
            write_pcap(path, capture)

    # Link

    def up(self) -> None:
        self._rtnl("up", True)

    def down(self) -> None:
        self._rtnl("up", False)

    @contextmanager
    def link(self) -> Iterator[tuple[Rtnl, int]]:
        """An rtnetlink socket of the namespace that it is in now, and its ifindex there."""
        info, namespace = self._find()
        try:
            with Rtnl(self.kernel, namespace) as rtnl:
                yield rtnl, info.ifindex
        finally:
            if namespace is not None:
                self.kernel.os.close(namespace)

    def _rtnl(self, method: str, *args: Any) -> None:
        with self.link() as (rtnl, ifindex):
            getattr(rtnl, method)(ifindex, *args)

    @property
    def addresses(self) -> list[str]:
        """Its addresses now, with prefix lengths, IPv4 first; link-local ones, too."""
        with self.link() as (rtnl, ifindex):
            return [str(one) for index, one in rtnl.addresses() if index == ifindex]

    def add_address(self, *addresses: str, dad: bool = False) -> None:
        """Adds "10.0.0.1/24" or "fd00::1/64"; with `dad`, IPv6 ones are first looked for on the
        link, as usual."""
        if self._silent and quiet.has_ipv6(addresses):
            quiet.speak(self.kernel, self.name)
        with self.link() as (rtnl, ifindex):
            for address in addresses:
                rtnl.add_address(ifindex, address, dad)
        self.reported(addresses)

    def hush(self, addresses: Sequence[str]) -> None:
        """Before it is up: IPv6 is to say nothing on it unasked."""
        self._silent = True
        quiet.hush(self.kernel, self.last.name, addresses)

    def reported(self, addresses: Sequence[str]) -> None:
        """It got these addresses: where IPv6 is to be silent, what it has to say is said."""
        if self._silent and quiet.has_ipv6(addresses):
            quiet.report(self.kernel)

    def add_route(self, network: str, via: str | None = None) -> None:
        """Adds a route through this device: a network or "default"."""
        self._rtnl("add_route", network, via)

    def add_neighbour(self, address: str, mac: str | bytes) -> None:
        """Adds a permanent neighbour entry."""
        self._rtnl("add_neighbour", address, parse_mac(mac))

    def add_peer(self, *addresses: str, mac: str | bytes = "02:00:00:00:ff:01") -> Peer:
        """A simulated neighbour with these addresses, which the kernel already knows."""
        from anykernel.kernel.peer import Peer

        peer = Peer(self, addresses, parse_mac(mac))
        with self.link() as (rtnl, ifindex):
            for address in addresses:
                rtnl.add_neighbour(ifindex, address, peer.mac_bytes)
        return peer

    @property
    def carrier(self) -> bool:
        """Whether the link is there; can be set.  A device that is down has none."""
        info = self.info()
        return info.up and info.carrier

    @carrier.setter
    def carrier(self, up: bool) -> None:
        self.check()
        self.kernel.instance.netdev_carrier(self.dev, bool(up))
        self.kernel.instance.run()

    @property
    def statistics(self) -> dict[str, int]:
        """rx_packets, tx_bytes, rx_dropped ..."""
        return dict(sorted(self.info().statistics.items()))

    def remove(self) -> None:
        """Unplugs the device."""
        self.check()
        self.kernel.instance.netdev_del(self.dev)
        self.kernel.instance.drain()  # captures have its last frames; another may get its number
        self._removed.set(True, self.kernel.state)
        self.kernel.forget(self)


def _is_packet(frame: Any) -> bool:
    """Whether it is scapy's, without importing scapy."""
    return not isinstance(frame, bytes | bytearray | list | tuple) and hasattr(frame, "layers")
