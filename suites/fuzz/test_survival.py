# SPDX-License-Identifier: GPL-2.0
"""Fuzz: packets of every kind, and the stack lives"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from anykernel.fuzz import strategies
from anykernel.kernel.netdev import to_scapy

if TYPE_CHECKING:
    from anykernel.fuzz.packets import Case
    from suites.fuzz.conftest import Target

BATCH = 25


def batches(case: st.SearchStrategy[Case]) -> st.SearchStrategy[list[Case]]:
    """Many packets an example: a restore and a shrink step serve all of them."""
    return st.lists(case, min_size=BATCH, max_size=BATCH)


@settings(max_examples=60, deadline=None)
@given(cases=batches(strategies.cases()))
def test_survives_anything(target: Target, cases: list[Case]) -> None:
    answers = target.send([case.frame for case in cases])
    assert target.alive()
    for answer in answers:
        parsed = to_scapy(answer)
        # What scapy can't take apart stays raw right behind the Ethernet header.
        assert parsed.payload.name in ("IP", "IPv6", "ARP"), parsed.summary()
        again = parsed.copy()
        layer = again.getlayer("ICMP") or again.getlayer("TCP") or again.getlayer("UDP")
        if layer is not None and "IP" in again:
            del again["IP"].chksum
            del layer.chksum
            assert bytes(again) == answer, "a wrong checksum in an answer"


@settings(max_examples=20, deadline=None)
@given(cases=batches(strategies.wild()))
def test_survives_noise(target: Target, cases: list[Case]) -> None:
    target.eth0.inject(*(case.frame for case in cases))
    target.count(len(cases))
    assert target.alive()


@settings(max_examples=30, deadline=None)
@given(frames=strategies.fragments())
def test_survives_fragments(target: Target, frames: list[bytes]) -> None:
    target.send(frames)
    # The reassembly timer (30 s) gives up what is incomplete.
    target.kernel.clock.advance(60)
    assert target.alive()
    assert target.kernel.read_text("/proc/net/sockstat").count("FRAG: inuse 0 memory 0") == 1
