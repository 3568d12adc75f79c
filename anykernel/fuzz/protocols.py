# SPDX-License-Identifier: GPL-2.0
"""A strategy per protocol, in which any field can be fixed: ``tcp(dport=80, flags=p.SYN)``.

A field is a value or a strategy.  kind "valid" (the default), "nearly valid" (one flaw of
`flaws.FLAWS`) or "wild" (random content where the layer should be, under good headers and
checksums, so that the layer gets to see it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields as fields_of
from typing import Any, Literal

from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.fuzz import packets as p
from anykernel.fuzz import strategies as s
from anykernel.fuzz.flaws import FLAWS
from anykernel.fuzz.packets import Case
from anykernel.fuzz.strategies import ENDS, Ends

Kind = Literal["valid", "nearly valid", "wild"]
Version = Literal[4, 6]
Fields = Mapping[str, Any]
_CHECKSUM_AT = {p.ICMP: 2, p.ICMPV6: 2, p.UDP: 6, p.TCP: 16}


def flawed(*prefixes: str, ends: Ends = ENDS, most: int = 1200) -> st.SearchStrategy[Case]:
    """Nearly valid packets of the flaws whose names begin with one of the prefixes (or any).

    Raises UsageError if no flaw does.
    """
    names = sorted(name for name in FLAWS if not prefixes or name.startswith(prefixes))
    if not names:
        raise UsageError(f"no flaw begins with {prefixes}; there are {', '.join(sorted(FLAWS))}")

    @st.composite
    def build(draw: st.DrawFn) -> Case:
        name = draw(st.sampled_from(names))
        frame = FLAWS[name].make(ends, draw(s.payloads(most)), draw(st.integers(1, 0xFFFE)))
        return Case(frame, "nearly valid", name, (name.partition(".")[0],))

    return build()


def _packet(kind: type[p.Packet], defaults: Fields, fixed: Fields) -> st.SearchStrategy[Any]:
    """Packets of a class, their fields drawn; what is given as a value isn't drawn."""
    known = {field.name for field in fields_of(kind)}
    if wrong := fixed.keys() - known:
        raise UsageError(
            f"{kind.__name__} has no {', '.join(sorted(wrong))}; it has {', '.join(sorted(known))}"
        )
    wanted = {**defaults, **fixed}
    drawn = {k: v for k, v in wanted.items() if isinstance(v, st.SearchStrategy)}
    plain = {k: v for k, v in wanted.items() if k not in drawn}
    return st.fixed_dictionaries(drawn).map(lambda values: kind(**plain, **values))


def _around(ends: Ends, ip: Version, protocol: int, body: p.Packet | bytes) -> bytes:
    if ip == 4:
        packet: p.Packet = p.IPv4(
            src=ends.ip4, dst=ends.kernel_ip4, protocol=protocol, payload=body
        )
        return ends.ether(p.ETH_IPV4, packet)
    packet = p.IPv6(src=ends.ip6, dst=ends.kernel_ip6, next=protocol, hop_limit=255, payload=body)
    return ends.ether(p.ETH_IPV6, packet)


def _noise(ends: Ends, ip: Version, protocol: int, most: int) -> st.SearchStrategy[Case]:
    """Random bytes as a protocol's packet, with a right checksum if there is room for one."""
    addresses = ends.ip4 + ends.kernel_ip4 if ip == 4 else ends.ip6 + ends.kernel_ip6
    at = _CHECKSUM_AT[protocol]
    layer = f"ip{ip}"

    def build(head: bytes, tail: bytes) -> Case:
        data = head + tail
        if len(data) >= at + 2:
            zeroed = data[:at] + b"\0\0" + data[at + 2 :]
            if protocol == p.ICMP:
                check = p.checksum(zeroed)
            elif ip == 4:
                pseudo = addresses + bytes((0, protocol)) + len(data).to_bytes(2)
                check = p.checksum(pseudo + zeroed)
            else:
                pseudo = addresses + len(data).to_bytes(4) + bytes((0, 0, 0, protocol))
                check = p.checksum(pseudo + zeroed)
            data = data[:at] + check.to_bytes(2) + data[at + 2 :]
        return Case(_around(ends, ip, protocol, data), "wild", layers=(layer,))

    return st.builds(build, st.binary(max_size=60), s.payloads(most))


