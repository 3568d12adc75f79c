# SPDX-License-Identifier: GPL-2.0
"""Tests whose kernel can't be had: pytest ends, and says what happened."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two tests: one wants a kernel, one doesn't."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile("def test_kernel(kernel): pass\ndef test_plain(): pass\n")
    return pytester


def run(inner: pytest.Pytester, *arguments: str, passed: int = 1) -> str:
    """The output of a run in which one test has an error and the other passes."""
    result = inner.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=120)
    result.assert_outcomes(errors=1, passed=passed)
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    return result.stdout.str()


def test_a_compile_error_in_the_users_tree(inner: pytest.Pytester, tiny_tree: Path) -> None:
    (tiny_tree / "net/echo.c").write_text("int net_echo(int x)\n{\n\treturn y;\n}\n")
    said = run(inner, f"--kernel-source={tiny_tree}", passed=0)  # no other test begins
    assert "the kernel doesn't build" in said
    assert re.search(rf"{tiny_tree}/net/echo\.c:3:16: error: .y. undeclared", said)
    assert "return y;" in said


def test_no_kernel_tree(inner: pytest.Pytester, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    said = run(inner, f"--kernel-source={tmp_path / 'docs'}")
    assert "is no Linux source tree: it has no Makefile" in said


def test_an_old_kernel(inner: pytest.Pytester, tiny_tree: Path) -> None:
    makefile = tiny_tree / "Makefile"
    makefile.write_text(makefile.read_text().replace("VERSION = 6", "VERSION = 4", 1))
    said = run(inner, f"--kernel-source={tiny_tree}")
    assert "is Linux 4.1.999; the overlay needs 6.1 or newer" in said


def test_no_such_symbol(inner: pytest.Pytester, tiny_tree: Path) -> None:
    inner.makepyfile(
        "import pytest\n"
        "@pytest.mark.kernel(config={'NET_FORBIDEN': 'y'})\n"
        "def test_kernel(kernel): pass\n"
        "def test_plain(): pass\n"
    )
    said = run(inner, f"--kernel-source={tiny_tree}")
    assert "CONFIG_NET_FORBIDEN does not exist in this tree; did you mean NET_FORBIDDEN?" in said


def test_a_full_disk(inner: pytest.Pytester, tiny_tree: Path, own_cache: Path) -> None:
    """A tmpfs of 200 KiB, which this run alone sees."""
    own_cache.mkdir()
    mount = f"mount -t tmpfs -o size=200k none {own_cache} && exec "
    inside = ["unshare", "-Urm", "sh", "-c"]
    if subprocess.run([*inside, f"{mount} true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody mount in a namespace of his own")
    (tiny_tree / "slowly").write_text("head -c 1M /dev/zero > big")
    (tiny_tree / "Makefile").write_text(
        (tiny_tree / "Makefile").read_text().replace('@sh -c "$$(cat slowly)"', "sh slowly")
    )
    command = (
        f"{shlex.quote(sys.executable)} -m pytest -p no:cacheprovider --kernel-source={tiny_tree}"
    )
    done = subprocess.run(
        [*inside, mount + command], cwd=inner.path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "1 passed, 1 error" in done.stdout
    assert "the disk of the cache is full" in done.stdout
    assert "set ANYKERNEL_CACHE to a folder elsewhere" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
