# SPDX-License-Identifier: GPL-2.0
"""The shared memory's layout, read from the host program's own header."""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from cffi import FFI

from anykernel.errors import AnykernelError

OVERLAY = Path(__file__).resolve().parent.parent / "overlay"
HEADER = OVERLAY / "host" / "protocol.h"
COMMAND = struct.Struct("<4I2Q6QqQ")
"""struct hk_command, checked against the header in load()."""
FRAME = struct.Struct("<QIHH")
"""struct hk_frame."""

CLIENT = """
int client_call(struct hk_header *h, uint32_t count, int64_t spin_ns, int64_t slice_ns);
int client_wait(struct hk_header *h, int64_t spin_ns, int64_t slice_ns);
int client_ready(struct hk_header *h, uint32_t kernels, int64_t slice_ns);
"""


class Protocol(NamedTuple):
    """The parsed header: its types for cffi, its numbers (macros and enums) by name."""

    ffi: Any
    n: SimpleNamespace


@lru_cache(maxsize=1)
def load() -> Protocol:
    """Parses protocol.h.  Raises AnykernelError when this module doesn't fit to it."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    numbers: dict[str, int] = {
        name: int(value, 0)
        for name, value in re.findall(r"^#define\s+(\w+)\s+(\w+)\s*$", text, flags=re.MULTILINE)
    }
    text = re.sub(r"^_Static_assert\b.*?;$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    for name, number in numbers.items():
        text = re.sub(rf"\b{name}\b", str(number), text)
    ffi = FFI()
    ffi.cdef(text + CLIENT)
    for enum in re.findall(r"\benum\s+(\w+)\s*\{", text):
        numbers.update(ffi.typeof(f"enum {enum}").relements)
    sizes = {"hk_command": COMMAND.size, "hk_frame": FRAME.size}
    for name, size in sizes.items():
        if ffi.sizeof(f"struct {name}") != size:
            raise AnykernelError(
                f"anykernel is damaged: struct {name} in {HEADER.name} has another size than "
                f"{Path(__file__).name} expects: install it anew"
            )
    return Protocol(ffi, SimpleNamespace(**numbers))