def _over_ip(
    name: str,
    kind: Kind,
    ends: Ends,
    ip: Version,
    protocol: int,
    packets: Callable[[], st.SearchStrategy[Any]],
    fixed: Fields,
    most: int,
) -> st.SearchStrategy[Case]:
    if kind != "valid" and fixed:
        raise UsageError(
            f"fields can't be fixed in a packet that is {kind}: its kind decides them; "
            "addresses can, with ends="
        )
    if kind == "nearly valid":
        prefix = f"{name}6." if ip == 6 and name in ("udp", "tcp") else f"{name}."
        return flawed(prefix, ends=ends, most=most)
    if kind == "wild":
        return _noise(ends, ip, protocol, most)
    layers = (f"ipv{ip}", name)
    return packets().map(
        lambda packet: Case(_around(ends, ip, protocol, packet), "valid", layers=layers)
    )


def udp(
    ends: Ends = ENDS, *, ip: Version = 4, kind: Kind = "valid", most: int = 1400, **fixed: Any
) -> st.SearchStrategy[Case]:
    """UDP with payloads of up to `most` bytes.  Fields: those of packets.Udp."""

    def packets() -> st.SearchStrategy[Any]:
        return _packet(
            p.Udp, {"sport": s.ports, "dport": s.ports, "payload": s.payloads(most)}, fixed
        )

    return _over_ip("udp", kind, ends, ip, p.UDP, packets, fixed, most)


def tcp(
    ends: Ends = ENDS, *, ip: Version = 4, kind: Kind = "valid", most: int = 1300, **fixed: Any
) -> st.SearchStrategy[Case]:
    """TCP with any flags, numbers and options.  Fields: those of packets.Tcp."""

    def packets() -> st.SearchStrategy[Any]:
        defaults = {
            "sport": s.ports,
            "dport": s.ports,
            "seq": s.u32,
            "ack": s.u32,
            "flags": s.u8,
            "window": s.u16,
            "urgent": st.sampled_from([0, 0, 1, 65535]),
            "options": s.tcp_options,
            "payload": s.payloads(most),
        }
        return _packet(p.Tcp, defaults, fixed)

    return _over_ip("tcp", kind, ends, ip, p.TCP, packets, fixed, most)


def icmp(
    ends: Ends = ENDS, *, kind: Kind = "valid", most: int = 1400, **fixed: Any
) -> st.SearchStrategy[Case]:
    """ICMP, mostly echo requests.  Fields: those of packets.Icmp."""

    def packets() -> st.SearchStrategy[Any]:
        types = st.sampled_from([8, 8, 0, 3, 4, 5, 11, 12, 13, 17])
        rest = st.binary(min_size=4, max_size=4)
        defaults = {"type": types, "rest": rest, "payload": s.payloads(most)}
        return _packet(p.Icmp, defaults, fixed)

    return _over_ip("icmp", kind, ends, 4, p.ICMP, packets, fixed, most)


def icmpv6(
    ends: Ends = ENDS, *, kind: Kind = "valid", most: int = 1200, **fixed: Any
) -> st.SearchStrategy[Case]:
    """ICMPv6, errors, echo, MLD and neighbour discovery.  Fields: those of packets.Icmpv6."""

    def packets() -> st.SearchStrategy[Any]:
        types = st.sampled_from([128, 128, 129, 1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143])
        rest = st.binary(min_size=4, max_size=4)
        defaults = {"type": types, "rest": rest, "payload": s.payloads(most)}
        return _packet(p.Icmpv6, defaults, fixed)

    return _over_ip("icmpv6", kind, ends, 6, p.ICMPV6, packets, fixed, most)


def ethernet(ends: Ends = ENDS, *, most: int = 1500, **fixed: Any) -> st.SearchStrategy[Case]:
    """Frames of any type, tagged or not, with any content.  Fields: those of packets.Ether."""
    defaults = {
        "dst": st.sampled_from([ends.kernel_mac, b"\xff" * 6, bytes.fromhex("333300000001")]),
        "src": ends.mac,
        "type": st.one_of(st.sampled_from([0, 46, 0x800, 0x806, 0x86DD, 0x88A8, 0x8863]), s.u16),
        "vlan": st.one_of(st.none(), s.u16),
        "payload": s.payloads(most),
    }
    packets = _packet(p.Ether, defaults, fixed)
    return packets.map(lambda packet: Case(bytes(packet), "wild", layers=("ether",)))
