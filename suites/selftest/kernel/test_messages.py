# SPDX-License-Identifier: GPL-2.0
"""Control messages, error queues, time stamps, files through sockets; addresses of families."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest

from anykernel.kernel import Kernel, Process, abi, cmsg
from anykernel.kernel.cmsg import SOL_IP, SOL_IPV6, SOL_SOCKET
from anykernel.kernel.sockets import Socket

ERRQUEUE = 0x2000
SOF = {"tx": 2, "rx": 8, "software": 16, "hardware_raw": 64, "id": 128, "only": 2048}


def udp(process: Process, family: int = socket.AF_INET, port: int = 0) -> Socket:
    sock = process.socket(family, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", port))
    sock.settimeout(3)
    return sock


def pair(process: Process) -> tuple[Socket, Socket]:
    server = process.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    client = process.socket()
    client.connect(server.getsockname())
    accepted, _ = server.accept()
    server.close()
    return client, accepted


def time_of_day(kernel: Kernel) -> int:
    room = bytearray(16)
    kernel.syscall("clock_gettime", 0, room)
    seconds, nanoseconds = struct.unpack("=qq", room)
    return int(seconds * 10**9 + nanoseconds)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_error_queue(system: Process, family: int) -> None:
    """The same of the machine's own kernel."""
    gone, sock = udp(system, family), udp(system, family)
    where = gone.getsockname()
    gone.close()
    level, option = (SOL_IP, 11) if family == socket.AF_INET else (SOL_IPV6, 25)
    sock.setsockopt(level, option, 1)
    sock.sendto(b"nobody there", where)
    data, messages, flags, to = sock.recvmsg(100, 512, ERRQUEUE)
    assert (data, to[1]) == (b"nobody there", where[1]) and flags & ERRQUEUE
    (found,) = cmsg.extended_errors(messages)
    assert (found.name, found.errno, found.stamp) == ("ECONNREFUSED", errno.ECONNREFUSED, None)
    if family == socket.AF_INET:
        assert (found.origin, found.type, found.code) == ("icmp", 3, 3)
    else:
        assert (found.origin, found.type, found.code) == ("icmp6", 1, 4)
    assert found.offender[0] == where[0]
    sock.close()


def test_time_stamps(kernel: Kernel) -> None:
    sock, other = udp(kernel), udp(kernel)
    kernel.clock.advance(1.5)
    for option in (29, 35):  # SO_TIMESTAMP, SO_TIMESTAMPNS
        other.setsockopt(SOL_SOCKET, option, 1)
        sock.sendto(b"x", other.getsockname())
        _, messages, _, _ = other.recvmsg(1, 512)
        stamp = cmsg.timestamps(messages)
        assert stamp is not None and stamp.hardware == 0
        assert abs(stamp.software - time_of_day(kernel)) < 10**6
        other.setsockopt(SOL_SOCKET, option, 0)
    assert cmsg.timestamps([]) is None


def test_time_stamps_of_what_is_sent(kernel: Kernel) -> None:
    sock, other = udp(kernel), udp(kernel)
    sock.setsockopt(SOL_SOCKET, 37, SOF["tx"] | SOF["software"] | SOF["id"] | SOF["only"])
    for _ in range(2):
        sock.sendto(b"x", other.getsockname())
    for number in range(2):
        _, messages, _, _ = sock.recvmsg(0, 512, ERRQUEUE)
        (found,) = cmsg.extended_errors(messages)
        assert (found.name, found.origin, found.stamp) == ("ENOMSG", "timestamping", "sent")
        assert (found.data, found.offender) == (number, None)
        stamp = cmsg.timestamps(messages)
        assert stamp is not None and stamp.software > 0


