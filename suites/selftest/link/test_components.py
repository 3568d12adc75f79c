# SPDX-License-Identifier: GPL-2.0
"""Components and objects, against binutils' opinion."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.link.components import component_of, components, find, group, objects, pulled
from anykernel.link.objects import Object, read

EXPECTED = {
    "base",
    "mm",
    "vfs",
    "net/core",
    "net/ipv4",
    "net/ipv6",
    "net/sctp",
    "net/mptcp",
    "netfilter",
    "net/sched",
    "net/bridge",
    "crypto",
    "lib",
    "fs/proc",
    "drivers/net/veth",
    "drivers/net/dummy",
    "drivers/net/bonding",
}


def tool(*argv: str | Path) -> str:
    return subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("init/main.o", "base"),
        ("kernel/sched/core.o", "base"),
        ("arch/lib/kernel/task.o", "base"),
        ("mm/slub.o", "mm"),
        ("lib/math/div64.o", "lib"),
        ("block/bdev.o", "block"),
        ("fs/open.o", "vfs"),
        ("fs/notify/inotify/inotify_user.o", "vfs"),
        ("fs/ext4/super.o", "fs/ext4"),
        ("fs/quota/kqid.o", "fs/quota"),
        ("net/socket.o", "net/core"),
        ("net/core/dev.o", "net/core"),
        ("net/ipv4/tcp.o", "net/ipv4"),
        ("net/ipv4/netfilter/nf_nat.o", "netfilter"),
        ("net/dccp/ccids/ccid2.o", "net/dccp"),
        ("net/of_tomorrow/x.o", "net/of_tomorrow"),
        ("drivers/net/veth.o", "drivers/net/veth"),
        ("drivers/net/bonding/bond_main.o", "drivers/net/bonding"),
        ("drivers/base/regmap/regmap.o", "drivers/base"),
        ("drivers/char/random.o", "drivers/char"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert component_of(path) == name


def test_a_network_kernels_components(kernel: Kernel) -> None:
    found = components(kernel.image)
    assert EXPECTED - found.keys() == set()
    assert find(found, "bridge").name == "net/bridge"
    tcp = [call for call in find(found, "net/ipv4").initcalls if call[1] == "inet_init"]
    assert tcp == [("fs", "inet_init")]
    assert "net/ipv4" in found["net/sctp"].needs
    assert "net/sctp" in found["net/ipv4"].needed_by
    assert found["net/bridge"].needed_by.keys() <= {"netfilter", "net/8021q", "drivers/net/vxlan"}


def test_who_asks_for_one_that_is_not_there(kernel: Kernel) -> None:
    found = components(kernel.image)
    with pytest.raises(UsageError, match="no component 'net/ipv5'; did you mean net/ipv"):
        find(found, "net/ipv5")


def test_every_symbol_as_nm_has_it(kernel: Kernel) -> None:
    folder = kernel.image.objects
    several = objects(kernel.image)[::9]
    assert len(several) > 50
    for one in several:
        said = [line.split() for line in tool("nm", folder / one.path).splitlines()]
        kinds: dict[str, set[str]] = {}
        for *_, kind, name in said:
            kinds.setdefault(kind, set()).add(name)
        assert one.undefined == kinds.get("U", set()), one.path
        assert one.optional == kinds.get("w", set()) | kinds.get("v", set()), one.path
        assert one.weak == kinds.get("W", set()) | kinds.get("V", set()), one.path
        assert one.defined == set().union(*(kinds.get(k, set()) for k in "ABCDGRSTu")), one.path


def test_initcalls_as_the_linker_has_them(kernel: Kernel) -> None:
    """The entries of .init.data between the linker's marks, 4 bytes each, are as many."""
    marks = dict(
        re.findall(
            r"^([0-9a-f]+) . (__(?:initcall_start|initcall_end))$",
            tool("nm", kernel.image.vmlinux),
            re.M,
        )
    )
    table = {name: int(address, 16) for address, name in marks.items()}
    entries = (table["__initcall_end"] - table["__initcall_start"]) // 4
    calls = [call for one in components(kernel.image).values() for call in one.initcalls]
    assert len(calls) == entries
    assert "?" not in {name for _, name in calls}


