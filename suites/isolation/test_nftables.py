# SPDX-License-Identifier: GPL-2.0
"""nf_tables against a model of chains, sets and maps; NAT against its own inverse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anykernel.fuzz import nft
from anykernel.fuzz import packets as p

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

pytestmark = pytest.mark.kernel(components=["netfilter"])

LOCAL = [IPv4Address(f"192.0.2.{number}") for number in (1, 5, 9, 129)]
GATEWAY_MAC, KERNEL_MAC = bytes.fromhex("020000000099"), bytes.fromhex("020000000001")
CHAINS = ["in", "a", "b", "c"]
"""Rules jump to later ones only: nf_tables refuses loops."""


@dataclass(frozen=True)
class Sent:
    protocol: int
    saddr: IPv4Address
    daddr: IPv4Address
    sport: int
    dport: int

    @property
    def frame(self) -> bytes:
        body: p.Packet
        match self.protocol:
            case p.UDP:
                body = p.Udp(sport=self.sport, dport=self.dport, payload=b"x" * 10)
            case p.TCP:
                body = p.Tcp(sport=self.sport, dport=self.dport, flags=2)
            case _:
                body = p.Icmp(payload=b"x" * 10)
        packet = p.IPv4(
            src=self.saddr.packed, dst=self.daddr.packed, protocol=self.protocol, payload=body
        )
        return KERNEL_MAC + GATEWAY_MAC + b"\x08\0" + packet.build()

    def ports(self) -> tuple[int, int]:
        """What stands where UDP and TCP have their ports."""
        raw = self.frame[34:38]
        return int.from_bytes(raw[:2], "big"), int.from_bytes(raw[2:], "big")


@dataclass(frozen=True)
class Prefix:
    """saddr or daddr in a network, or not."""

    offset: int
    network: IPv4Network
    negated: bool

    def fits(self, sent: Sent) -> bool:
        address = sent.saddr if self.offset == 12 else sent.daddr
        return (address in self.network) != self.negated

    def code(self, batch: nft.Batch) -> list[bytes]:
        compare = nft.unequal if self.negated else nft.equal
        load = nft.payload(nft.NETWORK, self.offset, 4)
        mask = nft.masked(self.network.netmask.packed)
        return [load, mask, compare(self.network.network_address.packed)]


@dataclass(frozen=True)
class Protocol:
    number: int

    def fits(self, sent: Sent) -> bool:
        return sent.protocol == self.number

    def code(self, batch: nft.Batch) -> list[bytes]:
        return [nft.payload(nft.NETWORK, 9, 1), nft.equal(bytes([self.number]))]


@dataclass(frozen=True)
class Ports:
    """sport (0) or dport (1) from one to another."""

    which: int
    first: int
    last: int

    def fits(self, sent: Sent) -> bool:
        return self.first <= sent.ports()[self.which] <= self.last

    def code(self, batch: nft.Batch) -> list[bytes]:
        ends = self.first.to_bytes(2, "big"), self.last.to_bytes(2, "big")
        return [nft.payload(nft.TRANSPORT, 2 * self.which, 2), nft.within(*ends)]


@dataclass(frozen=True)
class Intervals:
    """saddr in a set of intervals, or not."""

    marks: tuple[int, ...]
    """Ascending: from the first to before the second, from the third ..."""
    negated: bool

    def fits(self, sent: Sent) -> bool:
        below = sum(mark <= int(sent.saddr) for mark in self.marks)
        return (below % 2 == 1) != self.negated

    def code(self, batch: nft.Batch) -> list[bytes]:
        elements = [
            nft.element(mark.to_bytes(4, "big"), end=bool(number % 2))
            for number, mark in enumerate(self.marks)
        ]
        name = batch.set(4, elements, interval=True)
        return [nft.payload(nft.NETWORK, 12, 4), nft.lookup(name, inverted=self.negated)]


Match = Prefix | Protocol | Ports | Intervals
CODES = {
    "accept": nft.ACCEPT,
    "drop": nft.DROP,
    "continue": nft.CONTINUE,
    "return": nft.RETURN,
    "jump": nft.JUMP,
    "goto": nft.GOTO,
}


@dataclass(frozen=True)
class Action:
    kind: str
    chain: str = ""

    def code(self) -> bytes:
        return nft.verdict(CODES[self.kind], self.chain)


@dataclass(frozen=True)
class ByPort:
    """A map from dport to what happens; a port that it doesn't have goes on with the next rule."""

    actions: tuple[tuple[int, Action], ...]

    def code(self, batch: nft.Batch) -> list[bytes]:
        elements = [
            nft.element(port.to_bytes(2, "big"), code=CODES[action.kind], chain=action.chain)
            for port, action in self.actions
        ]
        name = batch.set(2, elements, maps=True)
        return [nft.payload(nft.TRANSPORT, 2, 2), nft.lookup(name, verdict=True)]


