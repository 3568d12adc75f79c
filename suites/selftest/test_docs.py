# SPDX-License-Identifier: GPL-2.0
"""What the documents show works: examples run; commands, options and files exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from anykernel.host import ns3
from anykernel.plugin import options

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "anykernel" / "docs"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs(pytester: pytest.Pytester, example: str) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(example)
    run_examples(pytester, [example])


def run_examples(pytester: pytest.Pytester, examples: list[str]) -> None:
    """All pass; those on ns-3 are skipped where there is none, and say what to install."""
    lacking = "".join(examples).count("(ns3_network") if ns3.missing() else 0
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-rs")
    found = re.search(r"^collected (\d+) item", result.stdout.str(), re.M)
    tests = int(found[1]) if found else 0  # with parametrize, more than there are functions
    assert tests >= sum(example.count("def test_") for example in examples)
    result.assert_outcomes(passed=tests - lacking, skipped=lacking)
    assert not lacking or "apt-get install libns3-dev" in result.stdout.str()


@pytest.mark.parametrize("page", ["kernel", "isolation", "mocks", "network"])
def test_examples_of_a_page_run(pytester: pytest.Pytester, page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    for number, example in enumerate(examples):
        pytester.makepyfile(**{f"test_example_{number}": example})
    assert sum(example.count("def test_") for example in examples) == text.count("def test_")
    run_examples(pytester, examples)


def test_the_example_of_a_stub_policy_runs(pytester: pytest.Pytester) -> None:
    """Its blocks are files, whose names stand in their first lines."""
    text = (DOCS / "stubs.md").read_text()
    blocks = re.findall(r"^```\w+\n(?:#|//) (\S+)\n(.*?)^```", text, re.M | re.S)
    for name, content in blocks:
        (pytester.path / name).parent.mkdir(exist_ok=True)
        (pytester.path / name).write_text(content)
    assert len(blocks) == text.count("\n```") // 2
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)


def test_commands_exist() -> None:
    shown = set(re.findall(r"anykernel (doctor|suite|[a-z]+)(?= |$)", _console(), re.M))
    command = Path(sys.executable).with_name("anykernel")
    said = subprocess.run(
        [command, "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    offered = set(re.findall(r"^  ([a-z]+) ", said, re.M))
    assert shown
    assert shown - offered == set()


@pytest.mark.parametrize("name", ["quickstart", "test", "less", "bench", "setup"])
def test_scripts_exist_and_can_be_run(name: str) -> None:
    path = ROOT / "ci" / name
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", path], check=True, timeout=60)


def test_all_options_are_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", README, re.M))
    marker = set(re.findall(r"(\w+)=", options.MARKER))
    assert marker - documented == set()


def test_all_dependencies_have_a_reason() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    section = README[README.index("## Dependencies") :]
    for requirement in wanted:
        name, _, minimum = requirement.partition(">=")
        assert minimum, f"{requirement} has no minimum version"
        assert re.search(rf"\b{re.escape(name)}\b", section), f"README has no reason for {name}"


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "anykernel/docs/architecture.md",
        "anykernel/docs/trust.md",
    ],
)
def test_files_named_exist(name: str) -> None:
    named = set(re.findall(r"`((?:anykernel|suites|ci)/[\w/.]+)`", (ROOT / name).read_text()))
    missing = {path for path in named if not (ROOT / path).exists()}
    assert missing == set()


def _console() -> str:
    return "\n".join(re.findall(r"^```console\n(.*?)^```", README, re.M | re.S))