def test_packet_information(system: Process) -> None:
    sock, other = udp(system), udp(system)
    for option in (8, 12, 13):  # IP_PKTINFO, IP_RECVTTL, IP_RECVTOS
        other.setsockopt(SOL_IP, option, 1)
    sent = [cmsg.ttl(7), cmsg.tos(0x1C), cmsg.from_address("127.0.0.5")]
    sock.sendmsg([b"a", b"b"], sent, 0, other.getsockname())
    data, messages, _, address = other.recvmsg(10, 512)
    assert (data, address[0]) == (b"ab", "127.0.0.5")
    found = cmsg.packet_info(messages)
    assert found is not None
    assert (found.ifindex, found.destination, found.local) == (1, "127.0.0.1", "127.0.0.1")
    assert cmsg.number(messages, SOL_IP, cmsg.IP_TTL) == 7
    assert cmsg.number(messages, SOL_IP, cmsg.IP_TOS) == 0x1C
    assert cmsg.number(messages, SOL_IP, cmsg.IP_RECVERR) is None


def test_packet_information_of_ipv6(system: Process) -> None:
    sock, other = udp(system, socket.AF_INET6), udp(system, socket.AF_INET6)
    for option in (49, 51, 66):  # IPV6_RECVPKTINFO, RECVHOPLIMIT, RECVTCLASS
        other.setsockopt(SOL_IPV6, option, 1)
    sent = [cmsg.ttl(9, 6), cmsg.tos(4, 6), cmsg.from_address("::1", 1)]
    sock.sendmsg([b"x"], sent, 0, other.getsockname())
    _, messages, _, _ = other.recvmsg(10, 512)
    found = cmsg.packet_info(messages)
    assert found is not None and (found.ifindex, found.destination) == (1, "::1")
    assert cmsg.number(messages, SOL_IPV6, cmsg.IPV6_HOPLIMIT) == 9
    assert cmsg.number(messages, SOL_IPV6, cmsg.IPV6_TCLASS) == 4


def test_segments(system: Process) -> None:
    sock, other = udp(system), udp(system)
    sock.sendmsg([bytes(2500)], [cmsg.segments(1000)], 0, other.getsockname())
    assert [len(other.recv(5000)) for _ in range(3)] == [1000, 1000, 500]


def test_descriptors_and_credentials(system: Process) -> None:
    near, far = system.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    far.setsockopt(SOL_SOCKET, 16, 1)  # SO_PASSCRED
    pid, uid, gid = system.os.getpid(), system.os.getuid(), system.os.getgid()
    given = [cmsg.rights(near.fileno()), cmsg.credentials(pid, uid, gid)]
    near.sendmsg([b"x"], given)
    _, messages, _, _ = far.recvmsg(1, 512)
    kinds = {kind: data for level, kind, data in messages if level == SOL_SOCKET}
    assert kinds[cmsg.SCM_CREDENTIALS] == cmsg.credentials(pid, uid, gid)[2]
    descriptor = int.from_bytes(kinds[cmsg.SCM_RIGHTS], "little")
    system.os.write(descriptor, b"through it")
    assert far.recv(100) == b"through it"


