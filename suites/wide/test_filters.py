# SPDX-License-Identifier: GPL-2.0
"""netfilter whole: iptables' matches, ipset, connection tracking, nf_tables, IPVS."""

from __future__ import annotations

import socket
import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

from anykernel.kernel import Kernel
from anykernel.kernel.netdev import Netdev

from . import wire
from .xtables import DROP, Part, Rule, replace

PEER = "02:00:00:00:00:99"
PREROUTING, INPUT = 0, 1
NFNL_SUBSYS_NFTABLES, NFNL_SUBSYS_CTNETLINK = 10, 1


@pytest.fixture
def router(kernel: Kernel) -> tuple[Netdev, Netdev]:
    made = []
    for number, name in enumerate(("left", "right")):
        one = kernel.add_netdev(name, addresses=[f"10.{number}.0.1/24"], ipv6_chatter=False)
        for last in (2, 5):
            one.add_neighbour(f"10.{number}.0.{last}", PEER)
        made.append(one)
    kernel.sysctl["net.ipv4.ip_forward"] = 1
    return made[0], made[1]


def answers(left: Netdev, src: str = "10.0.0.2", **fields: int) -> list[int]:
    """The ICMP types of what an echo request or, with dport=, a datagram to a closed port gets."""
    inner = UDP(sport=99, **fields) if fields else ICMP()
    frame = Ether(dst=left.mac, src=PEER) / IP(src=src, dst="10.0.0.1") / inner
    return [one[ICMP].type for one in left.exchange(frame) if ICMP in one]


def mark(value: int) -> Part:
    """--set-mark"""
    return Part("MARK", 2, struct.pack("=II", value, 0xFFFFFFFF))


def marked(value: int) -> Part:
    """-m mark --mark"""
    return Part("mark", 1, struct.pack("=IIB", value, 0xFFFFFFFF, 0))


