# SPDX-License-Identifier: GPL-2.0
"""Sysctl: a mapping over the kernel's /proc/sys."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.kernel import Kernel


def test_read_and_write(kernel: Kernel) -> None:
    assert kernel.sysctl["kernel.ostype"] == "Linux"
    assert kernel.sysctl["net.ipv4.ip_forward"] == "0"
    kernel.sysctl["net.ipv4.ip_forward"] = 1
    assert kernel.sysctl["net.ipv4.ip_forward"] == "1"


def test_what_the_last_test_wrote_is_gone(kernel: Kernel) -> None:
    assert kernel.sysctl["net.ipv4.ip_forward"] == "0"


def test_what_does_not_exist_is_a_key_error(kernel: Kernel) -> None:
    with pytest.raises(KeyError):
        kernel.sysctl["net.ipv4.no_such_thing"]


def test_it_has_effect(kernel: Kernel) -> None:
    kernel.sysctl["net.ipv4.ip_default_ttl"] = 42
    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 42
