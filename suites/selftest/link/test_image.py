# SPDX-License-Identifier: GPL-2.0
"""Images of some components: what is absent is absent, what is there works."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from anykernel.errors import BuildError, KernelCrash, UsageError
from anykernel.host import Host
from anykernel.kernel import Kernel
from anykernel.link.components import components, objects
from anykernel.link.image import ledger, link_image
from anykernel.link.policy import load
from anykernel.link.select import select
from suites.selftest.link import nm

NAMED = sorted(load().images)


@pytest.mark.parametrize("name", NAMED)
def test_named_images_boot(kernel_factory: Callable[..., Kernel], name: str) -> None:
    kernel = kernel_factory(components=[name])
    assert kernel.log.failures() == []
    assert "proc" in kernel.os.listdir("/")
    reached = kernel.os.listdir("/proc/self")
    assert "status" in reached


@pytest.mark.parametrize("name", NAMED)
def test_absent_objects_leave_nothing_but_stubs(kernel: Kernel, name: str) -> None:
    image, rules = kernel.image, load()
    made = link_image(image, [name])
    chosen = select(image, rules.images[name], rules).objects
    there = {one.path for one in chosen}
    have = nm.of(image.objects, there)
    absent = nm.of(image.objects, (o.path for o in objects(image) if o.path not in there))
    symbols = nm.addresses(made.vmlinux)
    left = (symbols.keys() & absent.defined) - have.defined - have.local
    assert left == {one.symbol for one in ledger(made)} & absent.defined
    entries = (symbols["__initcall_end"] - symbols["__initcall_start"]) // 4
    assert entries == sum(len(one.initcalls) for one in chosen)


def test_an_absent_components_initcalls(kernel: Kernel) -> None:
    image = kernel.image
    symbols = nm.addresses(link_image(image, ["net/ipv4"]).vmlinux)
    parts = components(image)
    assert {name for _, name in parts["net/ipv4"].initcalls} <= symbols.keys()
    for absent in ("net/ipv6", "net/sctp", "net/mptcp", "net/bridge", "netfilter"):
        calls = {name for _, name in parts[absent].initcalls}
        # A static function of another file may have the same name.
        others = {n for c in parts.values() if c.name != absent for _, n in c.initcalls}
        assert symbols.keys().isdisjoint(calls - others), absent
        assert calls or absent == "net/mptcp"  # which the others call


def test_linked_again_it_is_the_same(
    kernel: Kernel, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anykernel.settings import settings

    again = link_image(kernel.image, ["net/ipv4"])
    assert again.library.is_relative_to(own_cache)
    monkeypatch.undo()
    settings.cache_clear()
    first = link_image(kernel.image, ["net/ipv4"])
    assert not first.library.is_relative_to(own_cache)
    assert first.id == again.id
    assert first.library.read_bytes() == again.library.read_bytes()
    assert ledger(first) == ledger(again)


def test_names_of_one_image(kernel: Kernel) -> None:
    """Its components, in any order, their short names, the policy's name."""
    ids = {
        link_image(kernel.image, names).id
        for names in (["net-ipv4"], ["net/ipv4"], ["ipv4"], ["net/xfrm", "net/ipv4"])
    }
    assert len(ids) == 1
    assert link_image(kernel.image, []).id == link_image(kernel.image, ["base"]).id
    with pytest.raises(UsageError, match="did you mean net/ipv"):
        link_image(kernel.image, ["net/ipv5"])


# Stubs that are reached: the base has /proc/self/ns/net, but nobody behind it.

REACHES = "/proc/self/ns/net"
STUB = "net_core_net_namespace__netns_get"


def test_a_stub_is_loud(kernel: Kernel) -> None:
    image = link_image(kernel.image, ["base"])
    with Host(image) as host:
        base = Kernel(host.instances[0], image)
        with pytest.raises(KernelCrash, match=rf"stub reached: {STUB}\(0x") as crash:
            base.os.readlink(REACHES)
        assert crash.value.report.kind == "stub"
        assert any(frame.startswith("ns_get_name") for frame in crash.value.report.frames)


def test_a_stub_is_counted(kernel: Kernel) -> None:
    image = link_image(kernel.image, ["base"])
    number = next(one.number for one in ledger(image) if one.symbol == STUB)
    with Host(image, stubs="report") as host:
        base = Kernel(host.instances[0], image)
        snapshot = base.snapshot()
        at_boot = host.instances[0].stubs
        assert number not in at_boot
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                base.os.readlink(REACHES)
            base.restore(snapshot)
        assert host.instances[0].stubs == at_boot | {number: 3}


def test_a_host_takes_no_other_mode(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="stubs='quiet': it is 'strict' or 'report'"):
        Host(kernel.image, stubs="quiet")  # type: ignore[arg-type]


