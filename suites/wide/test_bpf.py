# SPDX-License-Identifier: GPL-2.0
"""BPF programs that bpf(2) loads: on sockets, in tc, as XDP, on cgroups."""

from __future__ import annotations

import socket
import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether

from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev

from . import bpf, wire

pytestmark = pytest.mark.needs("BPF_SYSCALL")

SO_ATTACH_BPF = 50
PEER = "02:00:00:00:00:99"
XDP_SKB_MODE = 2
LENGTH, PROTOCOL = 0, 16
"""In struct __sk_buff."""


@pytest.fixture
def eth(kernel: Kernel) -> Netdev:
    made = kernel.add_netdev("eth0", addresses=["10.0.0.1/24"], ipv6_chatter=False)
    made.add_neighbour("10.0.0.2", PEER)
    return made


def echo(eth: Netdev, size: int = 10) -> list[bytes]:
    """What is answered to an ICMP echo request of `size` bytes."""
    frame = Ether(dst=eth.mac, src=PEER) / IP(src="10.0.0.2", dst="10.0.0.1") / ICMP() / bytes(size)
    return [bytes(one) for one in eth.exchange(frame)]


def test_a_socket_filter_counts_and_drops(kernel: Kernel) -> None:
    """Datagrams of more than 100 bytes (8 of which are UDP's) are not heard."""
    counter = bpf.new_map(kernel)
    code = (
        bpf.insn(0xBF, 6, 1)
        + bpf.count(counter)
        + bpf.insn(0x61, 7, 6, off=LENGTH)  # r7 = skb->len
        + bpf.insn(0x25, 7, off=2, imm=100)  # if (r7 > 100) drop
        + bpf.leave(-1)
        + bpf.leave(0)
    )
    program = bpf.load(kernel, bpf.SOCKET_FILTER, code)
    with (
        kernel.socket(type=socket.SOCK_DGRAM) as ours,
        kernel.socket(type=socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("127.0.0.1", 7))
        ours.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, program)
        for size in (92, 93, 20):
            theirs.sendto(bytes(size), ("127.0.0.1", 7))
        assert [len(ours.recv(200)) for _ in range(2)] == [92, 20]
        assert bpf.read(kernel, counter) == 3


def test_a_program_that_the_verifier_refuses(kernel: Kernel) -> None:
    with pytest.raises(PermissionError, match="R0 !read_ok"):
        bpf.load(kernel, bpf.SOCKET_FILTER, bpf.insn(0x95))


@pytest.mark.needs("NET_CLS_BPF")
@pytest.mark.parametrize(("direction", "parent"), [("in", 0xFFFFFFF2), ("out", 0xFFFFFFF3)])
def test_a_program_of_tc_drops_long_ones(
    kernel: Kernel, eth: Netdev, direction: str, parent: int
) -> None:
    counter = bpf.new_map(kernel)
    code = (
        bpf.insn(0xBF, 6, 1)
        + bpf.count(counter)
        + bpf.insn(0x61, 7, 6, off=LENGTH)
        + bpf.insn(0x25, 7, off=2, imm=200)
        + bpf.leave(0)  # TC_ACT_OK
        + bpf.leave(2)  # TC_ACT_SHOT
    )
    program = bpf.load(kernel, bpf.SCHED_CLS, code)
    wire.block(kernel, eth)
    options = wire.u32(6, program) + wire.text(7, "program") + wire.u32(8, 1)
    protocol = socket.htons(3)
    wire.tc(
        kernel, wire.NEWFILTER, eth, "bpf", options, parent=parent, handle=1,
        info=1 << 16 | protocol,
    )  # fmt: skip
    assert len(echo(eth, 10)) == 1 and not echo(eth, 300)
    assert bpf.read(kernel, counter) == 2


def test_generic_xdp_drops_and_sends_back(kernel: Kernel, eth: Netdev) -> None:
    """UDP is dropped, ARP is sent back as it is, the rest passes."""
    counter = bpf.new_map(kernel)
    code = (
        bpf.insn(0x61, 7, 1, off=0)  # data
        + bpf.insn(0x61, 8, 1, off=4)  # data_end
        + bpf.insn(0xBF, 2, 7)
        + bpf.insn(0x07, 2, imm=24)
        + bpf.insn(0x2D, 2, 8, off=17)  # if (data + 24 > data_end) pass
        + bpf.insn(0x69, 9, 7, off=12)  # the protocol
        + bpf.insn(0x55, 9, off=2, imm=socket.htons(0x0806))
        + bpf.leave(3)  # XDP_TX
        + bpf.insn(0x71, 9, 7, off=23)  # IPv4's protocol
        + bpf.insn(0x55, 9, off=11, imm=17)
        + bpf.count(counter)  # 9 instructions
        + bpf.leave(1)  # XDP_DROP
        + bpf.leave(2)  # XDP_PASS
    )
    program = bpf.load(kernel, bpf.XDP, code)
    kernel.link_set(
        eth, xdp={"attrs": [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", XDP_SKB_MODE)]}
    )
    assert len(echo(eth)) == 1
    ip = IP(src="10.0.0.2", dst="10.0.0.1")
    assert not eth.exchange(Ether(dst=eth.mac, src=PEER) / ip / UDP(dport=99) / bytes(20))
    assert bpf.read(kernel, counter) == 1
    arp = bytes.fromhex(eth.mac.replace(":", "") + PEER.replace(":", "") + "0806") + bytes(
        range(46)
    )
    assert [bytes(one) for one in eth.exchange(arp)] == [arp]
    kernel.link_set(eth, xdp={"attrs": [("IFLA_XDP_FD", -1), ("IFLA_XDP_FLAGS", XDP_SKB_MODE)]})
    answers = eth.exchange(Ether(dst=eth.mac, src=PEER) / ip / UDP(dport=99) / bytes(20))
    assert [one[ICMP].type for one in answers] == [3]


@pytest.mark.needs("CGROUP_BPF")
def test_a_program_of_a_cgroup_holds_its_processes(kernel: Kernel, eth: Netdev) -> None:
    program = bpf.load(kernel, bpf.CGROUP_SKB, bpf.leave(0), attach=1)
    kernel.os.mkdir("/sys/fs/cgroup/mute")
    folder = kernel.os.open("/sys/fs/cgroup/mute", 0o200000)
    attr = struct.pack("=IIII", folder, program, 1, 0)  # BPF_CGROUP_INET_EGRESS
    kernel.syscall("bpf", 8, attr, len(attr))
    with kernel.fork() as child:
        kernel.write_text("/sys/fs/cgroup/mute/cgroup.procs", str(child.pid))
        for process, error in ((kernel, None), (child, PermissionError)):
            with process.socket(type=socket.SOCK_DGRAM) as sock, eth.capture() as frames:
                if error is None:
                    sock.sendto(b"x", ("10.0.0.2", 9))
                else:
                    with pytest.raises(error):
                        sock.sendto(b"x", ("10.0.0.2", 9))
            assert len(frames.sent) == (error is None)