@dataclass(frozen=True)
class Rule:
    matches: tuple[Match, ...]
    action: Action | ByPort

    def code(self, batch: nft.Batch) -> list[bytes]:
        found = [part for match in self.matches for part in match.code(batch)]
        found.append(nft.counter())
        if isinstance(self.action, ByPort):
            return found + self.action.code(batch)
        return [*found, self.action.code()]


@dataclass
class Model:
    """The first verdict wins; the base chain's policy is to accept."""

    chains: dict[str, list[Rule]]
    packets: Counter[tuple[str, int]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, int]] = field(default_factory=Counter)

    def accepts(self, sent: Sent) -> bool:
        return self._walk("in", sent) != "drop"

    def _walk(self, chain: str, sent: Sent) -> str | None:
        for number, rule in enumerate(self.chains[chain]):
            if not all(match.fits(sent) for match in rule.matches):
                continue
            self.packets[chain, number] += 1
            self.bytes[chain, number] += len(sent.frame) - 14
            action = rule.action
            if isinstance(action, ByPort):
                action = dict(action.actions).get(sent.ports()[1], Action("continue"))
            match action.kind:
                case "accept" | "drop":
                    return action.kind
                case "return":
                    return None
                case "goto":
                    return self._walk(action.chain, sent)
                case "jump":
                    found = self._walk(action.chain, sent)
                    if found is not None:
                        return found
        return None


ADDRESSES = st.builds(
    lambda net, host: IPv4Address(net + host),
    st.sampled_from([int(IPv4Address("198.51.100.0")), int(IPv4Address("10.1.0.0"))]),
    st.one_of(st.integers(0, 63), st.integers(0, 255)),
)
PORTS = st.one_of(st.integers(1, 12), st.sampled_from([1023, 1024, 65535]))
PROTOCOLS = st.sampled_from([p.UDP, p.UDP, p.TCP, p.ICMP])
SENT = st.builds(Sent, PROTOCOLS, ADDRESSES, st.sampled_from(LOCAL), PORTS, PORTS)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    offset = draw(st.sampled_from([12, 16]))
    address = draw(ADDRESSES) if offset == 12 else draw(st.sampled_from(LOCAL))
    network = IPv4Network((address, draw(st.integers(20, 32))), strict=False)
    return Prefix(offset, network, draw(st.booleans()))


MATCHES: st.SearchStrategy[Match] = st.one_of(
    prefixes(),
    st.builds(Protocol, PROTOCOLS),
    st.builds(
        lambda which, ends: Ports(which, min(ends), max(ends)),
        st.integers(0, 1),
        st.tuples(PORTS, PORTS),
    ),
    st.builds(
        lambda marks, negated: Intervals(tuple(sorted(map(int, marks))), negated),
        st.sets(ADDRESSES, min_size=2, max_size=8).filter(lambda marks: len(marks) % 2 == 0),
        st.booleans(),
    ),
)


@st.composite
def rule_sets(draw: st.DrawFn) -> dict[str, list[Rule]]:
    found = {}
    for number, chain in enumerate(CHAINS):
        plain = st.builds(Action, st.sampled_from(["accept", "drop", "continue", "return"]))
        later = CHAINS[number + 1 :]
        onward = st.builds(
            Action, st.sampled_from(["jump", "goto"]), st.sampled_from(later or [""])
        )
        actions = st.one_of(plain, onward) if later else plain
        pairs = st.lists(
            st.tuples(PORTS, actions), min_size=1, max_size=4, unique_by=lambda pair: pair[0]
        )
        rules = st.builds(
            Rule,
            st.lists(MATCHES, max_size=3).map(tuple),
            st.one_of(actions, actions, st.builds(ByPort, pairs.map(tuple))),
        )
        found[chain] = draw(st.lists(rules, min_size=1 if number == 0 else 0, max_size=4))
    return found


@settings(max_examples=80, deadline=None)
@given(chains=rule_sets(), sent=st.lists(SENT, min_size=5, max_size=20))
def test_verdicts_and_counters(
    kernel: Kernel, chains: dict[str, list[Rule]], sent: list[Sent]
) -> None:
    """Who gets an answer (a reset, an unreachable port, an echo) was accepted, and each rule has
    counted what reached it."""
    eth0 = kernel.add_netdev(
        "eth0", mac=KERNEL_MAC, addresses=[f"{address}/24" for address in LOCAL]
    )
    eth0.add_neighbour("192.0.2.2", GATEWAY_MAC)
    eth0.add_route("default", via="192.0.2.2")
    kernel.sysctl["net.ipv4.icmp_ratelimit"] = 0
    kernel.sysctl["net.ipv4.icmp_ratemask"] = 0
    batch, model = nft.Batch(kernel), Model(chains)
    for chain in chains:
        batch.chain(chain, hook=1 if chain == "in" else None)
    for chain, rules in chains.items():
        for rule in rules:
            batch.rule(chain, *rule.code(batch))
    batch.commit()
    answers = eth0.exchange([one.frame for one in sent])
    assert [bool(answer) for answer in answers] == [model.accepts(one) for one in sent]
    for chain, rules in chains.items():
        expected = [
            (model.packets[chain, number], model.bytes[chain, number])
            for number in range(len(rules))
        ]
        assert batch.counters(chain) == expected, chain


