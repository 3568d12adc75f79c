# SPDX-License-Identifier: GPL-2.0
"""Packets with one thing wrong: what it is, and by what the kernel must show that it noticed.

Behaviour was read in net/ of Linux 6.1, 6.12 and 7.3; a function's name stands at each group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from anykernel.fuzz import options as o
from anykernel.fuzz import packets as p

if TYPE_CHECKING:
    from anykernel.fuzz.strategies import Ends

Counter = tuple[str, str]
"""Group and name of an SNMP counter: ``kernel.snmp[group][name]``."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One way to be wrong."""

    make: Callable[[Ends, bytes, int], bytes]
    """(ends, payload, n) to a frame; n >= 1 chooses among variants of the same flaw."""
    counters: tuple[Counter, ...]
    """All error counters (see `errors`) that rise, each by one."""
    answered: bool = False
    """Whether the kernel tells the sender: an ICMP parameter problem, or as if nothing were."""


def errors(snmp: Mapping[str, Mapping[str, int]]) -> dict[Counter, int]:
    """All counters of errors among the groups of `kernel.snmp`."""
    ends = ("Errors", "Errs", "TruncatedPkts", "ReasmFails")
    found: dict[Counter, int] = {}
    for group in ("Ip", "IpExt", "Icmp", "Udp", "Tcp", "Ip6", "Icmp6", "Udp6"):
        counters = snmp[group]  # reads a file of the kernel's
        found.update({(group, name): n for name, n in counters.items() if name.endswith(ends)})
    return found


def spoil(data: bytes, at: int, n: int) -> bytes:
    """Changes the checksum at `at` to a wrong one, never to UDP's "none" (0).

    65535 and 0 are the same in its arithmetic, hence modulo 65535.
    """
    right = int.from_bytes(data[at : at + 2]) % 0xFFFF
    wrong = (right + 1 + n % 0xFFFE) % 0xFFFF or 0xFFFF
    return data[:at] + wrong.to_bytes(2) + data[at + 2 :]


def _ip4(ends: Ends, protocol: int, body: p.Packet | bytes) -> p.IPv4:
    return p.IPv4(src=ends.ip4, dst=ends.kernel_ip4, protocol=protocol, payload=body)


def _ip6(ends: Ends, following: int, body: p.Packet | bytes) -> p.IPv6:
    return p.IPv6(src=ends.ip6, dst=ends.kernel_ip6, next=following, hop_limit=255, payload=body)


def _udp(data: bytes, length: int | None = None) -> p.Udp:
    return p.Udp(sport=4000, dport=4001, payload=data, length=length)


def _in4(protocol: int, body: Callable[[bytes, int], p.Packet], at: int | None = None) -> _Make:
    """A flaw inside IPv4's payload; at: where a checksum is to be spoilt."""

    def make(ends: Ends, data: bytes, n: int) -> bytes:
        segment = _segment(body(data, n), ends.ip4 + ends.kernel_ip4, at, n)
        return ends.ether(p.ETH_IPV4, _ip4(ends, protocol, segment))

    return make


def _in6(following: int, body: Callable[[bytes, int], p.Packet], at: int | None = None) -> _Make:
    """A flaw inside IPv6's payload."""

    def make(ends: Ends, data: bytes, n: int) -> bytes:
        segment = _segment(body(data, n), ends.ip6 + ends.kernel_ip6, at, n)
        return ends.ether(p.ETH_IPV6, _ip6(ends, following, segment))

    return make


def _segment(body: p.Packet, pseudo: bytes, at: int | None, n: int) -> bytes:
    segment = body.build(pseudo)
    return segment if at is None else spoil(segment, at, n)


def _of4(change: Callable[[p.IPv4, int], p.IPv4]) -> _Make:
    """A flaw of the IPv4 header around a good echo request."""

    def make(ends: Ends, data: bytes, n: int) -> bytes:
        return ends.ether(p.ETH_IPV4, change(_ip4(ends, p.ICMP, p.Icmp(payload=data)), n))

    return make


def _of6(change: Callable[[p.IPv6, int], p.IPv6]) -> _Make:
    """A flaw of the IPv6 header, or its extension headers, around a good echo request."""

    def make(ends: Ends, data: bytes, n: int) -> bytes:
        return ends.ether(p.ETH_IPV6, change(_ip6(ends, p.ICMPV6, p.Icmpv6(payload=data)), n))

    return make


def _ipv4_checksum(ends: Ends, data: bytes, n: int) -> bytes:
    packet = bytes(_ip4(ends, p.ICMP, p.Icmp(payload=data)))
    return ends.ether(p.ETH_IPV4, spoil(packet, 10, n))


def _longer(packet: p.IPv4, n: int) -> p.IPv4:
    """Says up to 400 bytes more than there are."""
    return replace(packet, total_length=len(bytes(packet)) + 1 + n % 400)


def _with(packet: p.IPv6, kind: int, content: bytes) -> p.IPv6:
    return replace(packet, headers=((kind, content),))


