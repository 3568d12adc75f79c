# SPDX-License-Identifier: GPL-2.0
"""bpf(2): maps, and programs from their instructions."""

from __future__ import annotations

import os
import struct

from anykernel.kernel import Process

MAP_CREATE, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, PROG_LOAD = 0, 1, 2, 5
ARRAY, XSKMAP = 2, 17
SOCKET_FILTER, SCHED_CLS, XDP, CGROUP_SKB = 1, 3, 6, 8
LOOKUP = 1
"""The helper bpf_map_lookup_elem()."""


def insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """struct bpf_insn."""
    return struct.pack("=BBhi", code, dst | src << 4, off, imm)


def move(dst: int, imm: int) -> bytes:
    return insn(0xB7, dst, imm=imm)


def leave(value: int) -> bytes:
    return move(0, value) + insn(0x95)


def load_map(dst: int, fd: int) -> bytes:
    """BPF_LD_IMM64 of a map's address (BPF_PSEUDO_MAP_FD)."""
    return insn(0x18, dst, 1, imm=fd) + insn(0)


def count(fd: int) -> bytes:
    """Adds one to element 0 of an array of u64; keeps R6 to R9."""
    return (
        insn(0x62, 10, off=-4, imm=0)  # *(u32 *)(fp - 4) = 0
        + insn(0xBF, 2, 10)
        + insn(0x07, 2, imm=-4)
        + load_map(1, fd)
        + insn(0x85, imm=LOOKUP)
        + insn(0x15, 0, off=2, imm=0)  # if (!r0) skip two
        + move(1, 1)
        + insn(0xDB, 0, 1)  # lock *(u64 *)r0 += r1
    )


def _bpf(process: Process, command: int, attr: bytes) -> int:
    return process.syscall("bpf", command, attr, len(attr))


def new_map(process: Process, kind: int = ARRAY, value: int = 8, entries: int = 1) -> int:
    """Its descriptor."""
    return _bpf(process, MAP_CREATE, struct.pack("=IIIII", kind, 4, value, entries, 0))


def read(process: Process, fd: int, key: int = 0) -> int:
    """An element of an array of u64."""
    with process.memory() as memory:
        where, room = memory.put(struct.pack("=I", key)), memory.new(8)
        _bpf(process, MAP_LOOKUP_ELEM, struct.pack("=IxxxxQQQ", fd, where, room.address, 0))
        return int.from_bytes(room.view[:8], "little")


def load(process: Process, kind: int, code: bytes, attach: int = 0) -> int:
    """A program's descriptor.  Raises OSError with what the verifier said."""
    with process.memory() as memory:
        log = memory.new(1 << 16)
        attr = struct.pack(
            "=IIQQIIQII16sII", kind, len(code) // 8, memory.put(code), memory.put(b"GPL\0"), 1,
            1 << 16, log.address, 0, 0, b"program", 0, attach,
        )  # fmt: skip
        try:
            return _bpf(process, PROG_LOAD, attr)
        except OSError as error:
            said = bytes(log.view).split(b"\0")[0].decode()
            raise OSError(error.errno, f"{os.strerror(error.errno or 0)}: {said}") from error
