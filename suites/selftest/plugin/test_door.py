# SPDX-License-Identifier: GPL-2.0
"""The plugin costs nothing for tests that use no kernel."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("drgn", "cffi", "_cffi_backend", "scapy", "hypothesis", "pyroute2", "rich", "click")


def test_without_kernel_tests_nothing_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_plain(request):\n"
        "    assert request.config.pluginmanager.hasplugin('anykernel-fixtures')\n"
        f"    assert [name for name in {HEAVY!r} if name in sys.modules] == []\n"
        "    ours = {name for name in sys.modules if name.startswith('anykernel.')}\n"
        "    assert all(name.startswith('anykernel.plugin') for name in ours), ours\n"
    )
    # Other plugins of this environment may import what they like: only ours is loaded.
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "anykernel.plugin"),
            *("-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)),
        ],
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_importing_the_package_does_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import anykernel; "
        "assert set(sys.modules) - before == {'anykernel'}, set(sys.modules) - before"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_header_names_the_kernel(fake: pytest.Pytester) -> None:
    fake.makepyfile("def test_plain(): pass")
    fake.runpytest().stdout.fnmatch_lines(["anykernel: debian:6.1 default seed 0"])


def test_header_names_what_the_command_line_asks_for(fake: pytest.Pytester) -> None:
    fake.makepyfile("def test_plain(): pass")
    result = fake.runpytest("--kernel-source=/src/linux", "--kernel-seed=0x10")
    result.stdout.fnmatch_lines(["anykernel: /src/linux default seed 16"])
