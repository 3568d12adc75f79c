# SPDX-License-Identifier: GPL-2.0
"""What becomes of a netdev: other names, MAC addresses, namespaces; it is asked of the kernel."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from anykernel.errors import KernelCrash, UsageError
from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev

NEWNET = 0x40000000
OTHER = "02:00:00:aa:bb:cc"


@pytest.fixture
def eth0(kernel: Kernel) -> Netdev:
    return kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])


def test_a_new_name(kernel: Kernel, eth0: Netdev) -> None:
    kernel.iproute.link("set", index=eth0.ifindex, state="down")
    kernel.iproute.link("set", index=eth0.ifindex, ifname="wan0")
    assert (eth0.name, eth0.carrier) == ("wan0", False)
    eth0.up()
    assert (eth0.name, eth0.mtu, eth0.carrier) == ("wan0", 1500, True)
    assert eth0.statistics["rx_packets"] == 0
    assert kernel.netdevs == {"wan0": eth0}
    assert repr(eth0) == f"<Netdev wan0 ifindex={eth0.ifindex} mac=02:00:00:00:00:01>"
    eth0.mtu = 1400
    assert kernel.read_text("/sys/class/net/wan0/mtu") == "1400\n"
    other = kernel.add_netdev("eth0")  # the name is free again
    assert kernel.netdevs == {"wan0": eth0, "eth0": other}
    eth0.remove()
    assert kernel.netdevs == {"eth0": other}
    assert other.carrier


def test_a_new_mac(kernel: Kernel, eth0: Netdev) -> None:
    peer = eth0.add_peer("192.0.2.2")
    eth0.down()
    kernel.iproute.link("set", index=eth0.ifindex, address=OTHER)
    assert eth0.mac == OTHER
    eth0.up()
    eth0.add_neighbour("192.0.2.2", peer.mac)  # those of before are flushed
    assert peer.ping("192.0.2.1") == b"anykernel"
    assert peer.echo_request("192.0.2.1")[:6] == eth0.mac_bytes


def test_statistics_are_those_of_sysfs(kernel: Kernel, eth0: Netdev) -> None:
    peer = eth0.add_peer("192.0.2.2")
    peer.ping("192.0.2.1")
    eth0.inject(b"x")
    folder = "/sys/class/net/eth0/statistics"
    names = sorted(kernel.os.listdir(folder))
    assert eth0.statistics == {name: int(kernel.read_text(f"{folder}/{name}")) for name in names}
    assert list(eth0.statistics) == names
    assert eth0.statistics["rx_packets"] == 1 and eth0.statistics["rx_errors"] == 1


def test_another_namespace(kernel: Kernel, eth0: Netdev) -> None:
    """All of it works there, and the first namespace's devices are not taken for it."""
    taken = eth0.ifindex
    with kernel.fork() as child:
        child.os.unshare(NEWNET)
        ip = child.netlink()
        ip.link("add", ifname="squatter", kind="dummy", index=taken)
        kernel.iproute.link("set", index=taken, net_ns_pid=child.pid)
        files = len(kernel.os.listdir("/proc/self/fd"))
        kernel.iproute.link("add", ifname="eth0", kind="dummy", index=taken)
        assert eth0.ifindex != taken
        assert (eth0.name, eth0.mtu, eth0.carrier) == ("eth0", 1500, False)
        eth0.up()
        eth0.mtu = 1300
        assert (eth0.mtu, eth0.carrier) == (1300, True)
        eth0.add_address("192.0.2.1/24", "fd00::1/64")
        eth0.add_route("default", via="192.0.2.2")
        assert {"192.0.2.1/24", "fd00::1/64"} <= set(eth0.addresses)
        assert eth0.add_peer("192.0.2.2").ping("192.0.2.1") == b"anykernel"
        assert b"eth0" in child.read_bytes("/proc/net/route")
        assert eth0.statistics["rx_packets"] == 1
        (there,) = ip.link("get", ifname="eth0")
        assert (there["index"], there.get("mtu")) == (eth0.ifindex, 1300)
        (here,) = kernel.iproute.link("get", ifname="eth0")
        assert (here["index"], here.get("mtu")) == (taken, 1500)
        # It may get a new name there, too, and is still the same device to the test.
        eth0.down()
        child.netlink().link("set", index=eth0.ifindex, ifname="moved")
        assert kernel.netdevs == {"moved": eth0}
        assert kernel.os.readlink("/proc/self/ns/net") != child.os.readlink("/proc/self/ns/net")
        assert len(kernel.os.listdir("/proc/self/fd")) == files
    kernel.os.waitpid(child.pid)
    kernel.clock.advance(1)  # the namespace is taken down: its devices fall back to the first
    assert (eth0.mtu, eth0.carrier) == (1300, False)
    assert eth0.name in kernel.os.listdir("/sys/class/net")
    assert int(kernel.read_text(f"/sys/class/net/{eth0.name}/ifindex")) == eth0.ifindex


