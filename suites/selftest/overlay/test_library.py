# SPDX-License-Identifier: GPL-2.0
"""The library itself: imports nothing, exports what its header says, embeds in any C program."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

ROOT = Path(__file__).resolve().parents[3]
OVERLAY = ROOT / "anykernel" / "overlay"


def output(*argv: object) -> str:
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True).stdout


def test_imports_nothing(kernel: Kernel) -> None:
    assert output("nm", "-D", "--undefined-only", kernel.image.library) == ""


def test_exports_what_the_header_declares(kernel: Kernel) -> None:
    header = (OVERLAY / "include" / "liblinux.h").read_text()
    declared = set(re.findall(r"^LIB_EXPORT .*?\b(lib_\w+)\(", header, re.M))
    lines = output("nm", "-D", "--defined-only", kernel.image.library).splitlines()
    assert {line.split()[-1] for line in lines} == declared


def test_relocates_only_its_data(kernel: Kernel) -> None:
    dump = output("readelf", "-rW", kernel.image.library)
    kinds = set(re.findall(r"R_X86_64_\w+", dump))
    assert kinds == {"R_X86_64_RELATIVE"}
    assert "TEXTREL" not in output("readelf", "-dW", kernel.image.library)


def test_symbols_agree_with_the_stripped_library(kernel: Kernel) -> None:
    def build_id(path: Path) -> str:
        found = re.search(r"Build ID: (\w+)", output("readelf", "-nW", path))
        assert found is not None
        return found[1]

    assert build_id(kernel.image.library) == build_id(kernel.image.vmlinux)


def test_c_example_boots_and_is_pinged(kernel: Kernel, tmp_path: Path) -> None:
    program = tmp_path / "embed"
    source = ROOT / "anykernel" / "docs" / "embed.c"
    library = kernel.image.library
    found = f"-Wl,-rpath,{library.parent}"
    output("cc", "-Wall", f"-I{OVERLAY / 'include'}", source, library, found, "-o", program)
    assert output(program) == "echo reply from 10.0.0.1\n"
