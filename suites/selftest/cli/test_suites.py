# SPDX-License-Identifier: GPL-2.0
"""`anykernel suite`: names, and what reaches pytest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anykernel.cli import suites
from anykernel.errors import UsageError
from anykernel.kernel import Kernel
from suites.selftest.cli.test_commands import fails, run


@pytest.mark.parametrize("name", ["", "nothing", "selftest", "../suites/smoke", ".", "SMOKE"])
def test_only_what_is_listed_runs(name: str) -> None:
    with pytest.raises(UsageError, match=r"no suite .*; there are: dce, fuzz, isolation, smoke"):
        suites.find(name)


def test_a_refusal_comes_before_a_build() -> None:
    said = fails("suite", "smok", "--source", "debian:6.1", env={"ANYKERNEL_CACHE": "/dev/null/x"})
    assert "did you mean smoke?" in said


@pytest.mark.parametrize("option", ["--source", "--flavour", "--config"])
def test_a_kernel_without_a_suite(option: str) -> None:
    """It would be ignored."""
    assert "which suite? There are: dce, fuzz" in fails("suite", option, "/nowhere")


def test_every_suite_has_tests() -> None:
    for name in suites.names():
        assert list(suites.find(name).glob("test_*.py"))


def test_options_of_pytest(kernel: Kernel) -> None:
    image = kernel.image
    source = ("--source", image.source, "--flavour", image.flavour)
    done = run("suite", "smoke", *source, "-q", "--collect-only", "-k", "ping and not six")
    assert done.returncode == 0, done.stdout + done.stderr
    ids = re.findall(r"^(\S+)::", done.stdout, re.M)
    assert ids and all("test_ping.py" in name for name in ids)
    wrong = run("suite", "smoke", *source, "--no-such-option")
    assert wrong.returncode == 4
    assert "--no-such-option" in wrong.stderr


def test_symbols_for_a_suite(kernel: Kernel, tmp_path: Path) -> None:
    """They reach the tests' kernels; here one that the kernel has anyway, so nothing is built."""
    said = fails("suite", "smoke", "--config", "NET SCHED=y")
    assert "'NET SCHED=y': write SYMBOL=VALUE, as in NET_SCH_FQ=y" in said
    options = ("--source", kernel.image.source, "--flavour", kernel.image.flavour)
    config = ("--config", "CONFIG_NET=y", "--config=INET=y")
    done = run("suite", "smoke", *options, *config, "--collect-only")
    assert re.search(r"^anykernel: .* seed 0 INET=y NET=y$", done.stdout, re.M), done.stdout


def test_files_of_a_suite_take_the_place_of_all() -> None:
    smoke = suites.find("smoke")
    assert suites.chosen(smoke, ["-k", "ping", "nothing.py"]) == (
        [str(smoke)],
        ["-k", "ping", "nothing.py"],
    )
    assert suites.chosen(smoke, ["test_udp.py::test_x[a::b]", "-x", "test_ping.py"]) == (
        [f"{smoke}/test_udp.py::test_x[a::b]", f"{smoke}/test_ping.py"],
        ["-x"],
    )


@pytest.mark.parametrize("source", ["/nowhere/linux", "../nowhere", "~/no-such-linux.tar.xz"])
def test_a_source_that_is_none(own_cache: Path, source: str) -> None:
    """Said before pytest starts, not ignored."""
    said = fails("suite", "smoke", "--source", source)
    assert re.search(r"there is no (folder|file) [/.].*no", said)
    assert "is no Linux source tree" in fails("suite", "smoke", "--source", str(own_cache.parent))
