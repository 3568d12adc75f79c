# SPDX-License-Identifier: GPL-2.0
"""RIPng (RFC 2080), a distance-vector routing protocol, as a program for nodes.

It does what a routing daemon (quagga, FRR) does: it reads its kernel's devices and addresses,
talks to its neighbours with UDP, and sets the routes that it learns through netlink.  Devices need
no global addresses: next hops are link-local.
"""

from __future__ import annotations

import ipaddress
import random
import socket as pysocket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anykernel.kernel.rtnl import Device, Rtnl
from anykernel.net.distances import INFINITY, Heard, Prefix, Table, Timers

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket
    from anykernel.net.network import Network
    from anykernel.net.node import Node

PORT, GROUP, VERSION = 521, "ff02::9", 1
REQUEST, RESPONSE = 1, 2
NEXT_HOP = 0xFF
"""The metric of an entry that is no route, but says whom the routes after it are to go to."""
ENTRY = struct.Struct(">16sHBB")
PROTOCOL = 189
"""RTPROT_RIP: marks our routes in the kernel."""
EVERYTHING = ipaddress.IPv6Network("::/0")
RUNNING = 0x1 | 0x40
"""IFF_UP | IFF_RUNNING."""
LOOPBACK = 0x8
GROUPS = 0x1 | 0x100
"""RTMGRP_LINK | RTMGRP_IPV6_IFADDR."""


def pack(command: int, entries: Iterable[tuple[Prefix, int]]) -> bytes:
    """A message with (network, metric) entries."""
    parts = [struct.pack(">BBH", command, VERSION, 0)]
    for prefix, metric in entries:
        parts.append(ENTRY.pack(prefix.network_address.packed, 0, prefix.prefixlen, metric))
    return b"".join(parts)


