# SPDX-License-Identifier: GPL-2.0
"""Where ns-3 is missing, people are told so; where it is, programs link with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from anykernel.errors import ToolError
from anykernel.host import ns3
from anykernel.settings import settings


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine whose only include folder is this one."""
    monkeypatch.setattr(ns3, "PLACES", (str(tmp_path),))
    ns3.include_dir.cache_clear()
    yield tmp_path
    ns3.include_dir.cache_clear()


def test_missing_says_what_to_install(elsewhere: Path) -> None:
    assert "apt-get install libns3-dev" in ns3.missing()
    with pytest.raises(ToolError, match="apt-get install libns3-dev"):
        ns3.program("nothing", [], ())


def test_missing_compiler(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "ns3").mkdir()
    (elsewhere / "ns3" / "core-module.h").touch()
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.delenv("ANYKERNEL_HIDE", raising=False)
    settings.cache_clear()
    try:
        assert "no C++ compiler" in ns3.missing()
    finally:
        monkeypatch.undo()
        settings.cache_clear()


@pytest.mark.skipif(bool(ns3.missing()), reason=ns3.missing())
def test_program(tmp_path: Path) -> None:
    source = tmp_path / "when.cc"
    source.write_text(
        '#include "ns3/simulator.h"\n'
        '#include "ns3/nstime.h"\n'
        "#include <cstdio>\n"
        "static void Now() { std::printf("
        '"%ld", (long)ns3::Simulator::Now().GetNanoSeconds()); }\n'
        "int main() { ns3::Simulator::Schedule(ns3::MicroSeconds(7), &Now);"
        " ns3::Simulator::Run(); }\n"
    )
    made = ns3.program("when", [source], ("core",))
    assert subprocess.run([made], capture_output=True, text=True, check=True).stdout == "7000"
    assert ns3.program("when", [source], ("core",)) == made
    source.write_text("this is no C++\n")
    with pytest.raises(ToolError, match="when doesn't compile"):
        ns3.program("when", [source], ("core",))


@pytest.mark.skipif(bool(ns3.missing()), reason=ns3.missing())
def test_host_is_bound_at_once() -> None:
    """As anykernel-host: the loader must not run on a kernel's stack."""
    dynamic = subprocess.run(
        ["readelf", "-d", ns3.host_program()], capture_output=True, text=True, check=True
    ).stdout
    assert "NOW" in dynamic and "libns3-wifi" in dynamic