def test_sizes_as_size_has_them(kernel: Kernel) -> None:
    for one in objects(kernel.image)[::40]:
        said = tool("size", "-A", kernel.image.objects / one.path)
        assert 0 < one.size <= int(re.findall(r"^Total\s+(\d+)", said, re.M)[0])


CODE = """
int shared __attribute__((common));
int here(void) { return 1; }
int __attribute__((weak)) maybe(void) { return 2; }
extern int far(void), perhaps(void) __attribute__((weak));
int needed(void);
static int start(void) { return needed() + (perhaps ? perhaps() : 0); }
__asm__(".section .initcall4s.init,\\"a\\"\\n.long start - .\\n.previous");
int (*keep)(void) = start;
"""


@pytest.fixture
def one(tmp_path: Path) -> Object:
    (tmp_path / "one.c").write_text(CODE)
    tool("gcc", "-fno-pie", "-c", tmp_path / "one.c", "-o", tmp_path / "one.o")
    return read(tmp_path / "one.o", "net/tomorrow/one.o")


def test_an_object(one: Object) -> None:
    assert one.defined == {"shared", "here", "keep"}
    assert one.weak == {"maybe"}
    assert one.undefined == {"needed"}
    assert one.optional == {"perhaps"}
    assert one.initcalls == (("subsys_sync", "start"),)


def test_groups(one: Object) -> None:
    """A strong definition is the home of a symbol, wherever a weak one is."""
    other = Object(
        "lib/other.o",
        frozenset({"needed", "maybe"}),
        frozenset(),
        frozenset({"here", "maybe"}),
        frozenset(),
        10,
        (),
    )
    found = group([one, other])
    assert found["net/tomorrow"].needs == {"lib": 1}
    assert found["lib"].needs == {"net/tomorrow": 1}
    assert found["lib"].needed_by == {"net/tomorrow": 1}


def test_a_librarys_members_are_taken_when_they_are_needed() -> None:
    def made(path: str, defined: str, undefined: str = "", optional: str = "") -> Object:
        sets = [frozenset(names.split()) for names in (defined, undefined, optional)]
        return Object(path, sets[0], frozenset(), sets[1], sets[2], 1, ())

    library = [
        made("lib/c.o", "c"),
        made("lib/b.o", "b", "c"),
        made("lib/unused.o", "unused"),
        made("lib/weakly.o", "weakly"),
        made("lib/there.o", "main"),
    ]
    taken = pulled([made("init/main.o", "main", "b", "weakly")], library)
    assert {one.path for one in taken} == {"lib/b.o", "lib/c.o"}


def test_no_object_file(tmp_path: Path) -> None:
    (tmp_path / "x.o").write_text("no ELF")
    with pytest.raises(ValueError, match="is no object file"):
        read(tmp_path / "x.o", "x.o")


def test_the_command(kernel: Kernel) -> None:
    image = kernel.image
    main = [sys.executable, "-c", "from anykernel.cli import main; main()", "components"]
    source = ["--source", image.source, "--flavour", image.flavour]
    assert re.search(r"^net/ipv4 +\d+ +\d+ +\d+ +net/core", tool(*main, *source), re.M)
    (bridge,) = json.loads(tool(*main, "bridge", "--json", *source))
    assert bridge["name"] == "net/bridge"
    assert {"level": "device", "function": "br_init"} in bridge["initcalls"]
    assert "  net/bridge/br_fdb.o (" in tool(*main, "bridge", *source)


def test_objects_are_kept_whole(kernel: Kernel) -> None:
    """The image's own, not those of a later build; the linker takes them."""
    folder = kernel.image.objects
    names = [one.path for one in components(kernel.image)["net/bridge"].objects]
    tool("ld", "-r", "-o", "/dev/null", *(folder / name for name in names))
