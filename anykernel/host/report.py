# SPDX-License-Identifier: GPL-2.0
"""CrashReport: what is known of a kernel's end, symbolised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.host.process import Host

KINDS = {
    1: "panic",
    2: "oops",
    3: "oops",
    4: "stack overflow",
    5: "lockup",
    6: "sandbox",
    7: "halt",
    8: "stub",
}
REGISTERS = [
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "flags",
    "error",
]
WRITE = 2  # in a page fault's error code
SHOWN_FRAMES = 24
SHOWN_LOG = 25


@dataclass(frozen=True)
class CrashReport:
    """How a kernel died.

    kind: 'panic' (also BUG), 'oops' (a bad access or instruction), 'wild write', 'stack
    overflow', 'lockup', 'sandbox', 'halt', 'stub'.  frames: 'function+0x12 (file.c:34)', the
    innermost first.
    """

    name: str
    """Which kernel of several; or empty."""
    kind: str
    what: str
    address: int
    ip: int
    registers: dict[str, int]
    pid: int
    comm: str
    time_ns: int
    frames: tuple[str, ...]
    log: tuple[str, ...]

    @classmethod
    def read(cls, host: Host, index: int) -> CrashReport:
        from anykernel.link.symbols import Symbols

        part = host.border.part(index)
        s, place = part.death(), part.place
        values = dict(zip(REGISTERS, s.registers, strict=True))
        kind = KINDS[s.kind]
        if kind == "oops" and values["error"] & WRITE and s.address > 4096:
            kind = "wild write"
        symbols = Symbols.of(host.image.vmlinux)
        addresses = symbols.unwind(s.ip, s.bp, s.stack, s.stack_from, place.image, place.image_end)
        # The host's own frames, from which panic() left, say nothing.
        frames = [symbols.describe(a - place.image) for a in addresses]
        text = part.console(0)[1].decode(errors="replace")
        return cls(
            name=host.names.get(index, ""),
            kind=kind,
            what=s.what,
            address=s.address,
            ip=s.ip,
            registers=values | {"ip": s.ip, "sp": s.sp, "bp": s.bp},
            pid=s.pid,
            comm=s.comm,
            time_ns=part.now,
            frames=tuple(f for f in frames if f),
            log=tuple(text.splitlines()[-SHOWN_LOG:]),
        )

    def render(self) -> str:
        """The report as text, for people."""
        which = f"the kernel of node {self.name}" if self.name else "the kernel"
        lines = [f"{which} crashed: {self.kind}: {self.what}"]
        if self.kind in ("oops", "wild write", "stack overflow"):
            lines.append(f"  at address {self.address:#x}, ip {self.ip:#x}")
        lines.append(
            f"  task {self.comm!r} (pid {self.pid}), {self.time_ns / 1e9:.9f} s after boot"
        )
        if self.frames:
            lines.append("stack (innermost first):")
            lines += [f"  {frame}" for frame in self.frames[:SHOWN_FRAMES]]
            if len(self.frames) > SHOWN_FRAMES:
                lines.append(f"  ... and {len(self.frames) - SHOWN_FRAMES} more")
        if self.log:
            lines.append("last lines of the kernel's log:")
            lines += [f"  {line}" for line in self.log]
        return "\n".join(lines)
