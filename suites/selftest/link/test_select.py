# SPDX-License-Identifier: GPL-2.0
"""What an image of some components has and lacks, against nm's opinion; and the ledgers."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from anykernel.cli.stubs import minor, read, text
from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from anykernel.link.components import component_of, components, objects
from anykernel.link.image import ledger
from anykernel.link.policy import load
from anykernel.link.select import select
from suites.selftest.link import nm

LEDGERS = Path(__file__).resolve().parent / "ledgers"
NAMED = sorted(load().images)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_missing_as_nm_has_it(kernel: Kernel, name: str) -> None:
    image, rules = kernel.image, load()
    found = select(image, rules.images[name], rules)
    chosen = nm.of(image.objects, (one.path for one in found.objects))
    # What no object at all defines comes from the linker's script.
    whole = nm.of(image.objects, (one.path for one in objects(image)))
    assert found.missing.keys() == (chosen.needed - chosen.defined) & whole.defined
    for one in found.missing.values():
        assert one.home not in found.objects
        assert one.symbol in one.home.defined | one.home.weak
        assert one.users


@pytest.mark.parametrize("name", NAMED)
def test_only_what_runs_nothing_at_boot_is_pulled(kernel: Kernel, name: str) -> None:
    rules = load()
    found = select(kernel.image, rules.images[name], rules)
    by_path = {one.path: one for one in objects(kernel.image)}
    for path in found.pulled:
        assert component_of(path, rules.split) not in found.components
        assert by_path[path].initcalls == ()
    assert list(found.objects) == [one for one in objects(kernel.image) if one in found.objects]


def test_all_components_lack_nothing(kernel: Kernel) -> None:
    found = select(kernel.image, components(kernel.image), load())
    assert found.missing == {}
    assert found.pulled == ()
    assert list(found.objects) == objects(kernel.image)
    assert ledger(kernel.image) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("net/ipv5", "no component 'net/ipv5'; did you mean net/ipv"),
        ("qqqq", r"no component 'qqqq' \(anykernel components\)"),
    ],
)
def test_an_unknown_component(kernel: Kernel, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        select(kernel.image, [name], load())


@pytest.mark.parametrize("name", NAMED)
def test_ledgers(kernel: Kernel, name: str) -> None:
    """A stub more is a line more in a committed file.  When that is meant:

    anykernel stubs --write suites/selftest/link/ledgers
    """
    image = kernel.image
    folder = LEDGERS / minor(image.release)
    if image.flavour != "default" or not folder.is_dir():
        pytest.skip(f"no ledgers of {image.release}, flavour {image.flavour}, are committed")
    committed = (folder / f"{name}.txt").read_text()
    found = text(read(image, name))
    diff = difflib.unified_diff(
        committed.splitlines(), found.splitlines(), f"{name}.txt", "now", lineterm=""
    )
    assert committed == found, "\n".join(["the ledger changed", *diff, test_ledgers.__doc__ or ""])


def test_no_ledger_is_left_over(kernel: Kernel) -> None:
    folder = LEDGERS / minor(kernel.image.release)
    if folder.is_dir():
        assert sorted(path.stem for path in folder.iterdir()) == NAMED


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("net")])
def test_stubs_are_few(kernel: Kernel, name: str) -> None:
    few = len(read(kernel.image, name).generated) <= 20
    if name == "net-ipv4" and not few and not hasattr(kernel.inside, "ipv6_stub"):
        pytest.xfail("without modules of IPv6, IPv4 and BPF call it directly")
    assert few
