# SPDX-License-Identifier: GPL-2.0
"""ethtool by its ioctl, and scapy as the judge of frames: for tests of netdevs' features."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from scapy.layers.l2 import Ether

if TYPE_CHECKING:
    from anykernel.kernel import Process

PEER = "02:00:00:00:00:99"
SIOCETHTOOL = 0x8946
GET_STRINGS, GET_COUNT, GET_FEATURES, SET_FEATURES = 0x1B, 0x37, 0x3A, 0x3B
OF_FEATURES = 4


def ethtool(kernel: Process, device: str, request: bytes) -> bytes:
    """SIOCETHTOOL with a struct of <linux/ethtool.h>, as it is afterwards."""
    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, kernel.memory() as memory:
        area = memory.new(len(request))
        area.view[:] = request
        asked = struct.pack("=16sQ16x", device.encode(), area.address)
        kernel.syscall("ioctl", sock.fileno(), SIOCETHTOOL, asked)
        return bytes(area.view)


def strings(kernel: Process, device: str, which: int) -> list[str]:
    """The names of a set: of features, statistics ..."""
    asked = ethtool(kernel, device, struct.pack("=IIQI", GET_COUNT, 0, 1 << which, 0))
    (count,) = struct.unpack_from("=I", asked, 16)
    found = ethtool(
        kernel, device, struct.pack("=III", GET_STRINGS, which, count) + bytes(32 * count)
    )
    names = (found[12 + 32 * i : 44 + 32 * i] for i in range(count))
    return [name.split(b"\0")[0].decode() for name in names]


def features(kernel: Process, device: str) -> dict[str, tuple[bool, bool]]:
    """For each feature's name: whether it can be switched, and whether it is on."""
    names = strings(kernel, device, OF_FEATURES)
    blocks = (len(names) + 31) // 32
    found = ethtool(kernel, device, struct.pack("=II", GET_FEATURES, blocks) + bytes(16 * blocks))
    words = list(struct.iter_unpack("=IIII", found[8:]))
    return {
        name: (bool(words[i // 32][0] >> i % 32 & 1), bool(words[i // 32][2] >> i % 32 & 1))
        for i, name in enumerate(names)
    }


def switch(kernel: Process, device: str, **wanted: bool) -> None:
    """ethtool -K, with the features' names; _ for -."""
    names = strings(kernel, device, OF_FEATURES)
    words = [[0, 0] for _ in range((len(names) + 31) // 32)]
    for name, on in wanted.items():
        i = names.index(name.replace("_", "-"))
        words[i // 32][0] |= 1 << i % 32
        words[i // 32][1] |= on << i % 32
    raw = b"".join(struct.pack("=II", *word) for word in words)
    ethtool(kernel, device, struct.pack("=II", SET_FEATURES, len(words)) + raw)


def right(frame: bytes) -> bool:
    """Whether scapy would compute the same lengths and checksums, inside of tunnels, too."""
    packet = Ether(frame)
    layer: Any = packet
    while layer:
        for name in ("chksum", "cksum", "len", "plen"):
            if not (name == "chksum" and layer.name in ("UDP", "GRE") and not layer.chksum):
                layer.fields.pop(name, None)
        layer.raw_packet_cache = None
        layer = layer.payload
    return bytes(packet) == frame
