# SPDX-License-Identifier: GPL-2.0
"""Stub policies: what is wrong in one is said, with its file and table."""

from __future__ import annotations

from pathlib import Path

import pytest

from anykernel.errors import UsageError
from anykernel.link import policy
from anykernel.link.policy import PolicyError, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "stubs"
    made.mkdir()
    return made


def write(folder: Path, text: str, name: str = "own.toml") -> Path:
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[grant", "own.toml: "),
        ("[grants.f]\nreturns = 0\nwhy = 'x'", r"unknown table \[grants\]; there are base, .*gran"),
        ("grant = 5", r"own.toml: \[grant\] is a table"),
        ("base = 5", r"own.toml: \[base\] is a table"),
        ("[grant]\nf = 5", r"\[grant.f\]: this is a table, with also, body, .*when, why"),
        ("[grant.f]\nreturn = 0\nwhy = 'x'", "unknown key 'return'; there are also, body"),
        ("[grant.f]\nreturns = 0", r"own.toml: \[grant.f\]: why is missing"),
        ("[grant.f]\nreturns = 0\nwhy = ' '", "why is missing: say why this is harmless"),
        ("[grant.f]\nwhy = 'x'", "one of returns, body and data is needed, not none"),
        (
            "[grant.f]\nwhy = 'x'\nreturns = 0\ndata = 'zero'",
            r"one of returns, body and data is needed, not \['returns', 'data'\]",
        ),
        (
            "[grant.f]\nwhy = 'x'\nreturns = 0\nbody = 'x.c'",
            r"one of returns, body and data is needed, not \['returns', 'body'\]",
        ),
        ("[grant.f]\nwhy = 'x'\nbody = 'absent.c'", "there is no file .*/absent.c"),
        ("[grant.f]\nwhy = 'x'\nbody = '../outside.c'", "there is no file .*/outside.c"),
        ("[grant.f]\nwhy = 'x'\ndata = 'zero'\nwhen = 'a'", "when goes with returns"),
        ("[grant.f]\nwhy = 'x'\ndata = 'one'", "data can only be 'zero'"),
        ("[grant.f]\nwhy = 'x'\nreturns = true", "returns is a string or a whole number"),
        ("[grant.f]\nwhy = 'x'\nreturns = [1]", "returns is a string or a whole number"),
        ("[require.a]\nwhy = 'x'\ncomponents = 'b'", "components is a list of strings"),
        ("[require.a]\nwhy = 'x'\ncomponents = [1]", "components is a list of strings"),
        ("[image.a]\ncomponents = ['b']", r"\[image.a\]: why is missing"),
        ("[variant.a]\nwhy = 'x'\nheaders = ['a.h']\nsymbols = ['f']", "without is missing"),
        (
            "[variant.a]\nwhy = 'x'\nheaders = []\nsymbols = ['f']\nwithout = ['CONFIG_A']",
            r"\[variant.a\]: headers is missing",
        ),
    ],
)
def test_what_is_wrong(folder: Path, text: str, said: str) -> None:
    (folder.parent / "outside.c").write_text("")
    with pytest.raises(PolicyError, match=said) as error:
        load([write(folder, text)])
    assert str(error.value).startswith(str(folder / "own.toml"))
    assert isinstance(error.value, UsageError)


def test_no_text(folder: Path) -> None:
    (folder / "own.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match=r"own\.toml"):
        load([folder])


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=f"there is no folder {tmp_path / 'absent'} for stub"):
        load([tmp_path / "absent"])


def test_grants(folder: Path) -> None:
    (folder / "bodies").mkdir()
    (folder / "bodies" / "body.c").write_text("int h(void) { return 1; }")
    text = """
        [grant.f]
        returns = 0
        when = "!p"
        why = '''over
                 two lines'''
        [grant.g]
        data = "zero"
        why = "x"
        [grant.h]
        body = "bodies/body.c"
        why = "x"
        """
    found = load([write(folder, text)]).grants
    assert (found["f"].returns, found["f"].when, found["f"].why) == ("0", "!p", "over two lines")
    assert found["f"].origin == f"{folder / 'own.toml'}: [grant.f]"
    assert found["g"].data == "zero"
    assert found["h"].body == folder / "bodies" / "body.c"


def test_a_later_folder_overrides(folder: Path, tmp_path: Path) -> None:
    write(folder, "[grant.f]\nreturns = 1\nwhy = 'first'\n[image.a]\nwhy = 'x'\ncomponents = ['b']")
    second = tmp_path / "second"
    second.mkdir()
    write(second, "[grant.f]\ndata = 'zero'\nwhy = 'second'", "aaa.toml")
    write(second, "[require.a]\ncomponents = ['c']\nwhy = 'x'", "bbb.toml")
    found = load([folder, second])
    assert (found.grants["f"].why, found.grants["f"].returns) == ("second", None)
    assert load([second, folder]).grants["f"].why == "first"
    assert found.images["a"] == ("b",)
    assert found.require["a"] == ("c",)
    # What is shipped is below.
    assert "base" in found.images
    assert found.base == load().base


def test_every_change_makes_another_policy(folder: Path, tmp_path: Path) -> None:
    """The id is in the key of what is cached."""
    ids = {load().id}
    for number, text in enumerate(["returns = 0", "returns = 1"]):
        own = tmp_path / str(number)
        own.mkdir()
        ids.add(load([write(own, f"[grant.f]\nwhy = 'x'\n{text}")]).id)
    for number, text in enumerate(["int f(void);", "int f(int);"]):
        own = tmp_path / f"body{number}"
        (own / "below").mkdir(parents=True)
        (own / "below" / "f.c").write_text(text)
        ids.add(load([write(own, "[grant.f]\nwhy = 'x'\nbody = 'below/f.c'")]).id)
    assert len(ids) == 5


def test_the_shipped_policy_is_whole() -> None:
    shipped = load()
    assert {"base", "net-ipv4", "net-ipv6", "net-sctp", "netfilter"} <= shipped.images.keys()
    assert shipped.grants.keys().isdisjoint(shipped.variants.keys())
    assert policy.SHIPPED.is_dir()
