# SPDX-License-Identifier: GPL-2.0
"""Sysctls and counters: every name and number is what the kernel's own files say."""

from __future__ import annotations

import pytest

from anykernel.kernel import Kernel, Process
from anykernel.kernel.sysctl import Counters

FORWARD = "net.ipv4.ip_forward"


def test_names_with_dots_and_slashes(kernel: Kernel) -> None:
    kernel.add_netdev("eth0.100", up=False)
    sysctl = kernel.sysctl
    for name in ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"):
        sysctl[name] = 1
        assert sysctl[name] == "1"
        sysctl[name] = False
        assert sysctl[name] == "0"
    found = [name for name in sysctl if "eth0" in name]
    assert "net.ipv4.conf.eth0/100.forwarding" in found
    assert all(name in sysctl for name in found)


@pytest.mark.parametrize("name", ["net.ipv4.nonsense", "net.ipv4", "", "net.ipv4.ip_forward.x"])
def test_what_is_not_there(kernel: Kernel, name: str) -> None:
    with pytest.raises(KeyError):
        kernel.sysctl[name]
    with pytest.raises(KeyError):
        kernel.sysctl[name] = 1
    assert kernel.sysctl.get(name) is None


def test_what_the_kernel_refuses(kernel: Kernel) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.sysctl[FORWARD] = "many"
    assert kernel.sysctl[FORWARD] == "0"
    with pytest.raises(TypeError):
        del kernel.sysctl[FORWARD]


def test_write_only(kernel: Kernel) -> None:
    kernel.sysctl["net.ipv4.route.flush"] = 1
    with pytest.raises(PermissionError):
        kernel.sysctl["net.ipv4.route.flush"]


def test_several_values(kernel: Kernel) -> None:
    kernel.sysctl["net.ipv4.ip_local_port_range"] = [20_000, 20_999]
    assert kernel.sysctl["net.ipv4.ip_local_port_range"].split() == ["20000", "20999"]
    with kernel.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert 20_000 <= sock.getsockname()[1] <= 20_999


def test_each_namespace_has_its_own(kernel: Kernel) -> None:
    with kernel.fork() as child:
        child.os.unshare(0x40000000)  # CLONE_NEWNET
        child.sysctl[FORWARD] = 1
        assert child.sysctl[FORWARD] == "1"
        assert kernel.sysctl[FORWARD] == "0"


def test_counters_are_the_files(system: Process) -> None:
    snmp = Counters(system)
    lines = system.read_text("/proc/net/snmp").splitlines()
    assert list(snmp["Tcp"]) == next(x for x in lines if x.startswith("Tcp:")).split()[1:]
    assert set(snmp) >= {"Ip", "Icmp", "Tcp", "Udp", "TcpExt", "IpExt"}
    assert len(snmp) == len(list(snmp))
    for group in snmp:
        assert set(snmp[group]) == set(dict(snmp)[group]), group
        assert all(isinstance(value, int) for value in snmp[group].values())
    with pytest.raises(KeyError):
        snmp["Carrier pigeons"]


def test_counters_count(kernel: Kernel) -> None:
    eth0 = kernel.add_netdev("eth0", addresses=["10.0.0.1/24", "fd00::1/64"])
    peer = eth0.add_peer("10.0.0.2", "fd00::2")
    before = {group: kernel.snmp[group] for group in ("Icmp", "Icmp6", "Ip", "Ip6")}
    assert peer.ping("10.0.0.1") and peer.ping("fd00::1")
    broken = bytearray(peer.echo_request("10.0.0.1"))
    broken[-1] ^= 1
    eth0.inject(broken)
    after = {group: kernel.snmp[group] for group in before}

    def grown(group: str, name: str) -> int:
        return after[group][name] - before[group][name]

    assert grown("Icmp", "InEchos") == 1
    assert grown("Icmp", "InCsumErrors") == 1
    assert grown("Icmp6", "InEchos") == 1
    assert grown("Ip", "InReceives") == 2
