# SPDX-License-Identifier: GPL-2.0
"""nf_tables in one line each: tables, chains and rules made of expressions, by pyroute2's
NFTables, for IPv4 and IPv6.

An expression is a list of pyroute2's; a rule is any number of them, matched from left to right::

    nft = kernel.nft("ip6")
    nft.table("t")
    nft.chain("t", "in", hook="input", policy="drop")
    nft.rule("t", "in", source("2001:db8::/32"), tcp(dport=80), counter(), accept())
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Any

from anykernel.errors import UsageError

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

Expression = list[dict[str, Any]]
FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
DROP, ACCEPT, JUMP, GOTO, RETURN = 0, 1, -3, -4, -5
NETWORK, TRANSPORT = 1, 2
"""Which header: NFT_PAYLOAD_NETWORK_HEADER, _TRANSPORT_HEADER."""
VERDICT, REGISTER, ANOTHER = 0, 1, 2
"""NFT_REG_VERDICT, NFT_REG_1, NFT_REG_2."""
EQUAL, UNEQUAL = 0, 1
MARK, IIFNAME, OIFNAME, NFPROTO, L4PROTO = 3, 6, 7, 15, 16
"""NFT_META_MARK and so on (include/uapi/linux/netfilter/nf_tables.h)."""
CT_STATE = 0
SNAT, DNAT = 0, 1
STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
VERSIONS = {4: 2, 6: 10}
"""NFPROTO_IPV4, NFPROTO_IPV6."""


class Nft:
    """nf_tables of one family in a process' network namespace.  Raises OSError for what the kernel
    refuses, UsageError for what can't be."""

    def __init__(self, process: Process, family: str) -> None:
        from pyroute2.nftables.main import NFTables

        if family not in FAMILIES:
            raise UsageError(f"a family is one of {', '.join(FAMILIES)}, not {family!r}")
        self.family = family
        self.pyroute2: Any = process.netlink(NFTables, nfgen_family=FAMILIES[family])
        """For all that isn't here: sets, dumps ..."""

    def table(self, name: str) -> None:
        """Adds a table."""
        self._do("table", name=name)

    def chain(
        self,
        table: str,
        name: str,
        *,
        hook: str | None = None,
        kind: str = "filter",
        priority: int = 0,
        policy: str = "accept",
    ) -> None:
        """Adds a chain; with a hook (prerouting, input, forward, output, postrouting) packets come
        by.  kind: filter, nat, route.  policy: accept, drop."""
        if hook is None:
            self._do("chain", table=table, name=name)
            return
        verdicts = {"accept": ACCEPT, "drop": DROP}
        if policy not in verdicts:
            raise UsageError(f"a policy is accept or drop, not {policy!r}")
        self._do(
            "chain", table=table, name=name, hook=hook, type=kind, priority=priority,
            policy=verdicts[policy],
        )  # fmt: skip

    def rule(self, table: str, chain: str, *expressions: Expression) -> None:
        """Adds a rule at a chain's end."""
        self._do("rule", table=table, chain=chain, expressions=expressions)

    def _do(self, method: str, **given: Any) -> None:
        from anykernel.kernel.links import refused

        with refused():
            getattr(self.pyroute2, method)("add", **given)


def _expression(name: str, **values: Any) -> dict[str, Any]:
    from pyroute2.nftables.expressions import genex

    made: dict[str, Any] = genex(name, values)
    return made


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _equal(value: bytes) -> dict[str, Any]:
    return _expression("cmp", sreg=REGISTER, op=EQUAL, data=_data(value))


def payload(base: int, offset: int, value: bytes, mask: bytes | None = None) -> Expression:
    """Bytes of a header: where `mask` has bits they are those of `value`."""
    found = [_expression("payload", dreg=REGISTER, base=base, offset=offset, len=len(value))]
    if mask is not None and mask != b"\xff" * len(mask):
        found.append(
            _expression(
                "bitwise",
                sreg=REGISTER,
                dreg=REGISTER,
                len=len(mask),
                mask=_data(mask),
                xor=_data(bytes(len(mask))),
            )
        )
    return [*found, _equal(value)]


def meta(key: int, value: bytes) -> Expression:
    """What is known of a packet beside its bytes; key: MARK, L4PROTO ...."""
    return [_expression("meta", dreg=REGISTER, key=key), _equal(value)]


def _address(text: str, offsets: dict[int, int]) -> Expression:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(f"{text!r} is no address or network") from error
    version = meta(NFPROTO, bytes([VERSIONS[network.version]]))
    packed, mask = network.network_address.packed, network.netmask.packed
    return version + payload(NETWORK, offsets[network.version], packed, mask)


