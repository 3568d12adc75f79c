# SPDX-License-Identifier: GPL-2.0
"""What everybody sets up, in one line each: links, addresses, routes, neighbours, nexthop objects,
filters.  The rest is pyroute2's."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from anykernel.errors import UsageError
from anykernel.kernel import hops
from anykernel.kernel.hops import Hop
from anykernel.kernel.rtnl import CREATE, NEWROUTE, Rtnl, interface

if TYPE_CHECKING:
    from anykernel.kernel.netdev import Netdev
    from anykernel.kernel.nft import Nft
    from anykernel.kernel.process import Process

    Device: TypeAlias = "str | int | Netdev"

SIOCGIFINDEX = 0x8933
BLOCKS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
"""Of clsact: TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) and so on."""
CLSACT = 0xFFFF0000
ANYWHERE = ("link", "master")
"""Attributes that are devices."""


class Links:
    """The network of a process' namespace.  Devices are given by name, by ifindex or as Netdev."""

    @contextmanager
    def _ip(self: Process) -> Iterator[Any]:  # type: ignore[misc]
        made = self.netlink()
        try:
            yield made
        finally:
            made.close()

    def ifindex(self: Process, device: Device) -> int:  # type: ignore[misc]
        """A device's number in this process' namespace.  Raises UsageError where there is none of
        that name."""
        if isinstance(device, int):
            return device
        if not isinstance(device, str):
            return device.ifindex
        request = bytearray(device.encode()[:15].ljust(40, b"\0"))
        with self.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                self.syscall("ioctl", sock.fileno(), SIOCGIFINDEX, request)
            except OSError as error:
                raise UsageError(f"there is no network device {device!r}") from error
        return int(struct.unpack_from("=i", request, 16)[0])

    def link_add(  # type: ignore[misc]
        self: Process,
        kind: str,
        name: str,
        *,
        up: bool = True,
        addresses: Iterable[str] = (),
        **attributes: Any,
    ) -> int:
        """Adds a device, as `ip link add NAME type KIND`, and returns its ifindex.

        attributes: those of pyroute2's ``link("add", ...)``: peer="veth1", vlan_id=5 ...; `link`
        and `master` may be names.  It is up unless it shouldn't be, and its addresses are usable
        at once.  Raises OSError for what the kernel refuses (FileExistsError: the name is taken).
        """
        addresses = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        for address in addresses:
            interface(address)  # a wrong one is found before the device is there
        for one in ANYWHERE:
            if one in attributes:
                attributes[one] = self.ifindex(attributes[one])
        with self._ip() as ip, refused():
            ip.link("add", ifname=name, kind=kind, **attributes)
        index = self.ifindex(name)
        with Rtnl(self) as rtnl:
            if up:
                rtnl.up(index)
            for address in addresses:
                rtnl.add_address(index, address)
        return index

    def link_set(self: Process, device: Device, **attributes: Any) -> None:  # type: ignore[misc]
        """Changes a device: master="br0" (0: none), mtu=, state="up", address=, net_ns_fd= ..., as
        pyroute2's ``link("set", ...)``."""
        if "master" in attributes:
            attributes["master"] = self.ifindex(attributes["master"])
        with self._ip() as ip, refused():
            ip.link("set", index=self.ifindex(device), **attributes)

    def link_del(self: Process, device: Device) -> None:  # type: ignore[misc]
        """Removes a device."""
        with self._ip() as ip, refused():
            ip.link("del", index=self.ifindex(device))

    def address_add(  # type: ignore[misc]
        self: Process, device: Device, *addresses: str, dad: bool = False
    ) -> None:
        """Adds "10.0.0.1/24" or "fd00::1/64", usable at once unless `dad`."""
        index = self.ifindex(device)
        with Rtnl(self) as rtnl:
            for address in addresses:
                rtnl.add_address(index, address, dad)

    def route_add(  # type: ignore[misc]
        self: Process,
        network: str,
        *,
        via: str | None = None,
        device: Device | None = None,
        nexthop: int | None = None,
        table: int | None = None,
    ) -> None:
        """Adds a route to a network or "default" (of IPv6: "::/0", or `via` says so): through a
        gateway, a device, or a nexthop object.  Raises OSError, UsageError."""
        index = None if device is None else self.ifindex(device)
        body = hops.route(network, Hop(index, via, nexthop), table)
        with Rtnl(self) as rtnl:
            rtnl.request(NEWROUTE, CREATE, body)

    def neighbour_add(  # type: ignore[misc]
        self: Process, device: Device, address: str, mac: str | bytes
    ) -> None:
        """Adds a permanent neighbour entry."""
        from anykernel.kernel.netdev import parse_mac

        index = self.ifindex(device)
        with Rtnl(self) as rtnl:
            rtnl.add_neighbour(index, address, parse_mac(mac))

    def nexthop_add(  # type: ignore[misc]
        self: Process,
        number: int,
        *,
        via: str | None = None,
        device: Device | None = None,
        group: Iterable[int | tuple[int, int]] = (),
        blackhole: bool = False,
        version: int = 4,
    ) -> None:
        """Adds nexthop object `number`: a gateway and its device, a device alone or a blackhole
        (of IP `version`), or a group of other objects' numbers, or (number, weight)."""
        index = None if device is None else self.ifindex(device)
        members = [(one, 1) if isinstance(one, int) else one for one in group]
        body = hops.nexthop(number, Hop(index, via), members, blackhole, version)
        with Rtnl(self) as rtnl:
            rtnl.request(hops.NEWNEXTHOP, CREATE, body)

    def flower_add(  # type: ignore[misc]
        self: Process,
        device: Device,
        *,
        direction: str = "ingress",
        action: Any = "drop",
        **matches: Any,
    ) -> None:
        """Adds a flower filter to a device's ingress or egress, with the clsact qdisc for it.

        matches: protocol="ip", ip_proto="tcp", src_ip="10.0.0.0/8", dst_port=80, dst_mac=,
        vlan_id=, prio= ..., as tc-flower(8).  action: "drop", "ok", or a dict (or several) of
        pyroute2: {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": 3}.
        """
        from anykernel.kernel.flower import attributes, register

        if direction not in BLOCKS:
            raise UsageError(f"direction is one of {', '.join(BLOCKS)}, not {direction!r}")
        attributes(matches)
        register()
        index = self.ifindex(device)
        with self._ip() as ip, refused():
            kinds = [one.get_attr("TCA_KIND") for one in ip.get_qdiscs(index=index)]
            if "clsact" not in kinds:
                ip.tc("add", "clsact", index, 0)
            ip.tc("add-filter", "flower", index, parent=BLOCKS[direction], action=action, **matches)

    def nft(self: Process, family: str = "inet") -> Nft:  # type: ignore[misc]
        """nf_tables of a family: ip, ip6, inet, bridge, arp, netdev."""
        from anykernel.kernel.nft import Nft

        return Nft(self, family)


@contextmanager
def refused() -> Iterator[None]:
    """What pyroute2 raises for the kernel's errors as OSError of the subclass that fits."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[1] if len(error.args) > 1 else error)) from None
