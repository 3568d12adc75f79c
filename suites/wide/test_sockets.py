# SPDX-License-Identifier: GPL-2.0
"""Sockets of other families, and what can be done to those of TCP."""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
from collections.abc import Iterator

import pytest

from anykernel.kernel import Kernel
from anykernel.kernel.sockets import Socket
from anykernel.net import Network

AF_TIPC, AF_ALG = 30, 38
LOCAL = 1
"""VMADDR_CID_LOCAL"""
TCP_CONGESTION, TCP_ULP, SOL_TLS, TLS_TX, TLS_RX = 13, 31, 282, 1, 2
CONTROLS = (
    "bbr bic cdg cubic dctcp highspeed htcp hybla illinois lp nv reno scalable vegas veno "
    "westwood yeah"
)


@pytest.fixture
def pair(kernel: Kernel) -> Iterator[tuple[Socket, Socket]]:
    """A client and what a server accepted, of TCP over lo."""
    with kernel.socket() as server, kernel.socket() as client:
        server.bind(("127.0.0.1", 80))
        server.listen()
        client.connect(("127.0.0.1", 80))
        accepted, _ = server.accept()
        with accepted:
            yield client, accepted


@pytest.mark.needs("VSOCKETS", "VSOCKETS_LOOPBACK")
def test_vsock_loopback(kernel: Kernel) -> None:
    with (
        kernel.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as server,
        kernel.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client,
    ):
        server.bind((LOCAL, 1234))
        server.listen()
        with pytest.raises(ConnectionResetError):
            client.connect((LOCAL, 1235))
        with kernel.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as client:
            client.connect((LOCAL, 1234))
            accepted, address = server.accept()
            assert address[0] == LOCAL
            with accepted:
                data = bytes(range(256)) * 1000
                sending = kernel.submit(client.sendall, data)
                got = b""
                while len(got) < len(data):
                    got += accepted.recv(1 << 16)
                sending.result()
                assert got == data


@pytest.mark.needs("TIPC")
def test_tipc_services(kernel: Kernel) -> None:
    """A message to service 18888, instance 5, comes to who has 1 to 10 of them."""
    with (
        kernel.socket(AF_TIPC, socket.SOCK_RDM) as server,
        kernel.socket(AF_TIPC, socket.SOCK_RDM) as client,
    ):
        server.bind((1, 18888, 1, 10, 2))
        client.sendto(b"hello", (2, 18888, 5, 0))
        data, address = server.recvfrom(100)
        assert data == b"hello" and address[0] == 3
        server.sendto(b"and back", address)
        assert client.recv(100) == b"and back"
        with pytest.raises(OSError) as caught:
            client.sendto(b"nobody", (2, 18888, 11, 0))
        assert caught.value.errno == errno.EHOSTUNREACH


@pytest.mark.needs("CRYPTO_USER_API_HASH", "CRYPTO_SHA512", "CRYPTO_SHA256")
@pytest.mark.parametrize("name", ["sha1", "sha256", "sha512", "md5"])
def test_af_alg_hashes_as_hashlib_does(kernel: Kernel, name: str) -> None:
    """A file's pages go there by sendfile()."""
    data = bytes(range(256)) * 40
    with kernel.open("/tmp/data", "wb") as file:
        file.write(data)
    with kernel.socket(AF_ALG, socket.SOCK_SEQPACKET) as transform:
        transform.bind(("hash", name))
        operation, _ = transform.accept()
        with operation, kernel.open("/tmp/data", "rb", buffering=0) as file:
            sent = kernel.syscall("sendfile", operation.fileno(), file.fileno(), None, len(data))
            assert sent == len(data)
            assert operation.recv(64) == hashlib.new(name, data).digest()


