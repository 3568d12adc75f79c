# SPDX-License-Identifier: GPL-2.0
"""Captures of links: all frames, with the time of their first bit, in files that others read."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anykernel.kernel.pcap import read_pcap
from anykernel.net import DROP
from anykernel.net.jobs import Job
from suites.selftest.net.raw import frame, mute, number_of, pair, wire_ns
from suites.selftest.optional import needs

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket
    from anykernel.net import Network
    from anykernel.net.wire import Passage


def test_times_are_of_the_first_bit(network: Network, tmp_path: Path) -> None:
    a, b = pair(network, rate="1Mbit", delay="5ms", queue=2)
    path = tmp_path / "link.pcap"
    begin, one = network.now, wire_ns(60, 1e6)
    with a.port.link.pcap(path) as found:
        a.send(1, 2, 3, 4)  # the last finds the queue full
        b.send(5)
        network.run(1)
    assert [(p.time_ns, number_of(p.data)) for p in found] == [
        (begin, 1), (begin, 5), (begin + one, 2), (begin + 2 * one, 3),
    ]  # fmt: skip
    assert [(p.time_ns, p.data) for p in read_pcap(path)] == [(p.time_ns, p.data) for p in found]


def test_lost_frames_are_in_it_and_dropped_ones_are_not(network: Network) -> None:
    a, _ = pair(network)
    link = a.port.link
    with link.capture() as found:
        link.set(loss=1)
        a.send(1)
        network.run(0.01)
        link.set(loss=0, duplicate=1)
        a.send(2)
        network.run(0.01)
        link.set(duplicate=0)
        with link.rule(lambda _: DROP):
            a.send(3)
            network.run(0.01)
    a.send(4)
    network.run(0.01)
    assert [(number_of(p.data), p.verdict) for p in found] == [(1, "lost"), (2, "doubled")]


def test_captures_are_whole_and_of_their_link(network: Network) -> None:
    a, b = pair(network)
    other = network.link("a", "b")
    with a.port.link.capture() as outer:
        with a.port.link.capture() as inner, other.capture() as elsewhere:
            a.send(1, size=1514)
            network.run(0.01)
        b.send(2, size=1514)
        network.run(0.01)
    assert [[len(p.data) for p in one] for one in (outer, inner, elsewhere)] == [
        [1514, 1514], [1514], [],
    ]  # fmt: skip
    assert outer[0].data == frame(b"\xff" * 6, a.mac, 1, 1514)


def test_a_file_is_written_when_the_block_fails(network: Network, tmp_path: Path) -> None:
    a, _ = pair(network)

    def fails() -> None:
        a.send(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), a.port.link.pcap(tmp_path / "x.pcap"):
        fails()
    assert [number_of(p.data) for p in read_pcap(tmp_path / "x.pcap")] == [1]


@pytest.mark.parametrize("sender", ["test", "program", "job"])
def test_more_than_the_ring_holds(network: Network, sender: str) -> None:
    """32 MiB; no time passes meanwhile, so nothing but the capture itself makes room."""
    a, b = mute(network, "a", "b")
    link = network.link(a, b, mtu=65_000)
    count, size = 700, 60_000
    sent = frame(b"\xff" * 6, bytes(6), 1, size)

    def opened(process: Process) -> Socket:
        sock = process.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind((link.port(a).netdev.name, 0))
        return sock

    def program(process: Process) -> None:
        sock = opened(process)
        for _ in range(count):
            sock.send(sent)

    def job(process: Process) -> None:
        sock = opened(process)
        room = process.instance.user.alloc(size)
        room.view[:size] = sent
        call = ("sendto", sock.fileno(), room.address, size, 0, 0, 0)
        Job(network, process, [call], rounds=count).wait()

    with link.capture() as found:
        if sender == "test":
            program(a.fork())
        else:
            network.start(program if sender == "program" else job, on=a)
            network.run()
    assert len(found) == count
    assert {(len(p.data), p.data == sent) for p in found} == {(size, True)}


def talk(network: Network, path: Path) -> list[Passage]:
    a, b = network.chain(2, rate="10Mbit", delay="2ms", loss=0.02)
    network.address(ipv6=True)
    (link,) = network.links
    with link.pcap(path) as found:
        network.bulk(a, b, bytes=100_000)
        network.ping(a, b, count=3)
        network.cbr(a, b, rate="1Mbit", seconds=0.1)
        network.run(limit=100)
    return found


def test_scapy_reads_it(network: Network, tmp_path: Path) -> None:
    from scapy.layers.inet import TCP, UDP
    from scapy.layers.l2 import ARP, Ether
    from scapy.utils import RawPcapNgReader, RawPcapReader, rdpcap

    found = talk(network, tmp_path / "talk.pcap")
    assert [p.time_ns for p in found] == sorted(p.time_ns for p in found)
    with RawPcapReader(str(tmp_path / "talk.pcap")) as reader:
        assert not isinstance(reader, RawPcapNgReader) and reader.nano
        raw = list(reader)
    times = [about.sec * 10**9 + about.usec for _, about in raw]
    assert times == [p.time_ns for p in found] and [d for d, _ in raw] == [p.data for p in found]
    packets = rdpcap(str(tmp_path / "talk.pcap"))
    assert all(any(kind in packet for packet in packets) for kind in (Ether, ARP, TCP, UDP))


@needs("tshark")
def test_tshark_has_nothing_to_complain_about(network: Network, tmp_path: Path) -> None:
    """Malformed packets and wrong checksums are errors of its experts."""
    found = talk(network, tmp_path / "talk.pcap")
    command = ["tshark", "-n", "-r", str(tmp_path / "talk.pcap"), "-T", "fields"]
    checks = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"]
    for check in checks:
        command += ["-o", f"{check}:TRUE"]
    command += ["-e", "frame.time_epoch", "-e", "_ws.malformed", "-e", "ip.checksum.status"]
    command += ["-e", "tcp.checksum.status", "-e", "udp.checksum.status"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(rows) == len(found)
    for row, passage in zip(rows, found, strict=True):
        seconds, _, fraction = row[0].partition(".")
        assert int(seconds) * 10**9 + int(fraction) == passage.time_ns
        assert row[1] == "" and "Bad" not in row[2:] and "0" not in row[2:]
    assert not done.stderr.replace("Running as user", "").count("error")