def test_a_policy_of_ones_own(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(f'[grant.{STUB}]\nreturns = 0\nwhy = "a test asks"')
    image = link_image(kernel.image, ["base"], [tmp_path])
    assert {one.symbol: one.why for one in ledger(image)}[STUB] == "a test asks"
    with Host(image) as host, pytest.raises(FileNotFoundError):
        Kernel(host.instances[0], image).os.readlink(REACHES)


def test_a_policy_that_does_not_compile(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[grant.__put_net]\nreturns = "tea"\nwhy = "x"')
    with pytest.raises(BuildError, match=r"stubs\.c doesn't compile") as error:
        link_image(kernel.image, ["base"], [tmp_path])
    assert re.search("error: .tea. undeclared", str(error.value))


# Kernels by marker

MAC = "02:00:00:00:00:02"


@pytest.mark.kernel(components=["net/ipv4"])
class TestIPv4:
    def test_ping(self, kernel: Kernel) -> None:
        eth0 = kernel.add_netdev("eth0", mac="02:00:00:00:00:01", addresses=["192.0.2.1/24"])
        eth0.add_neighbour("192.0.2.2", MAC)
        request = IP(src="192.0.2.2", dst="192.0.2.1") / ICMP(id=7, seq=9) / b"payload"
        frame = bytes(Ether(src=MAC, dst="02:00:00:00:00:01") / request)
        ((answer,),) = eth0.exchange([frame])
        reply = Ether(answer)
        assert (reply[ICMP].type, reply[ICMP].seq) == (0, 9)
        assert bytes(reply[ICMP].payload)[:7] == b"payload"

    def test_tcp(self, kernel: Kernel) -> None:
        with (
            kernel.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
            kernel.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
        ):
            listener.bind(("127.0.0.1", 80))
            listener.listen(5)
            client.connect(("127.0.0.1", 80))
            server, _ = listener.accept()
            with server:
                server.sendall(b"y" * 100_000)
                server.shutdown(socket.SHUT_WR)
                with client.makefile("rb") as lines:
                    assert lines.read() == b"y" * 100_000

    @pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_BRIDGE])
    def test_families_that_are_absent(self, kernel: Kernel, family: int) -> None:
        with pytest.raises(OSError) as error:
            kernel.socket(family, socket.SOCK_DGRAM)
        assert error.value.errno == errno.EAFNOSUPPORT

    def test_what_each_network_would_have(self, kernel: Kernel) -> None:
        names = set(kernel.os.listdir("/proc/net"))
        assert {"tcp", "udp", "route"} <= names
        assert {"if_inet6", "tcp6", "udp6", "sctp", "ip_tables_names"}.isdisjoint(names)
        assert not kernel.os.exists("/proc/sys/net/ipv6")
        assert not kernel.os.exists("/proc/sys/net/sctp")
        with kernel.open("/proc/net/protocols") as file:
            known = {line.split()[0] for line in file}
        assert {"TCP", "UDP"} <= known
        assert {"TCPv6", "UDPv6", "MPTCP", "SCTP"}.isdisjoint(known)


@pytest.mark.kernel(components=["net/ipv6"])
def test_ipv6_is_there_when_asked_for(kernel: Kernel) -> None:
    with kernel.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 7))
        sock.sendto(b"x", sock.getsockname())
        assert sock.recv(10) == b"x"
    with pytest.raises(OSError):
        kernel.socket(socket.AF_INET, socket.SOCK_STREAM, 132)  # SCTP


@pytest.mark.kernel(components=[])
def test_files_on_the_base(kernel: Kernel) -> None:
    kernel.os.mkdir("/folder")
    with kernel.open("/folder/file", "wb") as file:
        file.write(b"text")
    kernel.os.rename("/folder/file", "/folder/other")
    kernel.os.symlink("other", "/folder/link")
    with kernel.open("/folder/link", "rb") as file:
        assert file.read() == b"text"
    assert kernel.os.listdir("/folder") == ["link", "other"]
    reading, writing = kernel.os.pipe()
    kernel.os.write(writing, b"through")
    assert kernel.os.read(reading, 10) == b"through"
    with pytest.raises(OSError):
        kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)


def host_tool(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert found, "ci/setup installs e2fsprogs"
    return found


@pytest.mark.kernel(components=["ext4"])
def test_ext4_as_e2fsprogs_has_it(kernel: Kernel, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    subprocess.run(
        [host_tool("mke2fs"), "-q", "-t", "ext4", disk, "8M"], check=True, capture_output=True
    )
    kernel.os.mknod("/dev/ram0", stat.S_IFBLK | 0o600, os.makedev(1, 0))
    with kernel.open("/dev/ram0", "r+b") as device:
        device.write(disk.read_bytes())
    kernel.os.mkdir("/disk")
    kernel.os.mount("/dev/ram0", "/disk", "ext4")
    kernel.os.makedirs("/disk/a/b")
    for number in range(50):
        with kernel.open(f"/disk/a/b/{number}", "wb") as file:
            file.write(bytes([number]) * 1000 * number)
    for number in range(0, 50, 3):
        kernel.os.unlink(f"/disk/a/b/{number}")
    kernel.os.rename("/disk/a/b/49", "/disk/moved")
    kernel.os.umount("/disk")
    with kernel.open("/dev/ram0", "rb") as device:
        disk.write_bytes(device.read(disk.stat().st_size))
    checked = subprocess.run(
        [host_tool("e2fsck"), "-fn", disk], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    dumped = subprocess.run(
        [host_tool("debugfs"), "-R", "cat /moved", disk], capture_output=True, check=True
    )
    assert dumped.stdout == bytes([49]) * 49_000
