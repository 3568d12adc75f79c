# SPDX-License-Identifier: GPL-2.0
"""Flavours: fragments are read, merged, and verified in what the tree made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anykernel.build import kconfig
from anykernel.build.kconfig import Request
from anykernel.errors import KconfigError, UsageError

TREE = {
    "Kconfig": "config NET\n\tbool\n\nmenuconfig NETFILTER\n\tbool\n",
    "net/sched/Kconfig": "config NET_SCH_FQ\n\ttristate\n\nconfig NET_SCH_FQ_CODEL\n\ttristate\n",
    "arch/arm/Kconfig": "config NET_SCH_FAR\n\tbool\n\nconfig NET\n\tbool\n",
    "Documentation/kbuild/Kconfig.example": "config NOT_REAL\n\tbool\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def verify(tree: Path, config: str, *wanted: Request) -> None:
    (tree / ".config").write_text(config)
    kconfig.verify(list(wanted), tree / ".config", tree)


def test_lines() -> None:
    text = """\
# a comment
CONFIG_NET=y
CONFIG_HZ=1000

CONFIG_CMDLINE="quiet and more"
# CONFIG_MODULES is not set
CONFIG_IP_DCCP=y  # optional
# CONFIG_GONE is not set # optional
"""
    assert kconfig.parse(text, "x") == [
        Request("NET", "y"),
        Request("HZ", "1000"),
        Request("CMDLINE", '"quiet and more"'),
        Request("MODULES", "n"),
        Request("IP_DCCP", "y", optional=True),
        Request("GONE", "n", optional=True),
    ]
    assert kconfig.parse(kconfig.fragment(kconfig.parse(text, "x")), "y") == [
        Request(r.symbol, r.value) for r in kconfig.parse(text, "x")
    ]


@pytest.mark.parametrize("line", ["NET=y", "CONFIG_NET", "CONFIG_NET = y", "CONFIG_NET=", "foo"])
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(UsageError, match=rf"mine\.config:2: '{line}' is no Kconfig line"):
        kconfig.parse(f"# fine\n{line}\n", "mine.config")


def test_shipped_flavours() -> None:
    assert kconfig.flavours() == ["debug", "default", "wide"]
    default = {r.symbol: r.value for r in kconfig.requests("default")}
    debug = {r.symbol: r.value for r in kconfig.requests("debug")}
    for symbol in ("NET", "INET", "IPV6", "PACKET", "UNIX", "BRIDGE", "VETH", "MPTCP"):
        assert default[symbol] == "y"
    assert default.keys() <= debug.keys()
    assert debug["PROVE_LOCKING"] == "y" and "PROVE_LOCKING" not in default
    wide = {r.symbol: r.value for r in kconfig.requests("wide")}
    assert default.keys() <= wide.keys()
    assert wide["BPF_SYSCALL"] == "y" and "BPF_SYSCALL" not in default


def test_the_users_values_win() -> None:
    wanted = {
        r.symbol: r for r in kconfig.requests("default", {"CONFIG_IPV6": "n", "HZ_1000": "y"})
    }
    assert wanted["IPV6"].line() == "# CONFIG_IPV6 is not set"
    assert wanted["HZ_1000"].line() == "CONFIG_HZ_1000=y"
    assert not wanted["IPV6"].optional


@pytest.mark.parametrize(
    "extra", [{"NET SCHED": "y"}, {"X": "a\nCONFIG_Y=y"}, {"": "y"}, {"X": ""}]
)
def test_malformed_values(extra: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="write it like"):
        kconfig.requests("default", extra)


@pytest.mark.parametrize("flavour", ["", "Default", "../default", "kasan"])
def test_a_flavour_that_does_not_exist(flavour: str) -> None:
    with pytest.raises(UsageError, match="there are: debug, default, wide"):
        kconfig.requests(flavour)


def test_what_was_granted(tree: Path) -> None:
    config = "CONFIG_NET=y\n# CONFIG_NETFILTER is not set\n"
    verify(tree, config, Request("NET", "y"), Request("NETFILTER", "n"))
    # What isn't there isn't set either.
    verify(tree, config, Request("NET_SCH_FQ", "n"), Request("NO_SUCH", "n"))
    verify(tree, config, Request("IP_DCCP", "y", optional=True))


def test_a_symbol_that_does_not_exist(tree: Path) -> None:
    with pytest.raises(KconfigError) as caught:
        verify(tree, "CONFIG_NET=y\n", Request("NET_SHC_FQ", "y"))
    said = str(caught.value)
    assert "CONFIG_NET_SHC_FQ does not exist in this tree; did you mean NET_SCH_FQ" in said
    with pytest.raises(KconfigError, match=r"CONFIG_NOT_REAL does not exist in this tree$"):
        verify(tree, "CONFIG_NET=y\n", Request("NOT_REAL", "y"))


def test_a_value_that_was_not_granted(tree: Path) -> None:
    with pytest.raises(KconfigError) as caught:
        verify(
            tree,
            "CONFIG_NET=y\nCONFIG_NET_SCH_FQ=m\n",
            Request("NET_SCH_FQ", "y"),
            Request("NET", "n"),
            Request("NETFILTER", "y"),
        )
    said = str(caught.value)
    assert "CONFIG_NET_SCH_FQ=y was not granted (it is m)" in said
    assert "CONFIG_NET=n was not granted (it is y)" in said
    assert "see Kconfig:4" in said, "where the symbol is defined"
    assert "see net/sched/Kconfig:1" in said


def test_what_is_of_another_architecture(tree: Path) -> None:
    """No hint leads there: such a symbol can't be had, and one that is here, too, is here."""
    with pytest.raises(KconfigError) as caught:
        verify(
            tree,
            "CONFIG_NETFILTER=y\n",
            Request("NET_SCH_FAR", "y"),
            Request("NET_SCH_FA", "y"),
            Request("NET", "y"),
        )
    said = str(caught.value)
    assert "CONFIG_NET_SCH_FAR is of another architecture (arch/arm/Kconfig:1)" in said
    assert re.search(r"CONFIG_NET_SCH_FA does not exist .*did you mean NET_SCH_FQ", said)
    assert said.count("NET_SCH_FAR") == 1
    assert re.search(r"CONFIG_NET=y was not granted .*see Kconfig:1$", said, re.M)


