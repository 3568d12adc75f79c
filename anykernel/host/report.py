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

        s, ffi = host.kernel_struct(index), host.ffi
        values = {name: int(s.regs[i]) for i, name in enumerate(REGISTERS)}
        kind = KINDS.get(int(s.crash), "unknown")
        if kind == "oops" and values["error"] & WRITE and int(s.fault_address) > 4096:
            kind = "wild write"
        at = host.c.HK_KERNELS_AT + index * host.c.HK_KERNEL_SIZE
        end = at + host.c.HK_REPORT_SIZE
        copy = end - host.c.HK_STACK_COPY
        stack = bytes(host.view[copy : copy + int(s.stack_bytes)])
        symbols = Symbols.of(host.image.vmlinux)
        addresses = symbols.unwind(
            int(s.ip), int(s.bp), stack, int(s.stack_from), int(s.image_base), int(s.image_end)
        )
        # The host's own frames, from which panic() left, say nothing.
        frames = [symbols.describe(a - int(s.image_base)) for a in addresses]
        text = host.console_bytes(index, 0)[1].decode(errors="replace")
        return cls(
            name=host.names.get(index, ""),
            kind=kind,
            what=ffi.string(s.what).decode(errors="replace"),
            address=int(s.fault_address),
            ip=int(s.ip),
            registers=values | {"ip": int(s.ip), "sp": int(s.sp), "bp": int(s.bp)},
            pid=int(s.pid),
            comm=ffi.string(s.comm).decode(errors="replace"),
            time_ns=int(s.now),
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
