# SPDX-License-Identifier: GPL-2.0
"""An IPsec tunnel between two gateways (XFRM, ESP in tunnel mode); the original suite used XFRM
only for Mobile IPv6 and had no case with encryption.

Property: hosts behind the gateways reach each other, and on the link between these nothing but
ESP is seen; what it hides is, decrypted and authenticated by Python with the keys alone, exactly
the packet that the host sent; TCP's segments are as large as the tunnel's overhead allows; what is
repeated, changed, sent with a wrong key, or sent without ESP reaches nobody, and is counted.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.net import link as rules
from anykernel.net.xfrm import FORWARD, IN, OUT, Selector, State, Template, Xfrm, statistics

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.link import Frame, Link, Verdict
    from anykernel.net.node import Node
    from anykernel.net.wire import Passage

GATES = {"left": "198.51.100.1", "right": "198.51.100.2"}
NETS = {"left": "10.1.0.0/24", "right": "10.2.0.0/24"}
HOSTS = {"left": "10.1.0.2", "right": "10.2.0.2"}
SPIS = {"left": 0x1001, "right": 0x1002}
"""Of what leaves each gateway."""
KEY, SECRET = bytes(range(16)), bytes(range(100, 132))
ETHER, IPV4, ESP_HEADER = 14, 20, 8
PINGS = 4


@dataclass(frozen=True)
class Suite:
    """Algorithms, and what they add to a packet in bytes."""

    options: dict[str, Any]
    iv: int
    icv: int
    align: int

    @property
    def mtu(self) -> int:
        """Of the tunnel: what fits into 1,500 bytes with padding to `align` and two bytes more."""
        room = 1500 - IPV4 - ESP_HEADER - self.iv - self.icv
        return room // self.align * self.align - 2


CBC = Suite(
    {"encryption": ("cbc(aes)", KEY), "authentication": ("hmac(sha256)", SECRET, 128)}, 16, 16, 16
)
GCM = Suite({"aead": ("rfc4106(gcm(aes))", KEY + b"salt", 128)}, 8, 16, 4)


@dataclass
class Tunnel:
    network: Network
    hosts: dict[str, Node]
    gates: dict[str, Node]
    middle: Link

    def lost(self) -> int:
        """Of PINGS from left to right."""
        ping = self.network.ping(
            self.hosts["left"], address=HOSTS["right"], count=PINGS, interval=0.1
        )
        self.network.run()
        return ping.lost

    def counted(self) -> dict[str, int]:
        """Errors of the gateway on the right."""
        return {name: value for name, value in statistics(self.gates["right"]).items() if value}


def build(network: Network, suite: Suite, **others: Any) -> Tunnel:
    """left host - left gateway - right gateway - right host; `others`: the right one's keys for
    what arrives, where they differ."""
    hosts = {side: network.node(f"{side}-host") for side in GATES}
    gates = {side: network.node(f"{side}-gate") for side in GATES}
    addresses = f"{GATES['left']}/24", f"{GATES['right']}/24"
    middle = network.link(
        gates["left"], gates["right"], addresses=addresses, delay="1ms", name="middle"
    )
    for number, side in enumerate(GATES, 1):
        inside = network.link(
            hosts[side], gates[side], addresses=(f"10.{number}.0.2/24", f"10.{number}.0.1/24")
        )
        inside.port(hosts[side]).netdev.add_route("default", via=f"10.{number}.0.1")
        gates[side].sysctl["net.ipv4.ip_forward"] = 1
    for side, other in (("left", "right"), ("right", "left")):
        middle.port(gates[side]).netdev.add_route(NETS[other], via=GATES[other])
        protect(gates[side], side, other, suite, others if side == "right" else {})
    return Tunnel(network, hosts, gates, middle)


def protect(gate: Node, side: str, other: str, suite: Suite, others: dict[str, Any]) -> None:
    try:
        with Xfrm(gate) as xfrm:
            for one, two, options in ((side, other, {}), (other, side, others)):
                keys = {**suite.options, **options}
                xfrm.add_state(State(GATES[one], GATES[two], SPIS[one], **keys))
                selector = Selector(NETS[one], NETS[two])
                template = [Template(GATES[one], GATES[two])]
                for direction in (OUT,) if one == side else (IN, FORWARD):
                    xfrm.add_policy(direction, selector, template)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ENOSYS, errno.ENOENT):
            pytest.skip(f"this kernel lacks XFRM, ESP or the algorithms ({error})")
        raise


# An independent view of ESP


def _times_two(value: int) -> int:
    return value << 1 ^ (0x11B if value & 0x80 else 0)


def _times(one: int, other: int) -> int:
    found = 0
    while other:
        found ^= one if other & 1 else 0
        one, other = _times_two(one), other >> 1
    return found


def _box() -> list[int]:
    """AES's S-box: the inverse in GF(2^8), then an affine map (FIPS 197, 5.1.1)."""
    box = []
    for value in range(256):
        inverse = next((one for one in range(256) if _times(value, one) == 1), 0)
        turned = inverse * 0x101
        mixed = inverse ^ turned >> 4 ^ turned >> 5 ^ turned >> 6 ^ turned >> 7
        box.append(mixed & 0xFF ^ 0x63)
    return box