# NAT


@dataclass(frozen=True)
class Flow:
    protocol: int
    client: int
    port: int
    server: int
    service: int


FLOWS = st.lists(
    st.builds(
        Flow,
        st.sampled_from([p.UDP, p.TCP]),
        st.integers(2, 6),
        st.sampled_from([1000, 1001, 40000, 40001]),
        st.integers(2, 4),
        st.sampled_from([53, 80]),
    ),
    min_size=1,
    max_size=12,
    unique=True,
)


class Router:
    """eth0 is 10.0.0.1, for clients; eth1 is 198.51.100.1, for servers."""

    def __init__(self, kernel: Kernel) -> None:
        self.inside = kernel.add_netdev("eth0", mac=KERNEL_MAC, addresses=["10.0.0.1/24"])
        self.outside = kernel.add_netdev(
            "eth1", mac="02:00:00:00:00:02", addresses=["198.51.100.1/24"]
        )
        for number in range(2, 10):
            self.inside.add_neighbour(f"10.0.0.{number}", GATEWAY_MAC)
            self.outside.add_neighbour(f"198.51.100.{number}", GATEWAY_MAC)
        kernel.sysctl["net.ipv4.ip_forward"] = 1

    def cross(self, packet: Any, *, out: bool) -> Any:
        """What comes out at the other side, or None; its checksums are right."""
        from scapy.layers.inet import IP
        from scapy.layers.l2 import Ether

        near, far = (self.inside, self.outside) if out else (self.outside, self.inside)
        with far.capture() as capture:
            near.inject(bytes(Ether(src=GATEWAY_MAC, dst=near.mac) / packet))
        if not capture.sent:
            return None
        (frame,) = capture.sent
        came = Ether(frame)[IP]
        fresh = came.copy()
        del fresh.chksum, fresh.payload.chksum
        assert bytes(fresh) == bytes(came)
        return came


def segment(protocol: int, src: str, sport: int, dst: str, dport: int, flags: str = "S") -> Any:
    from scapy.layers.inet import IP, TCP, UDP

    if protocol == p.TCP:
        return IP(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags=flags, ack=1) / b""
    return IP(src=src, dst=dst) / UDP(sport=sport, dport=dport) / b"payload"


def ends(packet: Any) -> tuple[str, int, str, int]:
    return packet.src, packet.payload.sport, packet.dst, packet.payload.dport


def translate_source(kernel: Kernel, first: int, last: int) -> None:
    batch = nft.Batch(kernel)
    batch.chain("post", hook=4, priority=100, kind="nat")
    address = IPv4Address("198.51.100.1").packed
    nat = nft.expression(
        "nat", nft.u32(1, 0), nft.u32(2, 2), nft.u32(3, 1), nft.u32(5, 2), nft.u32(6, 3)
    )
    ports = nft.load(2, first.to_bytes(2, "big")), nft.load(3, last.to_bytes(2, "big"))
    batch.rule(
        "post",
        nft.payload(nft.NETWORK, 12, 1),
        nft.equal(b"\x0a"),
        nft.load(1, address),
        *ports,
        nat,
    )
    batch.commit()


@settings(max_examples=40, deadline=None)
@given(flows=FLOWS, room=st.integers(1, 6), again=st.booleans())
def test_a_reply_is_translated_back(
    kernel: Kernel, flows: list[Flow], room: int, again: bool
) -> None:
    """No two flows look alike outside, each reply reaches the client that asked, from the address
    that it asked, and who finds no port free is dropped."""
    router, first = Router(kernel), 2000
    translate_source(kernel, first, first + room - 1)
    seen: dict[tuple[int, str, int, str, int], Flow] = {}
    for flow in flows:
        client, server = f"10.0.0.{flow.client}", f"198.51.100.{flow.server}"
        there = client, flow.port, server, flow.service
        came = router.cross(segment(flow.protocol, *there), out=True)
        toward = [
            one
            for one in seen.values()
            if (one.protocol, one.server, one.service) == (flow.protocol, flow.server, flow.service)
        ]
        assert (came is None) == (len(toward) == room), "dropped without a port, and only then"
        if came is None:
            continue
        src, sport, dst, dport = ends(came)
        assert (src, dst, dport) == ("198.51.100.1", server, flow.service)
        assert first <= sport < first + room
        assert (flow.protocol, src, sport, dst, dport) not in seen
        seen[flow.protocol, src, sport, dst, dport] = flow
    for (protocol, src, sport, dst, dport), flow in seen.items():
        back = router.cross(segment(protocol, dst, dport, src, sport, "SA"), out=False)
        assert ends(back) == (dst, dport, f"10.0.0.{flow.client}", flow.port)
        if again:  # the mapping is the flow's, for all of its packets
            there = f"10.0.0.{flow.client}", flow.port, dst, dport
            assert ends(router.cross(segment(protocol, *there, "A"), out=True))[:2] == (src, sport)
