# SPDX-License-Identifier: GPL-2.0
"""Determinism: same seed, same packets, same ISNs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

Stream = list[tuple[int, bytes]]


def knock(kernel: Kernel) -> Stream:
    """All that is sent around a connection attempt that nobody answers."""
    eth0 = kernel.add_netdev("eth0", up=False)
    capture = eth0.capture()
    eth0.add_address("192.0.2.1/24")
    eth0.up()
    eth0.add_neighbour("192.0.2.2", "02:00:00:00:00:02")
    with kernel.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        with contextlib.suppress(TimeoutError):
            sock.connect(("192.0.2.2", 80))
    return [(frame.time_ns, frame.data) for frame in capture]


def sequence_numbers(stream: Stream) -> set[int]:
    packets = [Ether(data) for _, data in stream]
    return {packet[TCP].seq for packet in packets if TCP in packet and packet[TCP].flags == "S"}


def test_same_seed_same_packets(kernel_factory: Callable[..., Kernel]) -> None:
    first, second = knock(kernel_factory(seed=1)), knock(kernel_factory(seed=1))
    assert first == second
    assert len(sequence_numbers(first)) == 1
    assert len(first) >= 4, "SYN, and again after 1, 3 and 7 seconds"


def test_other_seed_other_sequence_number(kernel_factory: Callable[..., Kernel]) -> None:
    numbers = [sequence_numbers(knock(kernel_factory(seed=seed))) for seed in (1, 2)]
    assert numbers[0] != numbers[1]


def test_a_restored_kernel_repeats_itself(kernel: Kernel) -> None:
    snapshot = kernel.snapshot()
    first = knock(kernel)
    kernel.restore(snapshot)
    assert knock(kernel) == first
