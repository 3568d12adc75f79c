# SPDX-License-Identifier: GPL-2.0
"""Frames that were captured on links, as lines of people's diagrams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from anykernel.kernel.netdev import to_scapy
from anykernel.net import units
from anykernel.net.plot import Step
from anykernel.net.wire import Passage

if TYPE_CHECKING:
    from anykernel.net.link import Port
    from anykernel.net.network import Network

WIRE_OVERHEAD, SHORTEST = 24, 60
"""Bytes of preamble, FCS and gap; and of the shortest frame without them."""
TCP_FLAGS = {"S": "SYN", "F": "FIN", "R": "RST", "P": "PSH", "A": "ACK", "E": "ECE", "C": "CWR"}


def label(data: bytes) -> str:
    """What a frame is, in a few words: "SYN", "PSH ACK 100", "ICMP echo-request", "ARP who-has"."""
    from scapy.layers.inet import ICMP, TCP, UDP
    from scapy.layers.l2 import ARP

    packet = to_scapy(data)
    layers = [layer.__name__ for layer in packet.layers()]
    for layer in layers:  # first, as errors have the packet that they are about inside
        if layer in _NAMES:
            return _NAMES[layer]
    if TCP in packet:
        tcp = packet[TCP]
        words = [TCP_FLAGS[flag] for flag in str(tcp.flags) if flag in TCP_FLAGS]
        size = len(bytes(tcp.payload))
        return " ".join([*words, *([str(size)] if size else [])])
    if ARP in packet:
        return str(packet[ARP].sprintf("ARP %ARP.op%"))
    if ICMP in packet:
        return str(packet[ICMP].sprintf("ICMP %ICMP.type%"))
    if UDP in packet:
        return f"UDP {len(bytes(packet[UDP].payload))}"
    named = [layer for layer in layers if layer not in _PLAIN]
    return str(named[-1] if named else packet.lastlayer().name)


_PLAIN = {"Ether", "IP", "IPv6", "Raw", "Padding"}
_NAMES = {
    "ICMPv6MLQuery": "MLD query",
    "ICMPv6MLQuery2": "MLD query",
    "ICMPv6MLReport": "MLD report",
    "ICMPv6MLDone": "MLD done",
    "ICMPv6MLReport2": "MLD report v2",
    "ICMPv6ND_RS": "NDP router solicitation",
    "ICMPv6ND_RA": "NDP router advertisement",
    "ICMPv6ND_NS": "NDP neighbour solicitation",
    "ICMPv6ND_NA": "NDP neighbour advertisement",
    "ICMPv6ND_Redirect": "NDP redirect",
    "ICMPv6EchoRequest": "ICMPv6 echo-request",
    "ICMPv6EchoReply": "ICMPv6 echo-reply",
    "ICMPv6DestUnreach": "ICMPv6 dest-unreach",
    "ICMPv6TimeExceeded": "ICMPv6 time-exceeded",
    "ICMPv6PacketTooBig": "ICMPv6 packet-too-big",
    "ICMPv6ParamProblem": "ICMPv6 parameter-problem",
}
"""What ICMPv6's messages are called, by scapy's layers; payloads may follow them."""


def steps(network: Network, passages: Iterable[Passage]) -> list[Step]:
    """The arrows of a sequence diagram: one for each node that a frame is for."""
    macs = {port: port.netdev.seen().mac for link in network.links for port in link.ports}
    return [step for passage in passages for step in _arrows(network, passage, macs)]


def _arrows(network: Network, passage: Passage, macs: Mapping[Port, bytes]) -> Iterator[Step]:
    port = network.port(passage.port)
    lost = passage.verdict not in ("passed", "doubled", "late", "corrupted")
    text = label(passage.data) + (f" ({passage.verdict})" if passage.verdict != "passed" else "")
    for other in _receivers(port, passage.data, macs):
        yield Step(
            passage.time_ns,
            port.node.name,
            other.node.name,
            text,
            lost,
            None if lost else passage.time_ns + _flight_ns(port, passage.length),
        )


def _receivers(port: Port, data: bytes, macs: Mapping[Port, bytes]) -> list[Any]:
    others = [other for other in port.link.ports if other is not port]
    named = [other for other in others if macs.get(other) == data[:6]]
    return named or others


def _flight_ns(port: Port, length: int) -> int:
    """From the first bit's leaving to the last one's arrival, without jitter."""
    cable = port.link.cable
    bits = (max(length, SHORTEST) + WIRE_OVERHEAD) * 8
    sending = 0 if cable.rate is None else -(-bits * 10**9 // units.rate(cable.rate))
    flight = sending + units.duration(cable.delay)
    return 2 * flight if port.link.kind == "switch" else flight
