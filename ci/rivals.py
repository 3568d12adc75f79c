# SPDX-License-Identifier: GPL-2.0
"""The rivals for packet rates: AF_PACKET loops over a veth pair of the host's own kernel.

Run as a program it prints one JSON object: {"loop_per_s": ..., "icmp_per_s": ...} or
{"reason": "why they can't run"}.  It makes a network namespace of its own and leaves nothing
behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo_request(source_mac: bytes, target_mac: bytes, source: str, target: str) -> bytes:
    """An Ethernet frame with an ICMP echo request of 56 bytes of payload, as ping sends it."""
    icmp = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + bytes(56)
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0) + addresses
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return target_mac + source_mac + b"\x08\x00" + ip + icmp


def namespace() -> None:
    """Moves this process to a new network namespace; raises OSError when it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWUSER | CLONE_NEWNET
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))


def veth_pair() -> tuple[bytes, bytes]:
    """veth a (ours) and b (10.9.0.1, the kernel's); their hardware addresses."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.link("add", ifname="a", kind="veth", peer="b")
        indexes = [route.link_lookup(ifname=name)[0] for name in "ab"]
        for index in indexes:
            route.link("set", index=index, state="up")
        macs = [
            bytes.fromhex(route.get_links(index)[0].get_attr("IFLA_ADDRESS").replace(":", ""))
            for index in indexes
        ]
        route.addr("add", index=indexes[1], address="10.9.0.1", prefixlen=24)
        neighbour = ":".join(f"{byte:02x}" for byte in macs[0])
        route.neigh("replace", dst="10.9.0.2", lladdr=neighbour, ifindex=indexes[1])
    return macs[0], macs[1]


def packet_socket(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    sock.bind((name, 0x0800))
    sock.settimeout(2)
    return sock


def best_rate(once: Callable[[], None], seconds: float) -> float:
    """The best rate of calls a second, in runs of 2,000."""
    once()
    best = 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(2000):
            once()
        best = max(best, 2000 / (time.perf_counter() - started))
    return best


def loop_rate(request: bytes, seconds: float) -> float:
    """Both ends in Python: out of a, read at b, sent back, read at a."""
    with packet_socket("a") as a, packet_socket("b") as b:

        def once() -> None:
            a.send(request)
            b.send(b.recv(2048))
            a.recv(2048)

        return best_rate(once, seconds)


def icmp_rate(request: bytes, seconds: float) -> float:
    """The host's kernel answers the ping."""
    answers = socket.inet_aton("10.9.0.1") + socket.inet_aton("10.9.0.2")
    with packet_socket("a") as a:

        def once() -> None:
            a.send(request)
            while a.recv(2048)[26:34] != answers:
                pass

        return best_rate(once, seconds)


def main() -> None:
    try:
        seconds = float(sys.argv[1]) / 2
        namespace()
        ours, theirs = veth_pair()
        # Not for the kernel's own address: what the loop sends must not be answered by it.
        loop = echo_request(ours, theirs, "10.9.0.2", "10.9.0.77")
        ping = echo_request(ours, theirs, "10.9.0.2", "10.9.0.1")
        result: dict[str, object] = {
            "loop_per_s": loop_rate(loop, seconds),
            "icmp_per_s": icmp_rate(ping, seconds),
        }
    except Exception as error:
        result = {"reason": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
