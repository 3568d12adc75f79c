# SPDX-License-Identifier: GPL-2.0
"""The C parts: compiled into the cache on first use, and seen through cffi."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.errors import ToolError

OVERLAY = Path(__file__).resolve().parent.parent / "overlay"
PROTOCOL = OVERLAY / "host" / "protocol.h"
# Lazy binding would run ld.so on a kernel's stack and leave bytes there that differ between runs.
LINKED_NOW = ["-Wl,-z,now"]
# A crash is unwound through our frames, too.
FLAGS = ["-O2", "-g", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-std=gnu11"]
C_COMPILER = ["cc", *FLAGS, f"-I{OVERLAY / 'host'}", f"-I{OVERLAY / 'include'}"]
MAPPED = "1"
"""Of the flags of _maps()."""
C_HINT = "apt-get install gcc libc6-dev"


def compiled(
    name: str,
    argv: list[str],
    inputs: Sequence[Path],
    depends: Sequence[Path],
    *,
    libraries: Sequence[str] = (),
    hint: str = "",
) -> Path:
    """The file `name` that ``ARGV INPUTS LIBRARIES -o FILE`` makes, in the cache.

    argv: the compiler and flags.  depends: what else the result comes from, headers.  hint:
    what to install where the compiler isn't.  Raises ToolError, CacheError.
    """
    # Paths of ours differ between checkouts, and mean the same.
    known = [flag for flag in [*argv, *libraries] if not flag.startswith(f"-I{OVERLAY}")]
    digest = hashlib.sha256(repr([name, MAPPED, *known]).encode())
    for path in [*inputs, *depends]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())

    def build(folder: Path) -> tuple[dict[str, Any], list[str]]:
        out = folder / name
        command = [*argv, *_maps(inputs, folder), *map(str, inputs), *libraries, "-o", str(out)]
        env = proc.environment(proc.clean())
        try:
            done = subprocess.run(
                command, cwd=folder, env=env, capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise ToolError(f"there is no compiler ({argv[0]})", argv=command, hint=hint) from None
        if done.returncode:
            if "No space left" in done.stderr:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
            raise ToolError(
                f"{name} doesn't compile",
                argv=command,
                returncode=done.returncode,
                tail=done.stderr[-2000:],
            )
        out.chmod(0o755)
        return {"program": name}, [name]

    return cache.make("host", digest.hexdigest()[:16], build).path / name


def _maps(inputs: Sequence[Path], folder: Path) -> list[str]:
    """Flags with which the result is the same wherever its sources and the cache lie."""
    folders = {path.parent for path in inputs if not path.is_relative_to(OVERLAY)}
    maps = {str(OVERLAY): OVERLAY.name, **{str(one): one.name for one in sorted(folders)}}
    return [f"-ffile-prefix-map={old}={new}" for old, new in maps.items()] + [
        f"-fdebug-prefix-map={os.path.realpath(folder)}=."
    ]


def headers() -> list[Path]:
    """What our C includes."""
    return sorted((OVERLAY / "host").glob("*.h")) + sorted((OVERLAY / "include").glob("*.h"))


def _compile(name: str, folder: str, extra: list[str]) -> Path:
    """The program or library `name` from all .c files of overlay/`folder`."""
    sources = sorted((OVERLAY / folder).glob("*.c"))
    return compiled(name, [*C_COMPILER, *extra], sources, headers(), hint=C_HINT)


def host_program() -> Path:
    """anykernel-host.  Raises ToolError."""
    return _compile("anykernel-host", "host", LINKED_NOW)


@functools.cache
def header(path: Path) -> tuple[str, dict[str, int]]:
    """A header of plain structs for cffi's parser, and its numeric macros."""
    text = path.read_text()
    numbers = {
        name: int(value, 0)
        for name, value in re.findall(r"^#define (\w+) (0x[0-9a-f]+|\d+)", text, re.M)
    }
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"^_Static_assert.*$", "", text, flags=re.M)
    text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    text = re.sub(r"\[([A-Z]\w+)\]", lambda found: f"[{numbers[found[1]]}]", text)
    return text, numbers


@functools.cache
def client() -> tuple[Any, Any, Any]:
    """(ffi, library, constants of protocol.h as attributes).  Raises ToolError."""
    import types

    import cffi

    text, numbers = header(PROTOCOL)
    ffi = cffi.FFI()
    ffi.cdef(text)
    ffi.cdef(
        "int hk_wait(struct hk_header *h, struct hk_client *c, uint64_t slice_ns);"
        "int hk_call(struct hk_header *h, struct hk_client *c, uint32_t count, uint64_t slice_ns);"
        "void hk_go_on(struct hk_header *h);"
    )
    library = ffi.dlopen(str(_compile("libanykernel-client.so", "client", ["-shared", "-fPIC"])))
    names = dict(numbers)
    for enum in ("hk_op", "hk_status", "hk_call", "hk_crash", "hk_link_kind", "hk_verdict"):
        names.update(ffi.typeof(f"enum {enum}").relements)
    if ffi.sizeof("struct hk_command") != 96 or ffi.sizeof("struct hk_frame") != 24:
        raise ToolError("cffi and the C compiler disagree about protocol.h")
    return ffi, library, types.SimpleNamespace(**names)