@pytest.mark.needs("INET_DIAG_DESTROY")
def test_ss_kills_a_connection(kernel: Kernel, pair: tuple[Socket, Socket]) -> None:
    client, accepted = pair
    (_, port) = client.getsockname()
    local = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    number = (
        struct.pack("!HH", port, 80) + local * 2 + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    )
    body = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + number
    with kernel.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as sock:
        sock.send(struct.pack("=IHHII", 16 + len(body), 21, 5, 1, 0) + body)  # SOCK_DESTROY
        assert struct.unpack_from("=i", sock.recv(1000), 16)[0] == 0
    with pytest.raises(ConnectionAbortedError):
        client.recv(1)
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)


@pytest.mark.needs("TLS")
def test_ktls(kernel: Kernel, pair: tuple[Socket, Socket]) -> None:
    """TLS 1.3's records of AES-128-GCM: plain to both ends, not on the wire."""
    client, accepted = pair
    info = struct.pack("=HH8s16s4s8s", 0x304, 51, bytes(8), bytes(range(16)), b"salt", bytes(8))
    for sock, way in ((client, TLS_TX), (accepted, TLS_RX)):
        sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        sock.setsockopt(SOL_TLS, way, info)
    with kernel.capture("lo") as frames:
        client.sendall(b"What is told in confidence")
        assert accepted.recv(100) == b"What is told in confidence"
    records = [one.data[-48:] for one in frames if len(one.data) > 100]
    # 5 bytes of header: application data, TLS 1.2, then the text, its type and a tag of 16.
    assert any(bytes.fromhex("170303002b") in one for one in records)
    assert not any(b"in confidence" in one.data for one in frames)


@pytest.mark.parametrize("name", CONTROLS.split())
def test_congestion_controls_move_bytes_over_a_lossy_link(network: Network, name: str) -> None:
    symbol = {"highspeed": "HSTCP", "reno": "ADVANCED"}.get(name, name.upper())
    a, b = network.chain(2, rate="20Mbit", delay="5ms", loss="1%")
    known = a.read_text("/proc/sys/net/ipv4/tcp_available_congestion_control").split()
    if name not in known:
        pytest.skip(
            f"this kernel has no CONFIG_TCP_CONG_{symbol}: pytest --kernel-flavour=wide suites/wide"
        )
    network.address()
    flow = network.bulk(a, b, bytes=300_000, congestion=name)
    network.run()
    assert flow.moved == 300_000


@pytest.mark.needs("AF_KCM", "BPF_SYSCALL")
def test_kcm_makes_messages_of_a_stream(kernel: Kernel, pair: tuple[Socket, Socket]) -> None:
    """The program says how long a message is: its first byte."""
    from . import bpf

    client, accepted = pair
    code = bpf.insn(0xBF, 6, 1) + bpf.insn(0x30, imm=0) + bpf.insn(0x95)
    program = bpf.load(kernel, bpf.SOCKET_FILTER, code)
    with kernel.socket(41, socket.SOCK_DGRAM, 0) as kcm:
        attach = bytearray(struct.pack("=ii", accepted.fileno(), program))
        kernel.syscall("ioctl", kcm.fileno(), 0x89E0, attach)
        for part in (b"\x04abc", b"\x06def", b"gh", b"\x02i"):
            client.sendall(part)
        assert [kcm.recv(100) for _ in range(3)] == [b"\x04abc", b"\x06defgh", b"\x02i"]


@pytest.mark.needs("RDS", "RDS_TCP")
def test_rds_over_tcp_loopback(kernel: Kernel) -> None:
    with (
        kernel.socket(21, socket.SOCK_SEQPACKET) as one,
        kernel.socket(21, socket.SOCK_SEQPACKET) as other,
    ):
        for sock, port in ((one, 4000), (other, 4001)):
            sock.bind(
                struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, b"\x7f\0\0\x01")
            )
        one.sendto(b"reliable", struct.pack("=H", 2) + struct.pack("!H4s8x", 4001, b"\x7f\0\0\x01"))
        assert other.recv(100) == b"reliable"
