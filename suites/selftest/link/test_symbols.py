# SPDX-License-Identifier: GPL-2.0
"""Addresses get the names and lines that binutils gives them; damaged stacks do no harm."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest

from anykernel.link.symbols import Symbols
from suites.selftest.host import fake

BASE, STACK = 0x2_0000_0000, 0x3_0000_0000


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.build(tmp_path_factory.mktemp("fake")).library


@pytest.fixture(scope="module")
def functions(library: Path) -> dict[str, tuple[int, int]]:
    """Address and size by name, by nm: the oracle."""
    lines = subprocess.check_output(["nm", "-S", library], text=True).splitlines()
    rows = [line.split() for line in lines]
    return {
        row[3]: (int(row[0], 16), int(row[1], 16))
        for row in rows
        if row[2:3] in (["t"], ["T"]) and len(row) == 4
    }


def test_functions(library: Path, functions: dict[str, tuple[int, int]]) -> None:
    symbols = Symbols(library)
    assert len(functions) > 10
    for name, (address, size) in functions.items():
        assert symbols.function(address) == (name, 0)
        assert symbols.function(address + size - 1) == (name, size - 1)


def test_lines(library: Path, functions: dict[str, tuple[int, int]]) -> None:
    symbols = Symbols(library)
    choose = random.Random(1)
    chosen = [start + choose.randrange(size) for start, size in functions.values()]
    said = subprocess.check_output(
        ["addr2line", "-f", "-i", "-p", "-e", library, *(hex(address) for address in chosen)],
        text=True,
    )
    # "inner at file.c:1\n (inlined by) outer at file.c:2": the innermost first.
    blocks = said.strip().replace("\n (inlined by) ", " <- ").splitlines()
    for address, block in zip(chosen, blocks, strict=True):
        found = [f"{name} {line.rpartition('/')[2]}" for name, line in symbols.lines(address)]
        rows = [row.split(" (discriminator")[0].split(" at ") for row in block.split(" <- ")]
        wanted = [f"{name} {line.rpartition('/')[2]}" for name, line in rows][::-1]
        assert found == wanted or (not found and "?" in block)


def test_nothing_is_there(library: Path) -> None:
    symbols = Symbols(library)
    for offset in (0, 0x100, 0x7000_0000, -1):
        assert symbols.function(offset) is None
        assert symbols.describe(offset) == ""
        assert symbols.lines(offset) == []


def test_description(library: Path, functions: dict[str, tuple[int, int]]) -> None:
    text = Symbols(library).describe(functions["lib_init"][0] + 4)
    name, _, where = text.partition(" ")
    assert name == "lib_init+0x4"
    assert where.startswith("(") and "fakekernel.c:" in where


def unwind(library: Path, bp: int, stack: bytes, ip: int = BASE + 0x800) -> list[int]:
    return Symbols(library).unwind(ip, bp, stack, STACK, BASE, BASE + 0x10000)


def test_unwinding_follows_frames(library: Path) -> None:
    stack = struct.pack("<6Q", 0, STACK + 24, BASE + 0x900, STACK + 24, 0, BASE + 0xA00)
    assert unwind(library, STACK + 8, stack)[:2] == [BASE + 0x800, BASE + 0x8FF]


@pytest.mark.parametrize("bp", [0, STACK, STACK - 8, STACK + 3, STACK + 100, 1 << 63])
def test_frames_that_go_nowhere(library: Path, bp: int) -> None:
    for stack in (b"", b"\0" * 7, b"\xff" * 64, struct.pack("<2Q", STACK, BASE + 0x900) * 4):
        assert len(unwind(library, bp, stack)) <= 3


def test_random_stacks(library: Path) -> None:
    choose = random.Random(2)
    for _ in range(300):
        words = [
            choose.choice([choose.getrandbits(64), STACK + 8 * choose.randrange(64), BASE + 0x900])
            for _ in range(64)
        ]
        assert len(unwind(library, words[0], struct.pack("<64Q", *words))) <= 200
