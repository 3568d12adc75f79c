# SPDX-License-Identifier: GPL-2.0
"""What strategies promise: fields stay fixed, flaws differ from good packets, models agree."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from anykernel.errors import UsageError
from anykernel.fuzz import options as o
from anykernel.fuzz import packets as p
from anykernel.fuzz import protocols
from anykernel.fuzz.flaws import FLAWS
from anykernel.fuzz.fragments import Fragmented, fragmented
from anykernel.fuzz.packets import Case
from anykernel.fuzz.strategies import ENDS
from anykernel.fuzz.streams import Delivery, deliveries

quick = settings(max_examples=60, database=None, derandomize=True, deadline=None)


@quick
@given(protocols.tcp(dport=80, flags=p.SYN, options=o.mss(1400) + o.sack_permitted()))
def test_fixed_fields_stay(case: Case) -> None:
    tcp = Ether(case.frame)[TCP]
    assert tcp.dport == 80 and tcp.flags == "S"
    assert tcp.options[:2] == [("MSS", 1400), ("SAckOK", b"")]


def test_options_are_scapys() -> None:
    options = o.mss(1460) + o.window_scale(7) + o.timestamps(5, 6) + o.sack((1, 2), (3, 4)) + o.NOP
    packet = p.IPv4(src=ENDS.ip4, dst=ENDS.kernel_ip4, protocol=p.TCP)
    frame = bytes(packet) + p.Tcp(sport=1, dport=2, options=options).build(bytes(8))
    tcp = TCP(frame[20:])
    assert tcp.options[:4] == [
        ("MSS", 1460),
        ("WScale", 7),
        ("Timestamp", (5, 6)),
        ("SAck", (1, 2, 3, 4)),
    ]


def test_unknown_field_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Udp has no port; it has .*dport"):
        protocols.udp(port=1)
    with pytest.raises(UsageError, match="no flaw begins with"):
        protocols.flawed("sctp")
    with pytest.raises(UsageError, match="can't be fixed"):
        protocols.udp(kind="wild", sport=1)


@pytest.mark.parametrize("name", sorted(FLAWS))
@pytest.mark.parametrize("n", [1, 2, 15, 65534])
def test_flaw_of_any_variant_is_a_frame(name: str, n: int) -> None:
    frame = FLAWS[name].make(ENDS, b"payload", n)
    assert frame[:12] == ENDS.kernel_mac + ENDS.mac
    assert 14 < len(frame) <= 1514


@quick
@given(protocols.flawed("udp.", "tcp.checksum"))
def test_flaw_leaves_the_rest_right(case: Case) -> None:
    """IP's own checksum and length are good where the flaw is further up."""
    packet = Ether(case.frame)[IP]
    assert p.checksum(case.frame[14:34]) == 0
    assert packet.len == len(case.frame) - 14


@quick
@given(protocols.udp(kind="wild"))
def test_wild_has_right_checksum(case: Case) -> None:
    datagram = case.frame[34:]
    if len(datagram) >= 8:
        pseudo = ENDS.ip4 + ENDS.kernel_ip4 + struct.pack("!BBH", 0, p.UDP, len(datagram))
        assert p.checksum(pseudo + datagram) in (0, 0xFFFF)
    assert Ether(case.frame)[IP].proto == p.UDP


@quick
@given(deliveries())
def test_delivery_agrees_with_a_receiver_of_bytes(delivery: Delivery) -> None:
    """The model against the slow and obvious one."""
    have = {i for start, stop in delivery.pieces for i in range(start, stop)}
    end = next((i for i in range(len(delivery.stream)) if i not in have), len(delivery.stream))
    assert delivery.received == delivery.stream[:end]


def test_deliveries_are_of_all_sorts() -> None:
    seen: list[Delivery] = []
    quick(given(deliveries())(lambda delivery: seen.append(delivery)))()
    assert any(d.received != d.stream for d in seen), "none with a gap"
    assert any(list(d.pieces) != sorted(d.pieces) for d in seen), "all in order"
    assert any(d.finished for d in seen)
    assert sum(len(d.stream) > 1460 for d in seen) > len(seen) // 4


@quick
@given(fragmented())
def test_fragments_carry_the_datagram(sent: Fragmented) -> None:
    """Put together by scapy's fields, they are the datagram, unless one is missing."""
    found: dict[int, int] = {}
    for frame in sent.frames:
        ip = Ether(frame)[IP]
        data = frame[34:]
        found.update({ip.frag * 8 + i: byte for i, byte in enumerate(data)})
    whole = bytes(found[i] for i in sorted(found))
    if sent.how != "missing":
        assert whole[8:] == sent.payload
        assert UDP(whole).len == len(whole)
    else:
        assert len(whole) < len(sent.payload) + 8
