# SPDX-License-Identifier: GPL-2.0
"""struct tcp_info of the running kernel, whole: its fields are read from the kernel's own types."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anykernel import cache
from anykernel.link import debuginfo

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.kernel.sockets import Socket

IPPROTO_TCP, TCP_INFO = 6, 11
PREFIX = "tcpi_"
FORMAT = "1"


class Field(NamedTuple):
    """A member, in bits; all are unsigned."""

    name: str
    offset: int
    size: int

    def read(self, raw: bytes) -> int:
        value = int.from_bytes(raw[self.offset // 8 : (self.offset + self.size + 7) // 8], "little")
        return value >> self.offset % 8 & (1 << self.size) - 1


def tcp_info(sock: Socket) -> dict[str, int]:
    """Of a connection: {"snd_cwnd": segments, "rtt": us, "total_retrans": ...}."""
    fields = _fields(sock.process.kernel.image)
    most = max(field.offset + field.size for field in fields) // 8
    raw = sock.getsockopt(IPPROTO_TCP, TCP_INFO, most)
    return {field.name: field.read(raw) for field in fields}


def _fields(image: Image) -> tuple[Field, ...]:
    """Kept in the cache: to find a type takes a second."""
    key = hashlib.sha256("\0".join(["tcp_info", FORMAT, image.id]).encode()).hexdigest()[:16]

    def make(to: Path) -> tuple[dict[str, Any], list[str]]:
        with debuginfo.LOCK:
            kind = debuginfo.program(image.vmlinux).type("struct tcp_info")
            found = [
                (one.name, one.bit_offset, one.bit_field_size or 8 * debuginfo.plain(one.type).size)
                for one in kind.members
            ]
        (to / "fields.json").write_text(json.dumps(found))
        return {"base": image.id}, ["fields.json"]

    return _read(cache.make("code", key, make).path / "fields.json")


@functools.cache
def _read(path: Path) -> tuple[Field, ...]:
    rows = json.loads(path.read_text())
    return tuple(Field(name.removeprefix(PREFIX), at, size) for name, at, size in rows)