def _round_keys(key: bytes, box: list[int]) -> list[bytes]:
    words, factor = [key[i : i + 4] for i in range(0, 16, 4)], 1
    for number in range(4, 44):
        word = words[-1]
        if number % 4 == 0:
            word = bytes(box[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ factor]) + word[1:]
            factor = _times_two(factor)
        words.append(_xor(words[number - 4], word))
    return [b"".join(words[i : i + 4]) for i in range(0, 44, 4)]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _unmix(state: bytes) -> bytes:
    columns = [state[i : i + 4] for i in range(0, 16, 4)]
    return bytes(
        _times(column[i], 14)
        ^ _times(column[(i + 1) % 4], 11)
        ^ _times(column[(i + 2) % 4], 13)
        ^ _times(column[(i + 3) % 4], 9)
        for column in columns
        for i in range(4)
    )


def aes_cbc_decrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-128 as FIPS 197 writes it down, for a test that must not trust the kernel's."""
    box = _box()
    back = bytes(box.index(value) for value in range(256))
    keys = _round_keys(key, box)
    found = b""
    for start in range(0, len(data), 16):
        block = data[start : start + 16]
        state = _xor(block, keys[10])
        for number in range(9, -1, -1):
            state = bytes(back[state[(i - 4 * (i % 4)) % 16]] for i in range(16))
            state = _xor(state, keys[number])
            state = _unmix(state) if number else state
        found += _xor(state, iv)
        iv = block
    return found


def test_the_oracle_knows_aes() -> None:
    """The example of FIPS 197, appendix B."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    data = bytes.fromhex("3925841d02dc09fbdc118597196a0b32")
    plain = bytes.fromhex("3243f6a8885a308d313198a2e0370734")
    assert aes_cbc_decrypt(key, bytes(16), data) == plain


def packets(found: list[Passage]) -> list[Passage]:
    return [one for one in found if one.data[12:14] == b"\x08\0"]


# Tests


@pytest.mark.parametrize("suite", [CBC, GCM], ids=["cbc-hmac", "gcm"])
def test_only_esp_is_seen(network: Network, suite: Suite) -> None:
    """With the states' SPIs, and numbers from one on, each way; nothing of the payload."""
    tunnel = build(network, suite)
    with tunnel.middle.capture() as found:
        assert tunnel.lost() == 0
    numbers: dict[int, list[int]] = {}
    for one in packets(found):
        header = one.data[ETHER : ETHER + IPV4]
        assert header[9] == socket.IPPROTO_ESP
        esp = one.data[ETHER + IPV4 :]
        numbers.setdefault(int.from_bytes(esp[:4], "big"), []).append(
            int.from_bytes(esp[4:8], "big")
        )
        assert bytes(16) not in esp, "what ping sends: zeros"
    assert numbers == {spi: list(range(1, PINGS + 1)) for spi in SPIS.values()}