def source(network: str) -> Expression:
    """From an address or a network."""
    return _address(network, {4: 12, 6: 8})


def destination(network: str) -> Expression:
    """To an address or a network."""
    return _address(network, {4: 16, 6: 24})


def protocol(name: str | int) -> Expression:
    """icmp, tcp, udp, icmpv6, sctp, or its number."""
    if name not in PROTOCOLS and not isinstance(name, int):
        raise UsageError(f"a protocol is a number or one of {', '.join(PROTOCOLS)}, not {name!r}")
    return meta(L4PROTO, bytes([PROTOCOLS[name] if isinstance(name, str) else name]))


def tcp(*, sport: int | None = None, dport: int | None = None) -> Expression:
    """TCP, with these ports."""
    return protocol("tcp") + _ports(sport, dport)


def udp(*, sport: int | None = None, dport: int | None = None) -> Expression:
    """UDP, with these ports."""
    return protocol("udp") + _ports(sport, dport)


def _ports(sport: int | None, dport: int | None) -> Expression:
    found: Expression = []
    for offset, port in ((0, sport), (2, dport)):
        if port is not None:
            found += payload(TRANSPORT, offset, port.to_bytes(2, "big"))
    return found


def incoming(device: str) -> Expression:
    """From a device, by name."""
    return meta(IIFNAME, device.encode().ljust(16, b"\0"))


def outgoing(device: str) -> Expression:
    """To a device, by name."""
    return meta(OIFNAME, device.encode().ljust(16, b"\0"))


def mark(value: int) -> Expression:
    """Of a packet that has a mark."""
    return meta(MARK, struct.pack("=I", value))


def set_mark(value: int) -> Expression:
    """Marks a packet."""
    return [
        _expression("immediate", dreg=REGISTER, data=_data(struct.pack("=I", value))),
        _expression("meta", key=MARK, sreg=REGISTER),
    ]


def state(*names: str) -> Expression:
    """Of a connection in one of the states new, established, related, invalid, untracked."""
    if not names or not set(names) <= set(STATES):
        raise UsageError(f"states are {', '.join(STATES)}, not {', '.join(map(repr, names))}")
    bits = struct.pack("=I", sum(STATES[name] for name in names))
    none = _data(bytes(4))
    return [
        _expression("ct", dreg=REGISTER, key=CT_STATE),
        _expression(
            "bitwise", sreg=REGISTER, dreg=REGISTER, len=4, mask=_data(bits), xor=none
        ),
        _expression("cmp", sreg=REGISTER, op=UNEQUAL, data=none),
    ]  # fmt: skip


def counter() -> Expression:
    """Counts packets and bytes."""
    return [_expression("counter")]


def accept() -> Expression:
    return _verdict(ACCEPT)


def drop() -> Expression:
    return _verdict(DROP)


def leave() -> Expression:
    """Back to the chain that jumped here (nft's `return`)."""
    return _verdict(RETURN)


def jump(chain: str) -> Expression:
    return _verdict(JUMP, chain)


def goto(chain: str) -> Expression:
    return _verdict(GOTO, chain)


def _verdict(code: int, chain: str | None = None) -> Expression:
    attributes: list[tuple[str, Any]] = [("NFTA_VERDICT_CODE", code)]
    if chain is not None:
        attributes.append(("NFTA_VERDICT_CHAIN", chain))
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": attributes})]}
    return [_expression("immediate", dreg=VERDICT, data=data)]


def masquerade() -> Expression:
    """The source becomes an address of the device (in a nat chain of postrouting)."""
    return [_expression("masq")]


def snat(address: str, port: int | None = None) -> Expression:
    """The source becomes `address` (in a nat chain of postrouting or input)."""
    return _nat(SNAT, address, port)


def dnat(address: str, port: int | None = None) -> Expression:
    """The destination becomes `address` (in a nat chain of prerouting or output)."""
    return _nat(DNAT, address, port)


def _nat(kind: int, text: str, port: int | None) -> Expression:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no IP address") from error
    found = [_expression("immediate", dreg=REGISTER, data=_data(address.packed))]
    values: dict[str, Any] = {"reg_addr_min": REGISTER}
    if port is not None:
        raw = _data(port.to_bytes(2, "big"))
        found.append(_expression("immediate", dreg=ANOTHER, data=raw))
        values["reg_proto_min"] = ANOTHER
    return [*found, _expression("nat", type=kind, family=VERSIONS[address.version], **values)]
