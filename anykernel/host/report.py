# SPDX-License-Identifier: GPL-2.0
"""CrashReport: what is known of a kernel's end, symbolised."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel.host.syscalls import NUMBERS
from anykernel.link.stacks import shown
from anykernel.places import Place
from anykernel.visible import visible

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
NAMES = {number: name for name, number in NUMBERS.items()}
X32 = 0x40000000
WRITE = 2  # in a page fault's error code
SHOWN_FRAMES = 10
SHOWN_LOG = 25


def _nodes(what: str, names: Mapping[int, str]) -> str:
    """The host numbers kernels; of a network, they are nodes."""

    def name(found: re.Match[str]) -> str:
        known = names.get(int(found[1]))
        return f"node {known}" if known else found[0]

    return re.sub(r"\bkernel (\d{1,4})\b", name, what)


@dataclass(frozen=True)
class CrashReport:
    """How a kernel died.

    kind: 'panic' (also BUG), 'oops' (a bad access or instruction), 'wild write', 'stack
    overflow', 'lockup', 'sandbox', 'halt', 'stub'.  frames: 'function+0x12 (file.c:34)', the
    innermost first; '? function...' where the frame pointer is gone, and the stack holds what may
    be a return address.
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
    """Its last lines, of the present life: what a restore took back is not there."""
    tree: Path
    """Where the source lies, if it is there still."""
    places: tuple[Place, ...] = ()
    """The caller's lines of Python, the innermost first."""

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
        instances = host.instances
        loaded = instances[index].loaded if index < len(instances) else None

        def describe(address: int) -> str:
            own = loaded.describe(address) if loaded is not None else ""
            return own or symbols.describe(address - place.image)

        addresses = symbols.unwind(s.ip, s.bp, s.stack, s.stack_from, place.image, place.image_end)
        # The host's own frames, from which panic() left, say nothing.
        frames = [describe(a) for a in addresses]
        guessed = symbols.guess(s.bp, s.stack, s.stack_from, place.image, place.image_end)
        frames += [f and f"? {f}" for f in map(describe, guessed[:24])]
        text = host.said(index).decode(errors="replace")
        places = instances[index].life.died_at if index < len(instances) else ()
        return cls(
            name=host.names.get(index, ""),
            kind=kind,
            what=_nodes(_named(kind, s.what, s.address), host.names),
            address=s.address,
            ip=s.ip,
            registers=values | {"ip": s.ip, "sp": s.sp, "bp": s.bp},
            pid=s.pid,
            comm=s.comm,
            time_ns=part.now,
            frames=tuple(f for f in frames if f),
            log=tuple(text.splitlines()[-SHOWN_LOG:]),
            tree=host.image.tree,
            places=places,
        )

    def head(self) -> list[str]:
        """What happened, in lines."""
        which = f"the kernel of node {self.name}" if self.name else "the kernel"
        lines = [f"{which} crashed: {self.kind}: {self.what}"]
        when = f"  task {self.comm!r} (pid {self.pid}), {self.time_ns / 1e9:.9f} s after boot"
        if self.kind in ("oops", "wild write", "stack overflow"):
            when += f", at address {self.address:#x}"
        return [*lines, when]

    def summary(self) -> str:
        """What happened and where, on half a screen."""
        lines = self.head()
        if self.frames:
            lines.append("stack (innermost first):")
            lines += [f"  {frame}" for frame in shown(self.frames, self.tree, SHOWN_FRAMES)]
        return visible("\n".join(lines))

    def render(self) -> str:
        """All of it as text, for people."""
        lines = self.head()
        if self.frames:
            lines.append("stack (innermost first):")
            lines += [f"  {frame}" for frame in self.frames]
        if self.places:
            lines.append("called from:")
            lines += [f"  {place}: {place.source}" for place in self.places]
        if any(self.registers.values()):
            names = list(self.registers)
            lines.append("registers:")
            for start in range(0, len(names), 4):
                part = names[start : start + 4]
                lines.append("  " + "  ".join(f"{n:>5} {self.registers[n]:016x}" for n in part))
        if self.log:
            lines.append("last lines of the kernel's log:")
            lines += [f"  {line}" for line in self.log]
        return visible("\n".join(lines))


def _named(kind: str, what: str, number: int) -> str:
    """With the system call's name in place of its number, where it is x86-64's."""
    x32 = number & X32
    name = NAMES.get(number & ~X32)
    if kind != "sandbox" or name is None or "32-bit" in what:
        return what
    return what.replace(f"system call {number}", f"system call {name}{' (of x32)' if x32 else ''}")