def test_recvmsg_into(system: Process) -> None:
    near, far = system.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.sendmsg([b"hello, world"], [cmsg.rights(0)])
    parts = [bytearray(5), bytearray(2), bytearray(100)]
    got, messages, flags, _ = far.recvmsg_into(parts, 100)
    assert (got, bytes(parts[0]), bytes(parts[1]), bytes(parts[2][:5])) == (
        12, b"hello", b", ", b"world",
    )  # fmt: skip
    assert (messages[0][1], flags) == (cmsg.SCM_RIGHTS, 0)
    assert not any(parts[2][5:])


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_sendfile(kernel: Kernel, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    with kernel.open("/tmp/file", "wb") as file:
        file.write(content[:size])
    client, accepted = pair(kernel)
    with kernel.open("/tmp/file", "rb") as file:
        call = kernel.submit(client.sendfile, file)
        received = bytearray()
        while len(received) < size:
            received += accepted.recv(1 << 20)
        assert call.result() == size
        assert received == content[:size]
        assert file.read() == b""


def test_parts_of_files(kernel: Kernel, tmp_path: Any) -> None:
    """Of Python's own files, too, as their descriptors mean nothing to the kernel."""
    client, accepted = pair(kernel)
    kernel.write_text("/tmp/file", "0123456789")
    (tmp_path / "file").write_text("abcdefghij")
    with kernel.open("/tmp/file", "rb") as ours, (tmp_path / "file").open("rb") as its:
        assert [client.sendfile(ours, 3, 4), client.sendfile(its, 3, 4)] == [4, 4]
        assert [ours.tell(), its.tell()] == [7, 7]
        assert client.sendfile(its, 8) == 2
        with pytest.raises(ValueError, match="positive"):
            client.sendfile(ours, 0, -1)
        with udp(kernel) as other, pytest.raises(ValueError, match="SOCK_STREAM"):
            other.sendfile(ours)
    assert accepted.recv(100) == b"3456defgij"


def test_addresses_lie_where_the_kernel_looks(kernel: Kernel) -> None:
    """By its own headers."""
    code = kernel.c("""
        #include <linux/can.h>
        #include <linux/socket.h>
        #include <uapi/linux/vm_sockets.h>
        #include <uapi/linux/if_pppox.h>

        int can_interface(struct sockaddr_can *a) { return a->can_ifindex; }
        u32 can_rx(struct sockaddr_can *a) { return a->can_addr.tp.rx_id; }
        u32 can_tx(struct sockaddr_can *a) { return a->can_addr.tp.tx_id; }
        u64 can_name(struct sockaddr_can *a) { return a->can_addr.j1939.name; }
        u32 can_pgn(struct sockaddr_can *a) { return a->can_addr.j1939.pgn; }
        u8 can_addr(struct sockaddr_can *a) { return a->can_addr.j1939.addr; }
        u32 vsock_cid(struct sockaddr_vm *a) { return a->svm_cid; }
        u32 vsock_port(struct sockaddr_vm *a) { return a->svm_port; }
        u16 pppoe_session(struct sockaddr_pppox *a) { return ntohs(a->sa_addr.pppoe.sid); }
        const char *pppoe_device(struct sockaddr_pppox *a) { return a->sa_addr.pppoe.dev; }
        u8 pppoe_mac(struct sockaddr_pppox *a, int at) { return a->sa_addr.pppoe.remote[at]; }
        long sizes(int which)
        {
            return which == 0 ? sizeof(struct sockaddr_can) :
                   which == 1 ? sizeof(struct sockaddr_vm) : sizeof(struct sockaddr_pppox);
        }
    """)

    def index(name: str) -> int:
        return int(name.removeprefix("can"))

    isotp = abi.pack_address(socket.AF_CAN, ("can5", 0x123, 0x80000456), index)
    assert code.can_interface(isotp) == 5
    assert (code.can_rx(isotp), code.can_tx(isotp)) == (0x123, 0x80000456)
    assert abi.unpack_address(isotp, lambda n: f"can{n}", 6) == ("can5", 0x123, 0x80000456)
    j1939 = abi.pack_address(socket.AF_CAN, ("can6", 1 << 63 | 7, 0x3FFFF, 254), index)
    assert (code.can_name(j1939), code.can_pgn(j1939), code.can_addr(j1939)) == (
        1 << 63 | 7, 0x3FFFF, 254,
    )  # fmt: skip
    assert abi.unpack_address(j1939, lambda n: f"can{n}", 7)[1:] == (1 << 63 | 7, 0x3FFFF, 254)
    vsock = abi.pack_address(socket.AF_VSOCK, (3, 1024))
    assert (code.vsock_cid(vsock), code.vsock_port(vsock)) == (3, 1024)
    pppoe = abi.pack_address(socket.AF_PPPOX, (0x1234, "02:00:00:00:00:05", "eth0"))
    assert code.pppoe_session(pppoe) == 0x1234
    assert code.pppoe_device(pppoe).string() == "eth0"
    assert [code.pppoe_mac(pppoe, at) for at in range(6)] == [2, 0, 0, 0, 0, 5]
    assert [code.sizes(n) for n in range(3)] == [len(isotp), len(vsock), len(pppoe)]