def unpack(message: bytes, sender: str) -> tuple[int, list[Heard]]:
    """The command and what is said, entries that can't be left out.  Command 0: no message."""
    if len(message) < 4 or message[1] != VERSION or message[0] not in (REQUEST, RESPONSE):
        return 0, []
    found, gateway = [], sender
    for packed, _, length, metric in ENTRY.iter_unpack(
        message[4 : 4 + (len(message) - 4) // 20 * 20]
    ):
        if metric == NEXT_HOP:
            hop = ipaddress.IPv6Address(packed)
            gateway = str(hop) if hop.is_link_local else sender
            continue
        with suppress(ValueError):
            prefix = ipaddress.IPv6Network((packed, length))
            first = prefix.network_address
            if 1 <= metric <= INFINITY and not first.is_multicast and not first.is_link_local:
                found.append(Heard(prefix, metric, gateway))
    return message[0], found


class Router:
    """RIPng on one node; `run` is its program."""

    def __init__(
        self,
        network: Network,
        node: Node,
        timers: Timers | None = None,
        costs: Mapping[str, int] | None = None,
    ) -> None:
        self.network = network
        self.node = node
        self.timers = timers or Timers()
        self.table = Table(self.timers)
        self.changed: float = network.seconds
        """When it last set or removed a route in its kernel: seconds of the network's time."""
        self.sent = 0
        """Messages."""
        self._costs = costs or {}
        self._random = random.Random(node.name)
        self._devices: dict[int, Device] = {}
        """Those to talk over."""
        self._own: set[str] = set()
        self._joined: set[int] = set()
        self._installed: dict[Prefix, tuple[int, str]] = {}
        self._update = self._triggered = 0.0
        """When the next regular update is due; before when there is no triggered one."""

    def run(self, process: Process) -> None:
        """Routes, without an end."""
        with (
            process.socket(pysocket.AF_NETLINK, pysocket.SOCK_RAW, 0) as events,
            process.socket(pysocket.AF_INET6, pysocket.SOCK_DGRAM) as udp,
            Rtnl(process) as rtnl,
        ):
            events.bind((0, GROUPS))
            self._options(udp)
            self._update = self.network.seconds + self._random.uniform(0, self.timers.spread)
            self._scan(udp, rtnl)
            while True:
                self._install(rtnl)
                self._speak(udp)
                wait = max(self._due() - self.network.seconds, 0)
                ready, _, _ = process.select([udp, events], [], [], wait + 1e-9)
                if events in ready:
                    self._forget(events)
                    self._scan(udp, rtnl)
                if udp in ready:
                    self._listen(udp)

    def _options(self, udp: Socket) -> None:
        six = pysocket.IPPROTO_IPV6
        udp.setsockopt(six, pysocket.IPV6_V6ONLY, 1)
        udp.setsockopt(six, pysocket.IPV6_MULTICAST_LOOP, 0)
        udp.setsockopt(six, pysocket.IPV6_MULTICAST_HOPS, 255)
        udp.setsockopt(six, pysocket.IPV6_RECVHOPLIMIT, 1)
        udp.bind(("::", PORT))

    def _forget(self, events: Socket) -> None:
        with suppress(BlockingIOError):
            while events.recv(1 << 16, pysocket.MSG_DONTWAIT):
                pass

    def _due(self) -> float:
        """When it has to do something by itself."""
        due = min(self._update, self.table.due)
        return min(due, self._triggered) if self.table.pending else due

    # Devices

    def _scan(self, udp: Socket, rtnl: Rtnl) -> None:
        """Looks at devices and addresses: what came, what went."""
        devices = {device.ifindex: device for device in rtnl.devices()}
        up = {index for index, device in devices.items() if device.flags & RUNNING == RUNNING}
        prefixes: dict[Prefix, int] = {}
        talks: dict[int, Device] = {}
        self._own = set()
        for index, item in rtnl.addresses(tentative=False):
            if index not in devices or not isinstance(item, ipaddress.IPv6Interface):
                continue
            if devices[index].flags & LOOPBACK:
                if not item.ip.is_loopback:
                    prefixes[item.network] = index
            elif index in up and item.ip.is_link_local:
                talks[index] = devices[index]
                self._own.add(str(item.ip))
            elif index in up:
                prefixes[item.network] = index
        now = self.network.seconds
        for index in self._devices.keys() - talks.keys():
            self.table.lose(now, index)
        self.table.connect(now, prefixes)
        new = talks.keys() - self._devices.keys()
        self._devices = talks
        for index in sorted(new):
            self._join(udp, index)
            self._send(udp, pack(REQUEST, [(EVERYTHING, INFINITY)]), GROUP, index)
            self._tell(udp, self.table.news(index, everything=True), index)

    def _join(self, udp: Socket, index: int) -> None:
        if index not in self._joined:
            request = pysocket.inet_pton(pysocket.AF_INET6, GROUP) + struct.pack("=I", index)
            udp.setsockopt(pysocket.IPPROTO_IPV6, pysocket.IPV6_JOIN_GROUP, request)
            self._joined.add(index)

    # Messages

    def _send(self, udp: Socket, message: bytes, to: str, index: int, port: int = PORT) -> None:
        """A device that has just gone down takes nothing: that is no error."""
        with suppress(OSError):
            udp.sendto(message, (to, port, 0, index))
            self.sent += 1

    def _listen(self, udp: Socket) -> None:
        message, control, _, (sender, port, _, index) = udp.recvmsg(1 << 16, 64)
        device = self._devices.get(index)
        if device is None or sender in self._own:
            return
        hops = next(
            (
                struct.unpack("=i", data)[0]
                for _, kind, data in control
                if kind == pysocket.IPV6_HOPLIMIT
            ),
            0,
        )
        command, heard = unpack(message, sender)
        if command == REQUEST:
            self._answer(udp, heard, message, (sender, port), index)
        elif command == RESPONSE and port == PORT and hops == 255 and _link_local(sender):
            cost = self._costs.get(device.name, 1)
            self.table.hear(self.network.seconds, index, heard, sender, cost)

    def _answer(
        self, udp: Socket, asked: list[Heard], message: bytes, to: tuple[str, int], index: int
    ) -> None:
        """To a request for everything, or (from somebody who looks for faults) for some."""
        if len(message) == 24 and message[20:] == bytes([0, 0, 0, INFINITY]):
            self._tell(udp, self.table.news(index, everything=True), index, *to)
        elif asked:
            entries = [(one.prefix, self.table.metric(one.prefix)) for one in asked]
            self._tell(udp, entries, index, *to)

    def _tell(
        self,
        udp: Socket,
        entries: list[tuple[Prefix, int]],
        index: int,
        to: str = GROUP,
        port: int = PORT,
    ) -> None:
        """Responses that each fit into the device's MTU."""
        most = (self._devices[index].mtu - 40 - 8 - 4) // ENTRY.size
        for start in range(0, len(entries), most):
            message = pack(RESPONSE, entries[start : start + most])
            self._send(udp, message, to, index, port)

    def _speak(self, udp: Socket) -> None:
        """The updates that are due."""
        now = self.network.seconds
        self.table.tick(now)
        regular = now >= self._update
        if not regular and not (self.table.pending and now >= self._triggered):
            return
        for index in self._devices:
            self._tell(udp, self.table.news(index, everything=regular), index)
        self.table.told()
        self._triggered = now + self._random.uniform(*self.timers.triggered)
        if regular:
            spread = self._random.uniform(-self.timers.spread, self.timers.spread)
            self._update = now + self.timers.update + spread

    # The kernel's routes

    def _install(self, rtnl: Rtnl) -> None:
        """Makes them what the table says."""
        wanted = self.table.routes()
        if wanted == self._installed:
            return
        gone = self._installed.keys() - wanted.keys()
        # A device that goes down takes its routes along, so that there may be nothing to remove.
        with suppress(ProcessLookupError), rtnl.batch():
            for prefix in sorted(gone):
                rtnl.remove_route(prefix, PROTOCOL)
        with rtnl.batch():
            for prefix, (index, gateway) in wanted.items():
                if self._installed.get(prefix) != (index, gateway):
                    hop = index, ipaddress.ip_address(gateway)
                    rtnl.replace_route(prefix, [hop], PROTOCOL)
        self._installed = wanted
        self.changed = self.network.seconds


def _link_local(address: str) -> bool:
    return ipaddress.IPv6Address(address).is_link_local


def start(
    network: Network, nodes: Iterable[Node], timers: Timers | None = None, **options: Any
) -> dict[str, Router]:
    """Lets nodes pass IPv6 packets on and starts a Router on each, as a program that run() doesn't
    wait for: {node's name: Router}."""
    routers = {}
    for node in nodes:
        node.sysctl["net.ipv6.conf.all.forwarding"] = 1
        routers[node.name] = router = Router(network, node, timers, **options)
        network.start(router.run, on=node, name="ripng", daemon=True)
    return routers
