# SPDX-License-Identifier: GPL-2.0
"""Packets in a report: what they are, in one line."""

import pytest
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLDMultAddrRec,
    ICMPv6MLQuery,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from anykernel.kernel import Kernel
from anykernel.plugin.packets import frames, summary

ALERT = Ether() / IPv6(src="fe80::1", dst="ff02::16") / IPv6ExtHdrHopByHop(options=[RouterAlert()])


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (ALERT / ICMPv6MLQuery(), "MLD query fe80::1 > ff02::16: all groups"),
        (ALERT / ICMPv6MLQuery(mladdr="ff05::7"), "MLD query fe80::1 > ff02::16: ff05::7"),
        (ALERT / ICMPv6MLReport(mladdr="ff05::7"), "MLD report fe80::1 > ff02::16: ff05::7"),
        (
            ALERT
            / ICMPv6MLReport2(
                records=[
                    ICMPv6MLDMultAddrRec(rtype=4, dst="ff05::7"),
                    ICMPv6MLDMultAddrRec(rtype=1, dst="ff05::8", sources=["fd00::1", "fd00::2"]),
                ]
            ),
            "MLD report v2 fe80::1 > ff02::16: ff05::7 to ex, ff05::8 is in of 2 sources",
        ),
        (Ether() / IPv6() / ICMPv6EchoRequest(), "Ether / IPv6 / ICMPv6 Echo Request"),
    ],
)
def test_mld(packet: Packet, said: str) -> None:
    assert said in summary(bytes(packet))


@pytest.mark.parametrize("length", range(0, 110, 7))
def test_what_is_cut_off_is_no_error(length: int) -> None:
    records = [ICMPv6MLDMultAddrRec(rtype=4, dst="ff05::7")] * 2
    said = summary(bytes(ALERT / ICMPv6MLReport2(records=records))[:length])
    assert said or not length
    assert ("MLD report v2" in said) == (length >= 63), said


def test_what_a_kernel_sends(kernel: Kernel) -> None:
    """A group that is joined is reported."""
    eth0 = kernel.add_netdev("eth0", addresses=["fd00::1/64"])
    kernel.clock.advance(20)
    with eth0.capture() as capture:
        with kernel.socket(10, 2) as sock:
            group = bytes.fromhex("ff05" + "00" * 13 + "42") + eth0.ifindex.to_bytes(4, "little")
            sock.setsockopt(41, 20, group)
            kernel.clock.advance(5)
        assert capture.sent
    shown = "\n".join(frames(kernel.instance.captured(clear=False), 100))  # type: ignore[arg-type]
    assert "MLD report v2" in shown and "ff05::42 to ex" in shown