def test_a_namespace_without_a_process(kernel: Kernel, eth0: Netdev) -> None:
    """One that only an open descriptor holds."""
    with kernel.fork() as child:
        child.os.unshare(NEWNET)
        kernel.iproute.link("set", index=eth0.ifindex, net_ns_pid=child.pid)
        held = kernel.os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY)
    kernel.os.waitpid(child.pid)
    eth0.up()
    eth0.add_address("192.0.2.1/24")
    assert eth0.carrier and "eth0" not in kernel.os.listdir("/sys/class/net")
    kernel.os.close(held)
    kernel.clock.advance(1)
    assert eth0.name in kernel.os.listdir("/sys/class/net")


def test_removed_and_restored(kernel: Kernel, eth0: Netdev) -> None:
    here = kernel.snapshot()
    for _ in range(2):
        eth0.remove()
        asks: list[Any] = [lambda: eth0.mac, lambda: eth0.ifindex, lambda: eth0.mtu]
        asks += [lambda: eth0.carrier, lambda: eth0.statistics, lambda: eth0.addresses]
        asks += [lambda: setattr(eth0, "mtu", 1400), lambda: setattr(eth0, "carrier", True)]
        asks += [eth0.up, eth0.remove, lambda: eth0.add_peer("192.0.2.2")]
        for ask in asks:
            with pytest.raises(UsageError, match="eth0 was removed"):
                ask()
        assert eth0.name == "eth0" and "eth0" in repr(eth0)
        kernel.restore(here)
        assert eth0.carrier and kernel.netdevs == {"eth0": eth0}
    eth0.down()
    kernel.iproute.link("set", index=eth0.ifindex, address=OTHER)
    assert eth0.mac == OTHER
    kernel.restore(here)
    assert eth0.mac == "02:00:00:00:00:01"


@pytest.mark.parametrize("value", [-1, 1 << 32, 1500.0, "1500"])
def test_what_is_no_mtu(eth0: Netdev, value: Any) -> None:
    with pytest.raises(UsageError, match="the MTU is a number of bytes"):
        eth0.mtu = value
    with pytest.raises(OSError, match="Invalid argument"):
        eth0.mtu = 5


@pytest.mark.kernel(allow_crash=True)
def test_of_a_dead_kernel(kernel: Kernel, eth0: Netdev) -> None:
    with pytest.raises(KernelCrash):
        kernel.inside.memset(16, 0, 16)
    assert eth0.name == "eth0" and "eth0" in repr(eth0)
    with pytest.raises(KernelCrash):
        assert eth0.mac


# Captures


def test_a_capture_of_a_device_that_is_removed(kernel: Kernel, eth0: Netdev) -> None:
    peer = eth0.add_peer("192.0.2.2")
    capture = eth0.capture()
    peer.ping("192.0.2.1")
    eth0.remove()
    before = len(capture)
    assert before >= 2
    again = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])
    assert again.dev == eth0.dev, "it has the other's number now"
    again.add_peer("192.0.2.2").ping("192.0.2.1")
    assert len(capture) == before


@pytest.mark.parametrize("fails", [False, True])
def test_captures_end_with_their_block(
    kernel: Kernel, eth0: Netdev, tmp_path: Path, fails: bool
) -> None:
    from anykernel.kernel.pcap import read_pcap

    peer = eth0.add_peer("192.0.2.2")
    path = tmp_path / "block.pcap"
    kept = []
    with suppress(ZeroDivisionError), eth0.capture() as first, eth0.pcap(path) as second:
        kept = [first, second]
        peer.ping("192.0.2.1")
        assert not fails or 1 // 0
    peer.ping("192.0.2.1")
    assert [len(capture) for capture in kept] == [2, 2]
    assert len(read_pcap(path)) == 2
