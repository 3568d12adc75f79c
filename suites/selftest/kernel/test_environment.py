# SPDX-License-Identifier: GPL-2.0
"""What a user's machine has when it is up: one device, a /dev, the usual mounts."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest

from anykernel.errors import UsageError
from anykernel.host import Host
from anykernel.host.cmdline import DRIVERS, LENGTH, NETWORK
from anykernel.kernel import Kernel
from anykernel.kernel.process import Process
from anykernel.net import Network
from anykernel.plugin.options import CMDLINE_MOST

CLONE_NEWNET = 0x40000000
KINDS = {
    "bond0": "bond",
    "dummy0": "dummy",
    "erspan0": "erspan",
    "gre0": "gre",
    "gretap0": "gretap",
    "ifb0": "ifb",
    "ip6gre0": "ip6gre",
    "ip6tnl0": "ip6tnl",
    "sit0": "sit",
    "tunl0": "ipip",
}
"""Names that drivers take when they make a device by themselves, and the kinds of these."""


def devices(process: Process) -> list[str]:
    lines = process.read_text("/proc/net/dev").splitlines()[2:]
    return [line.partition(":")[0].strip() for line in lines]


def test_only_lo_is_there(kernel: Kernel) -> None:
    assert devices(kernel) == ["lo"]
    with kernel.fork() as other:
        other.os.unshare(CLONE_NEWNET)
        assert devices(other) == ["lo"]


def test_only_lo_is_on_a_node(network: Network) -> None:
    assert devices(network.node("n")) == ["lo"]


@pytest.mark.parametrize("name", KINDS)
def test_a_script_may_take_any_name(kernel: Kernel, name: str) -> None:
    kernel.iproute.link("add", ifname=name, kind=KINDS[name])
    assert sorted(devices(kernel)) == sorted(["lo", name])


def test_a_script_may_take_any_name_on_a_node(network: Network) -> None:
    node = network.node("n")
    node.iproute.link("add", ifname="dummy0", kind="dummy")
    assert devices(node) == ["lo", "dummy0"]


@pytest.mark.parametrize(
    ("cmdline", "found"),
    [
        ("dummy.numdummies=2", ["dummy0", "dummy1"]),
        ("bonding.max_bonds=1 ifb.numifbs=1", ["bond0", "ifb0"]),
        ("dummy.numdummies=0", []),
    ],
)
def test_parameters_of_drivers_are_the_users(
    kernel_factory: Callable[..., Kernel], cmdline: str, found: list[str]
) -> None:
    """The last parameter counts, and those of the machine come first."""
    assert sorted(devices(kernel_factory(cmdline=cmdline))) == sorted(["lo", *found])


@pytest.mark.kernel(cmdline="fb_tunnels=initns")
def test_a_tunnel_for_what_has_none(kernel: Kernel) -> None:
    """Where a machine has loaded their modules, each tunnel's fallback device is there: in the
    first namespace, or, as sysctl says, in all."""
    assert {"tunl0", "gre0", "sit0", "ip6tnl0"} <= set(devices(kernel))
    with kernel.fork() as other:
        other.os.unshare(CLONE_NEWNET)
        assert devices(other) == ["lo"]
        kernel.sysctl["net.core.fb_tunnels_only_for_init_net"] = 0
        other.os.unshare(CLONE_NEWNET)
        assert {"tunl0", "gre0", "sit0", "ip6tnl0"} <= set(devices(other))


@pytest.mark.kernel(cmdline="loglevel=5 dummy.numdummies=1")
def test_the_users_parameters_follow_the_machines(kernel: Kernel) -> None:
    before, after = kernel.read_text("/proc/cmdline").split("loglevel=5")
    assert before == "bonding.max_bonds=0 dummy.numdummies=0 ifb.numifbs=0 " + (
        "sch_teql.max_equalizers=0 fakelb.numlbs=0 fb_tunnels=none "
    )
    assert after == " dummy.numdummies=1\n"
    assert kernel.sysctl["kernel.printk"].split()[0] == "5"


def test_a_command_line_of_any_length_is_read(kernel_factory: Callable[..., Kernel]) -> None:
    """And one of which the kernel would drop the end is refused."""
    assert LENGTH - 1 - len(" ".join([*DRIVERS, NETWORK])) == CMDLINE_MOST
    wanted = "dummy.numdummies=3"
    line = "x" * (CMDLINE_MOST - 1 - len(wanted)) + " " + wanted
    kernel = kernel_factory(cmdline=line)
    assert len(devices(kernel)) == 4
    with pytest.raises(UsageError, match="a command line has at most 400 bytes"):
        Host(kernel.image, cmdline=f"{line} ")


@pytest.mark.parametrize("components", [[], ["net/ipv4"]])
def test_a_kernel_of_some_components_knows_what_it_is_told(
    kernel_factory: Callable[..., Kernel], components: list[str]
) -> None:
    kernel = kernel_factory(components=components)
    assert "Unknown kernel command line" not in kernel.log
    assert kernel.os.exists("/dev/null")


NODES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "kmsg": (1, 11), "console": (5, 1), "net/tun": (10, 200),
}  # fmt: skip


def test_dev_is_as_the_kernel_fills_it(kernel: Kernel) -> None:
    for name, numbers in NODES.items():
        found = kernel.os.stat(f"/dev/{name}")
        assert stat.S_ISCHR(found.st_mode), name
        assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == numbers, name
    assert stat.S_IMODE(kernel.os.stat("/dev/null").st_mode) == 0o666
    with kernel.open("/dev/urandom", "rb", buffering=0) as file:
        assert len(file.read(32)) == 32


def test_the_usual_mounts(kernel: Kernel) -> None:
    mounts = dict(line.split()[1:3] for line in kernel.read_text("/proc/mounts").splitlines())
    wanted = {
        "/proc": "proc",
        "/sys": "sysfs",
        "/dev/shm": "tmpfs",
        "/tmp": "tmpfs",
    }
    assert wanted.items() <= mounts.items()