def _long_header(packet: p.IPv6, kind: int, n: int) -> p.IPv6:
    """The last header says more than the packet has."""
    return replace(packet, next=kind, payload=bytes((p.ICMPV6, 1 + n % 255)) + bytes(6))


def _arp(change: Callable[[p.Arp], p.Arp], cut: int | None = None) -> _Make:
    def make(ends: Ends, data: bytes, n: int) -> bytes:
        request = p.Arp(op=1, sha=ends.mac, spa=ends.ip4, tpa=ends.kernel_ip4)
        return ends.ether(p.ETH_ARP, bytes(change(request))[:cut])

    return make


_Make = Callable[["Ends", bytes, int], bytes]
_HEADER4, _HEADER6 = ("Ip", "InHdrErrors"), ("Ip6", "InHdrErrors")
_ICMP, _ICMP6 = ("Icmp", "InErrors"), ("Icmp6", "InErrors")
_UDP, _UDP6, _TCP = ("Udp", "InErrors"), ("Udp6", "InErrors"), ("Tcp", "InErrs")

FLAWS: Mapping[str, Flaw] = {
    # net/ipv4/arp.c, arp_rcv(), arp_process(): dropped without a count
    "arp.truncated": Flaw(_arp(lambda a: a, 20), ()),
    "arp.hlen": Flaw(_arp(lambda a: replace(a, hlen=5)), ()),
    "arp.htype": Flaw(_arp(lambda a: replace(a, htype=7)), ()),
    # net/ipv4/ip_input.c, ip_rcv_core()
    "ipv4.checksum": Flaw(_ipv4_checksum, (_HEADER4, ("IpExt", "InCsumErrors"))),
    "ipv4.version": Flaw(_of4(lambda i, n: replace(i, version=(n % 15 + 5) % 16)), (_HEADER4,)),
    "ipv4.ihl": Flaw(_of4(lambda i, n: replace(i, ihl=n % 5)), (_HEADER4,)),
    "ipv4.ihl.beyond": Flaw(_of4(lambda i, n: replace(i, ihl=15, payload=bytes(8))), (_HEADER4,)),
    "ipv4.total_length": Flaw(_of4(_longer), (("IpExt", "InTruncatedPkts"),)),
    "ipv4.total_length.short": Flaw(
        _of4(lambda i, n: replace(i, total_length=n % 20)), (_HEADER4,)
    ),
    # net/ipv4/ip_options.c, __ip_options_compile()
    "ipv4.options.length": Flaw(
        _of4(lambda i, n: replace(i, options=o.option(222, b"\0\0", length=(0, 1, 5, 40)[n % 4]))),
        (_HEADER4,),
        answered=True,
    ),
    "ipv4.options.pointer": Flaw(
        _of4(lambda i, n: replace(i, options=o.record_route(1, pointer=n % 4) + o.NOP)),
        (_HEADER4,),
        answered=True,
    ),
    # net/ipv4/ip_fragment.c, ip_frag_queue()
    "ipv4.fragment.empty": Flaw(
        _of4(lambda i, n: replace(i, flags=1, fragment=1 + n % 100, payload=b"")),
        (("Ip", "ReasmFails"),),
    ),
    # net/ipv4/icmp.c, icmp_rcv()
    "icmp.checksum": Flaw(
        _in4(p.ICMP, lambda d, n: p.Icmp(payload=d), 2), (_ICMP, ("Icmp", "InCsumErrors"))
    ),
    "icmp.truncated": Flaw(_in4(p.ICMP, lambda d, n: p.Icmp(rest=bytes(n % 4))), (_ICMP,)),
    # net/ipv4/udp.c, __udp4_lib_rcv()
    "udp.checksum": Flaw(_in4(p.UDP, lambda d, n: _udp(d), 6), (_UDP, ("Udp", "InCsumErrors"))),
    "udp.length": Flaw(_in4(p.UDP, lambda d, n: _udp(d, len(d) + 9 + n % 400)), (_UDP,)),
    "udp.length.short": Flaw(_in4(p.UDP, lambda d, n: _udp(d, 1 + n % 7)), (_UDP,)),
    # net/ipv4/tcp_ipv4.c, tcp_v4_rcv()
    "tcp.checksum": Flaw(
        _in4(p.TCP, lambda d, n: p.Tcp(sport=4000, dport=4001, payload=d), 16),
        (_TCP, ("Tcp", "InCsumErrors")),
    ),
    "tcp.doff": Flaw(
        _in4(p.TCP, lambda d, n: p.Tcp(sport=4000, dport=4001, payload=d, doff=n % 5)), (_TCP,)
    ),
    # The same: not pskb_may_pull(), dropped without an error's count.
    "tcp.doff.beyond": Flaw(
        _in4(p.TCP, lambda d, n: p.Tcp(sport=4000, dport=4001, doff=6 + n % 10)), ()
    ),
    # net/ipv4/tcp_input.c, tcp_parse_options(): "don't parse partial options"; goes on without
    "tcp.options.truncated": Flaw(
        _in4(
            p.TCP,
            lambda d, n: p.Tcp(
                sport=4000, dport=4001, options=o.NOP + o.NOP + o.option(2, length=3 + n % 200)
            ),
        ),
        (),
        answered=True,
    ),
    # net/ipv6/ip6_input.c, ip6_rcv_core()
    "ipv6.version": Flaw(_of6(lambda i, n: replace(i, version=(n % 15 + 7) % 16)), (_HEADER6,)),
    "ipv6.payload_length": Flaw(
        _of6(lambda i, n: replace(i, payload_length=len(bytes(i)) - 39 + n % 400)),
        (("Ip6", "InTruncatedPkts"),),
    ),
    "ipv6.source.multicast": Flaw(_of6(lambda i, n: replace(i, src=p.ip6("ff02::1"))), (_HEADER6,)),
    "ipv6.source.loopback": Flaw(_of6(lambda i, n: replace(i, src=p.ip6("::1"))), (_HEADER6,)),
    # net/ipv6/exthdrs.c, ipv6_parse_hopopts(), ipv6_destopt_rcv(), ip6_parse_tlv()
    "ipv6.hopopts.truncated": Flaw(
        _of6(lambda i, n: _long_header(i, p.HOP_BY_HOP, n)), (_HEADER6,)
    ),
    "ipv6.destopts.truncated": Flaw(
        _of6(lambda i, n: _long_header(i, p.DESTINATION, n)), (_HEADER6,)
    ),
    "ipv6.options.truncated": Flaw(
        _of6(lambda i, n: _with(i, p.DESTINATION, o.tlv(30, bytes(4), length=5 + n % 250))),
        (_HEADER6,),
    ),
    "ipv6.options.padding": Flaw(
        _of6(lambda i, n: _with(i, p.DESTINATION, o.tlv(1, bytes((0, 0, 0, 1 + n % 255))))),
        (_HEADER6,),
    ),
    # ip6_tlvopt_unknown(): 01 in the type's highest bits says to discard in silence
    "ipv6.options.unknown": Flaw(
        _of6(lambda i, n: _with(i, p.DESTINATION, o.tlv(0x5E, bytes(4)))), (_HEADER6,)
    ),
    # ipv6_rthdr_rcv()
    "ipv6.routing.truncated": Flaw(_of6(lambda i, n: _long_header(i, p.ROUTING, n)), (_HEADER6,)),
    "ipv6.routing.type": Flaw(
        _of6(lambda i, n: _with(i, p.ROUTING, o.routing(253, 1 + n % 255))),
        (_HEADER6,),
        answered=True,
    ),
    # net/ipv6/reassembly.c, ipv6_frag_rcv(): no upper header in the first fragment
    "ipv6.fragment.incomplete": Flaw(
        _of6(
            lambda i, n: replace(
                _with(i, p.FRAGMENT, o.fragment(0, more=True, ident=n)),
                next=p.TCP,
                payload=bytes(8),
            )
        ),
        (_HEADER6,),
        answered=True,
    ),
    # net/ipv6/icmp.c, icmpv6_rcv(); net/ipv6/udp.c, __udp6_lib_rcv(); tcp_ipv6.c, tcp_v6_rcv()
    "icmpv6.checksum": Flaw(
        _in6(p.ICMPV6, lambda d, n: p.Icmpv6(payload=d), 2), (_ICMP6, ("Icmp6", "InCsumErrors"))
    ),
    "icmpv6.truncated": Flaw(_in6(p.ICMPV6, lambda d, n: p.Icmpv6(rest=bytes(n % 4))), (_ICMP6,)),
    "udp6.checksum": Flaw(_in6(p.UDP, lambda d, n: _udp(d), 6), (_UDP6, ("Udp6", "InCsumErrors"))),
    "udp6.checksum.none": Flaw(
        _in6(p.UDP, lambda d, n: replace(_udp(d), check=0)), (_UDP6, ("Udp6", "InCsumErrors"))
    ),
    "udp6.length": Flaw(_in6(p.UDP, lambda d, n: _udp(d, len(d) + 9 + n % 400)), (_UDP6,)),
    "udp6.length.short": Flaw(_in6(p.UDP, lambda d, n: _udp(d, 1 + n % 7)), (_UDP6,)),
    "tcp6.checksum": Flaw(
        _in6(p.TCP, lambda d, n: p.Tcp(sport=4000, dport=4001, payload=d), 16),
        (_TCP, ("Tcp", "InCsumErrors")),
    ),
    "tcp6.doff": Flaw(
        _in6(p.TCP, lambda d, n: p.Tcp(sport=4000, dport=4001, payload=d, doff=n % 5)), (_TCP,)
    ),
}
"""By name: the layer, the field, and where that isn't all, how it is wrong."""
