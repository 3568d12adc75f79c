# SPDX-License-Identifier: GPL-2.0
"""Running tools: output, log, lines as they come, and what failed."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest

from anykernel import proc
from anykernel.errors import AnykernelError, ToolError
from anykernel.settings import settings


def test_output_log_and_lines(tmp_path: Path) -> None:
    log, lines = tmp_path / "log", list[str]()
    log.write_text("before\n")
    said = proc.run(["sh", "-c", "echo one; echo two >&2"], log=log, on_line=lines.append)
    assert said == "one\ntwo\n"
    assert lines == ["one", "two"]
    assert log.read_text() == "before\none\ntwo\n"


def test_lines_come_while_the_tool_runs() -> None:
    came: list[float] = []
    proc.run(["sh", "-c", "echo a; sleep 0.3; echo b"], on_line=lambda _: came.append(time.time()))
    assert came[1] - came[0] > 0.2


def test_standard_input_folder_and_environment(tmp_path: Path) -> None:
    assert proc.run(["cat"], stdin="hello") == "hello"
    assert proc.run(["cat"]) == ""
    assert proc.run(["pwd"], cwd=tmp_path).strip() == str(tmp_path.resolve())
    assert proc.run(["sh", "-c", "echo $LC_ALL $X"], env={"X": "1"}) == "C 1\n"


def test_a_failure_has_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "for i in $(seq 100); do echo line $i; done; exit 3"
    with pytest.raises(ToolError, match=r"exit code 3") as caught:
        proc.run(["sh", "-c", script], log=log, hint="try again")
    error = caught.value
    assert (error.returncode, error.argv[0], error.log) == (3, "sh", log)
    assert error.tail.splitlines()[-1] == "line 100"
    assert len(error.tail.splitlines()) == proc.TAIL_LINES
    assert str(error).endswith("try again") and str(log) in str(error)
    assert isinstance(error, AnykernelError)
    assert len(log.read_text().splitlines()) == 100
    assert proc.run(["sh", "-c", "echo no; exit 3"], check=False) == "no\n"


def test_bytes_that_are_no_text() -> None:
    assert proc.run(["printf", r"\377x"]) == "\N{REPLACEMENT CHARACTER}x"


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install binutils") as caught:
        proc.run(["ld", "--version"])
    assert caught.value.returncode is None
    with pytest.raises(ToolError, match="apt-get install some-tool"):
        proc.run(["some-tool"])


def test_a_callback_that_fails_ends_the_tool() -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        proc.run(["sh", "-c", "echo on; exec sleep 60"], on_line=interrupt)
    assert time.monotonic() - began < 30


def test_nothing_stays_open() -> None:
    """Else a build within a pytest run that makes warnings errors fails."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        proc.run(["echo", "x"])
    assert [str(warning.message) for warning in caught] == []


def test_an_optional_program_that_is_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tshark").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for hidden, there in (("", True), ("gdb,ns-3", True), ("gdb, tshark", False), ("all", False)):
        monkeypatch.setenv("ANYKERNEL_HIDE", hidden)
        settings.cache_clear()
        assert bool(proc.optional("tshark")) is there
        said = "" if there else "tshark is not installed: apt-get install tshark"
        assert proc.absent("tshark") == said
    monkeypatch.undo()
    settings.cache_clear()


def test_an_optional_program_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for program, package in proc.OPTIONAL.items():
        assert proc.optional(program) is None
        assert proc.absent(program).endswith(f": apt-get install {package}")
