# SPDX-License-Identifier: GPL-2.0
"""Plans of addresses: which port gets which, and what can't be; no kernel is asked."""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from anykernel.errors import UsageError
from anykernel.kernel.rtnl import Address, Interface, Network, interface

IPV6 = "fd00::/48"
"""Where IPv6 addresses come from when only asked for with True."""
LONGEST = {4: 30, 6: 64}
"""Prefix length of the smallest subnet that a link is given."""


class End(NamedTuple):
    """A port by its names: "n0", "eth0"."""

    node: str
    device: str

    def __str__(self) -> str:
        return f"{self.node} {self.device}"


class Wire(NamedTuple):
    """A broadcast domain: a link and its ports; `cost` is what a route over it costs."""

    name: str
    ends: tuple[End, ...]
    cost: float = 1


Given = Mapping[End, Iterable[str | Interface]]
Plan = dict[End, tuple[Interface, ...]]


def parse(addresses: Given) -> Plan:
    """Addresses with prefix lengths, as objects.  Raises UsageError."""
    return {
        end: tuple(interface(item) if isinstance(item, str) else item for item in items)
        for end, items in addresses.items()
    }


def pool(text: str, version: int) -> Network:
    """A block that subnets are taken from.  Raises UsageError."""
    example = "10.0.0.0/8" if version == 4 else IPV6
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no network, such as {example}: {error}") from error
    if found.version != version:
        raise UsageError(f"ipv{version}={text!r} is an IPv{found.version} network: give {example}")
    if found.prefixlen > LONGEST[version]:
        raise UsageError(
            f"ipv{version}={text!r} is too small: a link takes a /{LONGEST[version]} or larger"
        )
    return found


