# SPDX-License-Identifier: GPL-2.0
"""Serialisation against scapy: what we compute, it computes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.layers.l2 import ARP, Ether
from scapy.utils import checksum as scapy_checksum

from anykernel.fuzz import packets as p
from anykernel.fuzz import strategies
from anykernel.fuzz.flaws import FLAWS
from anykernel.fuzz.packets import Case

quick = settings(max_examples=100, deadline=None)


@given(data=st.binary(max_size=200))
def test_checksum(data: bytes) -> None:
    assert p.checksum(data) == scapy_checksum(data)


def test_checksum_of_a_sum_that_is_all_ones() -> None:
    assert p.checksum(b"\xff\xff") == 0
    assert p.checksum(b"\0\0") == 0xFFFF


@quick
@given(case=strategies.ipv4(options=False))
def test_ipv4_is_valid(case: Case) -> None:
    ip = Ether(case.frame)[IP]
    packet = case.frame[14:]
    assert ip.len == len(packet)
    assert scapy_checksum(packet[:20]) == 0
    segment = packet[20:]
    if case.layers[1] == "icmp":
        assert scapy_checksum(segment) == 0
    else:
        assert in4_chksum(ip.proto, ip, segment) == 0


@quick
@given(case=strategies.ipv6(headers=False))
def test_ipv6_is_valid(case: Case) -> None:
    ip = Ether(case.frame)[IPv6]
    segment = case.frame[54:]
    assert ip.plen == len(segment)
    assert in6_chksum(ip.nh, ip, segment) == 0


@given(case=strategies.arp())
def test_arp_is_valid(case: Case) -> None:
    parsed = Ether(case.frame)
    assert bytes(parsed[ARP]) == case.frame[14:]


@quick
@given(case=strategies.nearly_valid())
def test_flaws_are_flaws(case: Case) -> None:
    """Exactly what the flaw names is wrong: scapy computes something else there."""
    assert case.flaw in FLAWS
    layer, _, what = case.flaw.partition(".")
    if what == "checksum" and layer in ("ipv4", "icmp", "tcp", "udp"):
        known = {"ipv4": IP, "icmp": ICMP, "tcp": TCP, "udp": UDP}[layer]
        parsed = Ether(case.frame)
        again = parsed.copy()
        del again[known].chksum
        assert Ether(bytes(again))[known].chksum != parsed[known].chksum
    elif what in ("total_length", "payload_length"):
        parsed = Ether(case.frame)
        said = parsed[IP].len if layer == "ipv4" else parsed[IPv6].plen + 40
        assert said > len(case.frame) - 14


@quick
@given(data=st.data())
def test_sizes_are_drawn_on_purpose(data: st.DataObject) -> None:
    size = len(data.draw(strategies.payloads(1480)))
    assert 0 <= size <= 1480


def test_large_payloads_are_frequent() -> None:
    seen: list[int] = []

    @settings(max_examples=200, database=None, deadline=None, derandomize=True)
    @given(payload=strategies.payloads(1480))
    def collect(payload: bytes) -> None:
        seen.append(len(payload))

    collect()
    assert sum(size > 500 for size in seen) > len(seen) // 4