def test_what_is_inside(network: Network) -> None:
    """Python's HMAC agrees with the ICV; behind AES there is what the host sent, one hop older."""
    from scapy.layers.inet import IP

    tunnel = build(network, CBC)
    inside = tunnel.hosts["left"].ports[0].link
    with inside.capture() as sent, tunnel.middle.capture() as found:
        assert tunnel.lost() == 0
    plain = [IP(one.data[ETHER:]) for one in packets(sent)]
    hidden = packets(found)
    assert len(plain) == len(hidden) == 2 * PINGS
    for one in hidden:
        esp = one.data[ETHER + IPV4 :]
        covered, icv = esp[: -CBC.icv], esp[-CBC.icv :]
        assert hmac.digest(SECRET, covered, hashlib.sha256)[: CBC.icv] == icv
        iv, secret = covered[8:24], covered[24:]
        text = aes_cbc_decrypt(KEY, iv, secret)
        padding, following = text[-2:]
        assert following == socket.IPPROTO_IPIP
        assert text[-2 - padding : -2] == bytes(range(1, padding + 1)), "RFC 4303, 2.4"
        packet = IP(text[: -2 - padding])
        packet.ttl += 1 if packet.src == HOSTS["left"] else -1
        del packet.chksum
        wanted = [bytes(other) for other in plain if other.src == packet.src]
        assert bytes(packet) in wanted


@pytest.mark.parametrize("suite", [CBC, GCM], ids=["cbc-hmac", "gcm"])
def test_tcp_learns_how_much_fits(network: Network, suite: Suite) -> None:
    """The gateway tells the host about the tunnel's MTU (ICMP, fragmentation needed)."""
    tunnel = build(network, suite)
    left, right = tunnel.hosts.values()
    with tunnel.middle.capture() as found:
        bulk = network.bulk(left, right, bytes=100_000, address=HOSTS["right"])
        network.run()
    assert bulk.moved == 100_000
    assert bulk.info["snd_mss"] == suite.mtu - 20 - 20 - 12
    full = max(one.length for one in packets(found)) - ETHER
    assert full == 1500 - (1500 - IPV4 - ESP_HEADER - suite.iv - suite.icv) % suite.align
    assert tunnel.counted() == {}


def again(process: Process, device: str, frame: bytes) -> None:
    with process.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.sendto(frame, (device, 0))


def test_what_is_repeated_is_dropped(network: Network) -> None:
    """Somebody on the middle link sends a copy of each packet once more."""
    tunnel = build(network, CBC)
    with tunnel.middle.capture() as found:
        assert tunnel.lost() == 0
    gate, device = tunnel.gates["left"], tunnel.middle.port("left-gate").netdev.name
    behind = tunnel.hosts["right"].ports[0].link
    copies = [
        one.data for one in packets(found) if one.data[ETHER + 12 :][:4] == b"\xc6\x33\x64\x01"
    ]
    assert len(copies) == PINGS
    for copy in copies:
        network.start(again, device, copy, on=gate)
    with behind.capture() as came:
        network.run()
        network.run(1)
    assert tunnel.counted() == {"XfrmInStateSeqError": PINGS}
    assert packets(came) == []


def flip(at: int) -> Callable[[Frame], Verdict]:
    def change(frame: Frame) -> Verdict:
        if frame.data[12:14] != b"\x08\0":
            return rules.PASS
        data = bytearray(frame.data)
        data[at] ^= 1
        return rules.change(bytes(data))

    return change


@pytest.mark.parametrize("where", ["number", "text", "icv"])
def test_what_is_changed_is_dropped(network: Network, where: str) -> None:
    tunnel = build(network, GCM)
    at = {"number": ETHER + IPV4 + 6, "text": ETHER + IPV4 + 30, "icv": -1}[where]
    with tunnel.middle.rule(flip(at), sender="left-gate"):
        assert tunnel.lost() == PINGS
    assert tunnel.counted() == {"XfrmInStateProtoError": PINGS}
    assert tunnel.lost() == 0


def test_a_wrong_key_is_counted(network: Network) -> None:
    wrong = {"authentication": ("hmac(sha256)", SECRET[::-1], 128)}
    tunnel = build(network, CBC, **wrong)
    assert tunnel.lost() == PINGS
    assert tunnel.counted() == {"XfrmInStateProtoError": PINGS}


def test_what_comes_without_esp_is_dropped(network: Network) -> None:
    """The left gateway forgets its policy and sends in clear: the right one's asks for ESP."""
    tunnel = build(network, CBC)
    with Xfrm(tunnel.gates["left"]) as xfrm:
        xfrm.remove_policy(OUT, Selector(NETS["left"], NETS["right"]))
    behind = tunnel.hosts["right"].ports[0].link
    with behind.capture() as came:
        assert tunnel.lost() == PINGS
    assert tunnel.counted() == {"XfrmInTmplMismatch": PINGS}
    assert packets(came) == []