@pytest.mark.needs("IP_NF_FILTER", "NETFILTER_XT_MATCH_MULTIPORT", "NETFILTER_XT_MATCH_COMMENT")
def test_iptables_matches(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    left, _ = router
    ports = struct.pack("=BB15H15BB", 1, 2, 7, 9, *[0] * 13, *[0] * 15, 0)  # --dports 7,9
    rules = [
        Rule(
            [Part("udp", 0, struct.pack("=4HB", 0, 0xFFFF, 0, 0xFFFF, 0)),
             Part("multiport", 1, ports), Part("comment", 0, b"not these".ljust(256, b"\0"))],
            DROP, 17,
        ),
    ]  # fmt: skip
    replace(kernel, "filter", INPUT, rules)
    assert [answers(left, dport=port) for port in (7, 8, 9)] == [[], [3], []]


@pytest.mark.needs("IP_NF_FILTER", "IP_NF_RAW", "NETFILTER_XT_MARK", "NETFILTER_XT_MATCH_LIMIT")
def test_iptables_marks_and_limits(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    """raw marks all, filter lets two of the marked pass at once and one more each second."""
    left, _ = router
    replace(kernel, "raw", PREROUTING, [Rule(target=mark(5))])
    limit = struct.pack("=IIQIIIIQ", 10000, 2, 0, 0, 0, 0, 0, 0)
    rules = [Rule([marked(5), Part("limit", 0, limit)]), Rule([marked(5)], DROP)]
    replace(kernel, "filter", INPUT, rules)
    assert [len(answers(left)) for _ in range(4)] == [1, 1, 0, 0]
    kernel.clock.advance(1.01)
    assert [len(answers(left)) for _ in range(2)] == [1, 0]


@pytest.mark.needs("IP_SET_HASH_IP", "IP_SET_HASH_NET", "NETFILTER_XT_SET", "IP_NF_FILTER")
@pytest.mark.parametrize(("kind", "entry"), [("hash:ip", "10.0.0.2"), ("hash:net", "10.0.0.0/30")])
def test_an_ipset_matches(
    kernel: Kernel, router: tuple[Netdev, Netdev], kind: str, entry: str
) -> None:
    from pyroute2 import IPSet

    left, _ = router
    with kernel.netlink(IPSet) as ipset:
        ipset.create("bad", stype=kind)
        index = ipset.get_set_byname("bad")[0].get_attr("IPSET_ATTR_INDEX")
        source = Part("set", 1, struct.pack("=HBB", index, 1, 2))  # --match-set bad src
        replace(kernel, "filter", INPUT, [Rule([source], DROP)])
        assert answers(left) == [0]
        ipset.add("bad", entry, etype=kind.split(":")[1])
        assert not answers(left) and answers(left, "10.0.0.5") == [0]
        ipset.flush("bad")
        assert answers(left) == [0]


@pytest.mark.needs("NF_CONNTRACK_FTP", "NETFILTER_XT_TARGET_CT", "IP_NF_RAW", "NF_CONNTRACK_PROCFS")
def test_a_helper_expects_the_connection_that_ftp_names(
    kernel: Kernel, router: tuple[Netdev, Netdev]
) -> None:
    left, _ = router
    helper = struct.pack("=HHII16s32sQ", 0, 0, 0, 0, b"ftp", b"", 0)
    replace(kernel, "raw", PREROUTING, [Rule(target=Part("CT", 2, helper), protocol=6)])
    with kernel.socket() as server:
        server.bind(("10.0.0.1", 21))
        server.listen()
        there = Ether(dst=left.mac, src=PEER) / IP(src="10.0.0.2", dst="10.0.0.1")
        (answer,) = left.exchange(there / TCP(sport=999, dport=21, flags="S", seq=100))
        ack = answer[TCP].seq + 1
        left.inject(there / TCP(sport=999, dport=21, flags="A", seq=101, ack=ack))
        assert "ftp" not in kernel.read_text("/proc/net/nf_conntrack_expect")
        said = 101
        for line in (b"USER anonymous\r\n", b"PORT 10,0,0,2,4,1\r\n"):
            left.inject(there / TCP(sport=999, dport=21, flags="PA", seq=said, ack=ack) / line)
            said += len(line)
        expected = kernel.read_text("/proc/net/nf_conntrack_expect")
        assert "ftp" in expected and "dport=1025" in expected and "dst=10.0.0.2" in expected


@pytest.mark.needs(
    "NF_CONNTRACK_ZONES", "NETFILTER_XT_TARGET_CT", "NF_CONNTRACK_PROCFS", "IP_NF_RAW"
)
def test_a_connection_has_a_zone(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    left, _ = router
    zone = struct.pack("=HHII16s32sQ", 0, 7, 0, 0, b"", b"", 0)
    replace(kernel, "raw", PREROUTING, [Rule(target=Part("CT", 2, zone))])
    assert answers(left) == [0]
    (line,) = kernel.read_text("/proc/net/nf_conntrack").splitlines()
    assert "zone-orig=7" in line or "zone=7" in line


@pytest.mark.needs("IP_VS", "IP_VS_RR", "IP_VS_PROTO_UDP")
def test_ipvs_sends_in_turns(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    from pyroute2 import IPVS, IPVSDest, IPVSService

    left, right = router
    right.add_neighbour("10.1.0.3", PEER)
    kernel.address_add("left", "10.0.0.100/32")
    service = IPVSService(addr="10.0.0.100", port=53, protocol=socket.IPPROTO_UDP, sched_name="rr")
    with kernel.netlink(IPVS) as ipvs:
        ipvs.service("add", service=service)
        for last in (2, 3):
            real = IPVSDest(addr=f"10.1.0.{last}", port=5353, fwd_method=0, weight=1)
            ipvs.dest("add", service=service, dest=real)
        seen = []
        for number in range(4):
            frame = Ether(dst=left.mac, src=PEER) / IP(src="10.0.0.2", dst="10.0.0.100")
            with right.capture() as frames:
                left.inject(frame / UDP(sport=1000 + number, dport=53) / b"?")
            (one,) = frames.packets()
            seen.append((one[IP].dst, one[UDP].dport))
        assert sorted(seen[:2]) == [("10.1.0.2", 5353), ("10.1.0.3", 5353)]
        assert seen[2:] == seen[:2]


class Nfnl:
    """nfnetlink messages of nf_tables in a batch."""

    def __init__(self, kernel: Kernel, family: int) -> None:
        self._kernel, self._family = kernel, family
        self._parts: list[tuple[int, int, bytes]] = []

    def add(self, message: int, *attributes: bytes, flags: int = 0x400) -> None:
        kind = NFNL_SUBSYS_NFTABLES << 8 | message
        head = struct.pack("=BBH", self._family, 0, 0)
        self._parts.append((kind, flags | 1, head + b"".join(attributes)))

    def commit(self) -> None:
        edge = struct.pack("!BBH", 0, 0, NFNL_SUBSYS_NFTABLES)
        parts = [(16, 1, edge), *self._parts, (17, 1, edge)]
        data = b""
        for number, (kind, flags, body) in enumerate(parts, 1):
            flags |= 4 if number == len(parts) - 1 else 0
            data += struct.pack("=IHHII", 16 + len(body), kind, flags, number, 0) + body
        with self._kernel.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:
            sock.send(data)
            error = -struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if error:
            raise OSError(error, "nf_tables")


def be32(kind: int, value: int) -> bytes:
    return wire.attribute(kind, struct.pack("!I", value))


def be64(kind: int, value: int) -> bytes:
    return wire.attribute(kind, struct.pack("!Q", value))


def expression(name: str, *data: bytes) -> bytes:
    return wire.nest(1, wire.text(1, name), wire.nest(2, *data))


def base_chain(batch: Nfnl, hook: int, name: str = "c", kind: str = "filter") -> None:
    batch.add(0, wire.text(1, "t"))
    place = wire.nest(4, be32(1, hook), be32(2, 0))
    batch.add(3, wire.text(1, "t"), wire.text(3, name), place, wire.text(7, kind))


def rule(batch: Nfnl, *expressions: bytes, chain: str = "c") -> None:
    batch.add(6, wire.text(1, "t"), wire.text(2, chain), wire.nest(4, *expressions), flags=0xC00)


DROP_VERDICT = expression("immediate", be32(1, 0), wire.nest(2, wire.nest(2, be32(1, 0))))


@pytest.mark.needs("NFT_QUOTA")
def test_nftables_quota(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    """`quota over 100 bytes drop`: an echo request has 28."""
    left, _ = router
    batch = Nfnl(kernel, socket.AF_INET)
    base_chain(batch, INPUT)
    rule(batch, expression("quota", be64(1, 100), be32(2, 1)), DROP_VERDICT)
    batch.commit()
    assert [len(answers(left)) for _ in range(5)] == [1, 1, 1, 0, 0]


@pytest.mark.needs("NFT_NUMGEN")
def test_nftables_numgen_drops_each_third(kernel: Kernel, router: tuple[Netdev, Netdev]) -> None:
    left, _ = router
    batch = Nfnl(kernel, socket.AF_INET)
    base_chain(batch, INPUT)
    third = expression("cmp", be32(1, 8), be32(2, 0), wire.nest(3, wire.u32(1, 2)))
    rule(batch, expression("numgen", be32(1, 8), be32(2, 3), be32(3, 0)), third, DROP_VERDICT)
    batch.commit()
    assert [len(answers(left)) for _ in range(6)] == [1, 1, 0] * 2


@pytest.mark.needs("NF_FLOW_TABLE", "NF_FLOW_TABLE_INET", "NFT_FLOW_OFFLOAD", "NF_CONNTRACK_PROCFS")
def test_a_flow_table_takes_packets_past_the_forward_chain(
    kernel: Kernel, router: tuple[Netdev, Netdev]
) -> None:
    left, right = router
    batch = Nfnl(kernel, 1)
    base_chain(batch, 2)
    devices = wire.nest(3, wire.text(1, "left"), wire.text(1, "right"))
    batch.add(
        22, wire.text(1, "t"), wire.text(2, "f"), wire.nest(3, be32(1, 0), be32(2, 0), devices)
    )
    rule(batch, expression("flow_offload", wire.text(1, "f")))
    batch.commit()

    def both_ways() -> list[int]:
        """TTLs of a datagram there and one back."""
        found = []
        ways = (
            (left, right, "10.0.0.2", "10.1.0.2", 5, 6),
            (right, left, "10.1.0.2", "10.0.0.2", 6, 5),
        )
        for into, out, src, dst, sport, dport in ways:
            ip = IP(src=src, dst=dst, ttl=64)
            with out.capture() as frames:
                into.inject(Ether(dst=into.mac, src=PEER) / ip / UDP(sport=sport, dport=dport))
            found += [one[IP].ttl for one in frames.packets()]
        return found

    before = int(kernel.snmp["Ip"]["ForwDatagrams"])
    assert both_ways() == [63, 63] == both_ways()
    counted = int(kernel.snmp["Ip"]["ForwDatagrams"])
    assert "[OFFLOAD]" in kernel.read_text("/proc/net/nf_conntrack")
    assert both_ways() == [63, 63]
    assert int(kernel.snmp["Ip"]["ForwDatagrams"]) == counted > before, "IP itself saw none"
