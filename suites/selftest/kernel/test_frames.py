# SPDX-License-Identifier: GPL-2.0
"""Netdevs without a kernel: what may be given, in which shape answers come, what is captured."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.kernel.pcap import read_pcap
from suites.selftest.kernel import fake


@pytest.fixture
def kernel() -> Kernel:
    return fake.kernel()[0]


@pytest.fixture
def eth0(kernel: Kernel) -> Any:
    return kernel.add_netdev("eth0", up=False)


@pytest.mark.parametrize("frame", [b"", bytes(65_558), bytes(1 << 20)])
def test_a_frame_of_impossible_size(eth0: Any, frame: bytes) -> None:
    for give in (eth0.inject, eth0.exchange, lambda it: eth0.exchange([b"x" * 60, it])):
        with pytest.raises(UsageError, match=f"1 to 65557 bytes, not {len(frame)}"):
            give(frame)
    assert not eth0.recent(), "a batch with one of them isn't begun"


@pytest.mark.parametrize("frame", [b"x", bytes(65_535), bytearray(60), memoryview(bytes(60))])
def test_a_frame_of_possible_size(eth0: Any, frame: Any) -> None:
    eth0.inject(frame)
    assert [bytes(found.data) for found in eth0.recent()] == [bytes(frame)]


def test_the_shapes_of_answers(eth0: Any) -> None:
    zero, one, two = bytes(60), bytes(61), bytes(62)
    assert eth0.exchange(one) == [one]
    assert eth0.exchange(zero) == []
    assert eth0.exchange([zero, one, two]) == [[], [one], [two, two]]
    assert eth0.exchange(frame for frame in (one, one)) == [[one], [one]]
    assert eth0.exchange([]) == []


def test_scapy_in_scapy_out(eth0: Any) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    packet = Ether() / IP(dst="10.0.0.1", src="10.0.0.2") / UDP() / bytes(19)
    assert len(packet) % 3 == 1
    (answer,) = eth0.exchange(packet)
    assert answer[UDP].dport == 53 and bytes(answer) == bytes(packet)
    ((parsed,), (raw,)) = eth0.exchange([packet, bytes(packet)])
    assert parsed[IP].dst == "10.0.0.1" and raw == bytes(packet)


def test_captures_do_not_disturb_each_other(eth0: Any) -> None:
    eth0.inject(b"before")
    everything = eth0.capture()
    eth0.inject(b"1")
    with eth0.capture() as some:
        eth0.exchange([b"four"])
    eth0.inject(b"after")
    assert some.received == [b"four"] and some.sent == [b"four"]
    assert [frame.data for frame in everything] == [b"1", b"four", b"four", b"after"]
    assert len(eth0.recent()) == 5, "and the report still has all of them"


def test_each_device_has_its_own(kernel: Kernel, eth0: Any) -> None:
    eth1 = kernel.add_netdev("eth1", up=False)
    first, second = eth0.capture(), eth1.capture()
    eth1.inject(b"frame")
    assert (len(first), len(second)) == (0, 1)


def test_a_pcap_also_of_what_fails(eth0: Any, tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    with contextlib.suppress(ZeroDivisionError), eth0.pcap(file):
        eth0.inject(b"one", b"two")
        _ = 1 / 0
    assert [packet.data for packet in read_pcap(file)] == [b"one", b"two"]


@pytest.mark.parametrize("name", ["", "x" * 16, "a b", "a/b", "a\0b", "a:b"])
def test_impossible_names(kernel: Kernel, name: str) -> None:
    with pytest.raises(UsageError, match="no name for a device"):
        kernel.add_netdev(name)


@pytest.mark.parametrize(
    "options",
    [
        {"mtu": 67},
        {"mtu": 65_536},
        {"mac": "02:00:00:00:00"},
        {"mac": "02:00:00:00:00:0g"},
        {"mac": b"12345"},
        {"addresses": ["10.0.0.1/33"]},
        {"addresses": ["example.org/24"]},
    ],
)
def test_impossible_options_are_found_before_anything_is_made(
    kernel: Kernel, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        kernel.add_netdev("eth0", **options)
    assert not kernel.netdevs
    assert not fake_of(kernel).devices


def fake_of(kernel: Kernel) -> fake.FakeInstance:
    found: Any = kernel.instance
    assert isinstance(found, fake.FakeInstance)
    return found


def test_macs_are_given_in_order(kernel: Kernel) -> None:
    macs = [kernel.add_netdev(f"eth{n}", up=False).mac for n in range(3)]
    assert macs == ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"]
    given = kernel.add_netdev("own", mac="02-aa-bb-cc-dd-ee".replace("-", ":"), up=False)
    assert given.mac == "02:aa:bb:cc:dd:ee"


def test_a_removed_device_says_so(kernel: Kernel, eth0: Any) -> None:
    eth0.remove()
    assert not kernel.netdevs
    for use in (lambda: eth0.inject(b"x"), eth0.recent, eth0.remove, eth0.up, lambda: eth0.mtu):
        with pytest.raises(UsageError, match="eth0 was removed"):
            use()
