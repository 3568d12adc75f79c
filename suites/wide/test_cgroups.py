# SPDX-License-Identifier: GPL-2.0
"""Control groups that name the network traffic of their processes."""

from __future__ import annotations

import socket
import struct

import pytest

from anykernel.kernel import Kernel, Process

from . import wire

PEER = "02:00:00:00:00:99"
SHOT = 2


def sends(process: Process) -> None:
    with process.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("10.0.0.2", 9))


@pytest.mark.needs("CGROUP_NET_CLASSID", "NET_CLS_CGROUP", "NET_CLS_BASIC")
def test_a_net_class_is_filtered(kernel: Kernel) -> None:
    """tc's cgroup classifier puts packets of the group's processes into class 1:2, which drops."""
    eth = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"], ipv6_chatter=False)
    eth.add_neighbour("10.0.0.2", PEER)
    kernel.os.mkdir("/tmp/classes")
    kernel.os.mount("net_cls", "/tmp/classes", "cgroup", 0, "net_cls")
    kernel.os.mkdir("/tmp/classes/two")
    kernel.write_text("/tmp/classes/two/net_cls.classid", "0x10002")
    # prio has three bands, 1:1 to 1:3; plug in the second one holds what comes.
    prio = struct.pack("=i16B", 3, *[2] * 16)
    wire.tc(kernel, wire.NEWQDISC, eth, "prio", prio)
    wire.tc(kernel, wire.NEWQDISC, eth, "plug", parent=0x10002, handle=0x20000)
    wire.tc(
        kernel, wire.NEWFILTER, eth, "cgroup", b"", parent=0x10000, handle=1,
        info=1 << 16 | socket.htons(3),
    )  # fmt: skip
    with kernel.fork() as child:
        kernel.write_text("/tmp/classes/two/tasks", str(child.pid))
        with eth.capture() as frames:
            sends(child)
            assert not frames.sent
            sends(kernel)
            assert len(frames.sent) == 1


@pytest.mark.needs("CGROUP_NET_PRIO")
def test_a_group_has_a_priority_on_a_device(kernel: Kernel) -> None:
    eth = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"], ipv6_chatter=False)
    eth.add_neighbour("10.0.0.2", PEER)
    kernel.os.mkdir("/tmp/priorities")
    kernel.os.mount("net_prio", "/tmp/priorities", "cgroup", 0, "net_prio")
    kernel.os.mkdir("/tmp/priorities/high")
    kernel.write_text("/tmp/priorities/high/net_prio.ifpriomap", "eth0 6")
    bands = [0 if one == 6 else 1 for one in range(16)]
    wire.tc(kernel, wire.NEWQDISC, eth, "prio", struct.pack("=i16B", 3, *bands))
    wire.tc(kernel, wire.NEWQDISC, eth, "plug", parent=0x10001, handle=0x20000)
    with kernel.fork() as child:
        kernel.write_text("/tmp/priorities/high/tasks", str(child.pid))
        with eth.capture() as frames:
            sends(child)
            assert not frames.sent
            sends(kernel)
            assert len(frames.sent) == 1