def test_a_fragment_of_the_users_is_a_flavour(tmp_path: Path) -> None:
    mine = tmp_path / "my.config"
    mine.write_text("CONFIG_NET_SCH_RED=y\n# CONFIG_IPV6 is not set\n")
    found = {one.symbol: one.value for one in kconfig.requests(str(mine), {"NET_SCH_RED": "n"})}
    plain = {one.symbol: one.value for one in kconfig.requests("default")}
    assert found == {**plain, "NET_SCH_RED": "n", "IPV6": "n"}


WHOLE = """\
#
# Automatically generated file; DO NOT EDIT.
# Linux/x86 6.1.0 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT="gcc (Some) 9"
CONFIG_NET=y
CONFIG_NET_SCH_FQ=m
CONFIG_NET_SCH_FAR=y
# CONFIG_EXPERT is not set
CONFIG_NEWER=y
CONFIG_MODULES=y
# CONFIG_NETFILTER is not set
"""


def test_a_whole_config_of_the_users_stands_for_itself(tmp_path: Path) -> None:
    """But for what makes a kernel a library; what would be a module is built in."""
    mine = tmp_path / "my.config"
    mine.write_text(WHOLE)
    found = {one.symbol: one for one in kconfig.requests(str(mine), {"NETFILTER": "y"})}
    values = {symbol: one.value for symbol, one in found.items()}
    assert values["NET_SCH_FQ"] == "y" and values["NETFILTER"] == "y" and values["MODULES"] == "n"
    assert values["FRAME_POINTER"] == "y", "stacks are followed by it"
    assert list(found).index("EXPERT") > list(found).index("NET"), "of a choice the last counts"
    assert "IP_SCTP" not in values, "the flavour default is none of its business"
    assert found["NEWER"].whole and not found["NETFILTER"].whole


def test_what_of_a_whole_config_can_not_be_had(tmp_path: Path) -> None:
    """It is no error, and told with its reason; what follows from the rest isn't."""
    for name, text in {
        "Kconfig": 'config NET\n\tbool "Net"\n\nconfig CC_VERSION_TEXT\n\tstring\n'
        '\nchoice\n\tprompt "What"\n'
        '\nmenuconfig NETFILTER\n\tbool "Filter"\n',
        "net/Kconfig": 'config NET_SCH_FQ\n\ttristate\n\tprompt "FQ"\n',
        "arch/arm/Kconfig": 'config NET_SCH_FAR\n\tbool "Far"\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    mine = tmp_path / "my.config"
    mine.write_text(WHOLE)
    wanted = [one for one in kconfig.requests(str(mine)) if one.whole]
    config = tmp_path / ".config"
    config.write_text('CONFIG_NET=y\nCONFIG_CC_VERSION_TEXT="gcc 12"\nCONFIG_NETFILTER=y\n')
    kconfig.verify(wanted, config, tmp_path)
    assert kconfig.refused(wanted, config, tmp_path) == [
        "CONFIG_NET_SCH_FQ=y: what it depends on is missing, or decided otherwise here, "
        "see net/Kconfig:1",
        "CONFIG_NET_SCH_FAR=y: of another architecture, arch/arm/Kconfig:1",
        "CONFIG_NEWER=y: not in this tree",
    ]
    plain = [Request(one.symbol, one.value) for one in wanted]
    assert kconfig.refused(plain, config, tmp_path) == [], "of a fragment it is an error"
    with pytest.raises(KconfigError, match="NET_SCH_FAR is of another architecture"):
        kconfig.verify(plain, config, tmp_path)


def test_a_library_has_no_modules() -> None:
    with pytest.raises(UsageError, match="NET_SCH_FQ=m: a library has no modules; y builds it in"):
        kconfig.requests("default", {"CONFIG_NET_SCH_FQ": "m"})


@pytest.mark.parametrize("name", ["./none.config", "none.config", "/nowhere/none.config"])
def test_a_fragment_that_is_not_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"there is no fragment .*none.*anykernel menuconfig"):
        kconfig.requests(name)


def test_an_unknown_flavour_names_the_others() -> None:
    said = r"'debg'; there are: debug, default, wide, .*\./my\.config"
    with pytest.raises(UsageError, match=said):
        kconfig.requests("debg")


def test_the_difference_of_two_configurations() -> None:
    """What became other, what is new, and what is at its default again, by its value there."""
    before = "CONFIG_NET=y\nCONFIG_HZ=100\n# CONFIG_WIRELESS is not set\nCONFIG_IPV6=y\n"
    after = "CONFIG_NET=y\nCONFIG_HZ=250\nCONFIG_VLAN_8021Q=y\n"
    whole = after + "CONFIG_WIRELESS=y\n# CONFIG_IPV6 is not set\n"
    assert kconfig.difference(before, after, whole) == (
        "CONFIG_HZ=250\nCONFIG_VLAN_8021Q=y\nCONFIG_WIRELESS=y\n# CONFIG_IPV6 is not set\n"
    )
    assert kconfig.difference(before, before, whole) == ""
