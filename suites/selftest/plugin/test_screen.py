# SPDX-License-Identifier: GPL-2.0
"""A report of a real kernel's failure is one screen, is right, and its command runs it again."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from suites.selftest.plugin.test_real import inner, run  # noqa: F401

SCREEN = 40

BODY = """
import contextlib
from anykernel.errors import KernelCrash

def test_oops(kernel):
    kernel.inside.dev_open(None, None)

def test_warning(kernel):
    kernel.inside.refcount_warn_saturate(kernel.inside.init_net.passive, 3)  # here

def test_deadlock(kernel):
    server = kernel.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 7))
    call = kernel.submit("pause")
    reader, writer = kernel.os.pipe()
    waits = kernel.submit("read", reader, bytearray(1), 1)
    server.recv(1)

def test_swallowed(kernel):
    with contextlib.suppress(KernelCrash):
        kernel.inside.dev_open(None, None)

def test_packets(kernel):
    eth0 = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"])
    with kernel.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for n in range(50):
            kernel.write_text("/dev/kmsg", f"message {n}\\n")
            with contextlib.suppress(OSError):
                sock.sendto(b"x", ("192.0.2.9", 9))
    kernel.inside.dev_open(None, None)

@pytest.fixture
def after(kernel):
    yield
    kernel.inside.dev_open(None, None)

def test_teardown(after):
    pass
"""


def reports(shown: str) -> dict[str, str]:
    """What is shown of each failure, by the test's name."""
    parts = re.split(r"^_{3,} (?:ERROR at \w+ of )?(\w+) _{3,}$", shown, flags=re.M)[1:]
    return {
        name: re.split(r"^=+ ", text, maxsplit=1, flags=re.M)[0]
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def ours(report: str) -> list[str]:
    """The lines of a report but for the test's own source."""
    lines = report.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("E "))
    return [line for line in lines[begin:] if line.strip()]


def test_each_kind_is_one_screen(inner: pytest.Pytester) -> None:  # noqa: F811
    result = run(inner, BODY, "--color=no")
    result.assert_outcomes(failed=5, passed=2, errors=1)
    found = reports(result.stdout.str())
    assert len(found) == 6
    for name, text in found.items():
        assert len(ours(text)) <= SCREEN, (name, text)
        assert len(re.findall(r"^pytest .*::" + name + " ", text, re.M)) == 1
        assert "anykernel/host/" not in text, "our own frames are of no interest"
        assert re.search(r"^E .*(complained|recvfrom|crashed)", text, re.M)
    for name in ("test_oops", "test_swallowed", "test_packets", "test_teardown"):
        (crash,) = re.findall(r"dev_open\+0x\w+ \(net/core/dev\.c:\d+.*\n.*> (.*)", found[name])
        assert "flags" in crash, "the line of the source"
        assert found[name].count("bad memory access") == 1
    assert re.search(r"at .*:\d+, in test_warning: .*# here\n", found["test_warning"])
    assert re.search(r"refcount_warn_saturate.*\(lib/refcount\.c:\d+", found["test_warning"])
    assert (
        "process 1 (init): recvfrom(fd 0), AF_INET SOCK_DGRAM socket 127.0.0.1:7"
        in (found["test_deadlock"])
    )
    assert "pause() for a signal (in the background)" in found["test_deadlock"]
    assert re.search(
        r": read\(fd \d+\), pipe:\[\d+\] \(in the background\)", found["test_deadlock"]
    )
    assert "message 49" in found["test_packets"] and "message 0\n" not in found["test_packets"]
    _check_files(found)


def _check_files(found: dict[str, str]) -> None:
    texts = {}
    for name, text in found.items():
        (path,) = re.findall(r"^all of it: (.*)$", text, re.M)
        texts[name] = Path(path).read_text()
    assert "message 0\n" in texts["test_packets"]
    assert "rax" in texts["test_oops"] and "Run /init as init" in texts["test_oops"]
    assert "task:kthreadd" in texts["test_deadlock"]
    (pcap,) = re.findall(r"^all packets: (.*)$", found["test_packets"], re.M)
    assert Path(pcap).stat().st_size > 24


def test_it_is_run_again_from_anywhere(
    inner: pytest.Pytester,  # noqa: F811
    tmp_path: Path,
) -> None:
    """With a space in the path, an option that decides, a seed that Hypothesis chose itself."""
    folder = inner.mkdir("a folder")
    (folder / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--wanted')\n"
    )
    (folder / "pytest.ini").write_text(
        "[pytest]\nkernel_seed = 3\npython_functions = check_*\nmarkers = slow\n"
    )
    (folder / "test_a.py").write_text(
        """
import random
from hypothesis import given, settings, strategies as st

@settings(max_examples=20, database=None, deadline=None)
@given(number=st.integers(0, 1 << 60))
def check_it(kernel, pytestconfig, number):
    assert pytestconfig.getoption("wanted") == "a b"
    assert kernel.os.urandom(4) == b"" or number < 1 << 20, number
"""
    )
    first = inner.run(
        *("python", "-m", "pytest", "-xvs", "a folder", "-c", "a folder/pytest.ini"),
        *("--wanted", "a b", "-p", "no:cacheprovider"),
        timeout=300,
    )
    first.assert_outcomes(failed=1)
    (command,) = re.findall(r"^pytest .*$", first.stdout.str(), re.M)
    (failed,) = set(re.findall(r"^E +AssertionError: (\d+)$", first.stdout.str(), re.M))
    assert "--hypothesis-seed=" in command and "--kernel-seed=3" in command
    words = shlex.split(command)
    again = subprocess.run(
        ["python", "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 1
    assert set(re.findall(r"^E +AssertionError: (\d+)$", again.stdout, re.M)) == {failed}
    assert shlex.split(re.findall(r"^pytest .*$", again.stdout, re.M)[0]) == words