class _Pool:
    """Subnets one after the other, past those that are taken; all in integers, for speed."""

    def __init__(self, block: Network, taken: Iterable[Network]) -> None:
        self._block = block
        self._next = int(block.network_address)
        self._end = int(block.broadcast_address) + 1
        self._bits = block.max_prefixlen
        spans = sorted(
            (int(net.network_address), int(net.broadcast_address) + 1)
            for net in taken
            if net.version == block.version
        )
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in spans:  # CIDR blocks are nested or apart
            if not self._ends or start >= self._ends[-1]:
                self._starts.append(start)
                self._ends.append(end)

    def take(self, hosts: int, wire: str) -> Network:
        """The next free subnet with room for `hosts`.  Raises UsageError when there is none."""
        longest = LONGEST[self._block.version]
        length = min(longest, self._bits - (hosts + 1).bit_length())
        size = 1 << (self._bits - length)
        start = -(-self._next // size) * size
        while True:
            # The first taken span that ends behind our start.
            index = bisect.bisect_right(self._ends, start)
            if index == len(self._starts) or self._starts[index] >= start + size:
                break
            start = -(-self._ends[index] // size) * size
        if start + size > self._end:
            raise UsageError(
                f"{self._block} has no /{length} left for the {hosts} ports of {wire}: give "
                f"ipv{self._block.version} a larger network"
            )
        self._next = start + size
        return type(self._block)((start, length))


def _is_subnet(network: Network) -> bool:
    """Whether neighbours can be in it; fe80::/10 and 169.254/16 are the kernel's business."""
    return network.prefixlen < network.max_prefixlen and not network.is_link_local


def _fill(wire: Wire, plan: Plan, used: set[Address], source: _Pool, version: int) -> None:
    """Gives an address that isn't `used` to each end of `wire` that has none of `version`."""
    own = {end: [a for a in plan.get(end, ()) if a.version == version] for end in wire.ends}
    subnets = dict.fromkeys(a.network for items in own.values() for a in items)
    known = [subnet for subnet in subnets if _is_subnet(subnet)]
    without = [end for end, items in own.items() if not any(_is_subnet(a.network) for a in items)]
    if not without:
        return
    subnet = known[0] if known else source.take(len(own), wire.name)
    free = (address for address in subnet.hosts() if address not in used)
    for end in without:
        address = next(free, None)
        if address is None:
            raise UsageError(
                f"{subnet}, which {wire.name} has by hand, has no address left for {end}: give it "
                "one, or the others a shorter prefix"
            )
        used.add(address)
        made = ipaddress.ip_interface((address, subnet.prefixlen))
        plan[end] = (*plan.get(end, ()), made)


def plan_addresses(
    wires: Sequence[Wire],
    ipv4: str | None = "10.0.0.0/8",
    ipv6: str | bool | None = None,
    given: Given | None = None,
) -> Plan:
    """An address for each port that has none, of IPv4, IPv6 (True: of fd00::/48) or both.

    A wire gets the smallest IPv4 subnet that holds its ports, a /30 or larger, and an IPv6 /64, in
    the order of wires; subnets that overlap with `given` ones are skipped.  Where some ports of a
    wire have addresses by hand, the others get one of the same subnet.  The result has the `given`
    ones, too, first.  Raises UsageError for clashes (see check()) and when there is no room.
    """
    blocks = {4: ipv4 or None, 6: (IPV6 if ipv6 is True else ipv6) or None}
    pools = {version: pool(text, version) for version, text in blocks.items() if text}
    if not pools:
        raise UsageError('no addresses were asked for: give ipv4="10.0.0.0/8", ipv6=True or both')
    plan = parse(given or {})
    check(wires, plan)
    taken = [address.network for items in plan.values() for address in items]
    used = {address.ip for items in plan.values() for address in items}
    for version, block in pools.items():
        source = _Pool(block, taken)
        for wire in wires:
            _fill(wire, plan, used, source, version)
    return plan


def check(wires: Sequence[Wire], addresses: Given) -> None:
    """Raises UsageError, naming both ports, for addresses that clash: one given twice on a wire or
    to two nodes, and different subnets of two wires that overlap.

    Link-local addresses may be the same on different wires; a /32 or /128 is no subnet.
    """
    plan = parse(addresses)
    domain = {end: wire.name for wire in wires for end in wire.ends}
    nowhere = next((end for end in plan if end not in domain), None)
    if nowhere is not None:
        raise UsageError(f"{nowhere} has addresses but no link")
    owners: dict[tuple[Address, str], End] = {}
    subnets: dict[tuple[Network, str], End] = {}
    for end, items in plan.items():
        for item in dict.fromkeys(items):
            local = item.ip.is_link_local
            # A node may have an address on two of its wires, but on one of them only once.
            for place in (domain[end], "") if not local else (domain[end],):
                other = owners.setdefault((item.ip, place), end)
                if other is not end and (place or other.node != end.node):
                    where = f" on {place}" if place else ""
                    raise UsageError(
                        f"{other} and {end} have the same address {item.ip}{where}: give one of "
                        "them another"
                    )
            if _is_subnet(item.network):
                subnets.setdefault((item.network, domain[end]), end)
    _check_overlaps(subnets)


def _check_overlaps(subnets: Mapping[tuple[Network, str], End]) -> None:
    """CIDR blocks are nested or apart: in order, those around one are those still open."""
    order = sorted(
        subnets.items(),
        key=lambda item: (
            item[0][0].version, int(item[0][0].network_address), item[0][0].prefixlen,
        ),
    )  # fmt: skip
    around: list[tuple[Network, str, End]] = []
    for (net, wire), end in order:
        while around and (
            around[-1][0].version != net.version
            or around[-1][0].broadcast_address < net.network_address  # type: ignore[operator]
        ):
            around.pop()
        for other, other_wire, other_end in around:
            if other != net and other_wire != wire:
                raise UsageError(
                    f"{net} of {end} on {wire} lies within {other} of {other_end} on "
                    f"{other_wire}: a subnet belongs to one link, so give one of them another"
                )
        around.append((net, wire, end))
