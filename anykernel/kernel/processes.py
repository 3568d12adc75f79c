# SPDX-License-Identifier: GPL-2.0
"""Process calls of the kernel that mirror Python's os module."""

from __future__ import annotations

import os
import struct
from typing import Literal, NamedTuple

from anykernel.errors import UsageError
from anykernel.kernel.call import KeepsProcess

HANDLERS = {"default": 0, "ignore": 1, "catch": 0x1000}
"""SIG_DFL, SIG_IGN, and an address for a handler; nothing is ever called there."""
SA_RESTART = 0x10000000
SA_RESTORER = 0x04000000


class Uname(NamedTuple):
    sysname: str
    nodename: str
    release: str
    version: str
    machine: str


class ProcessCalls(KeepsProcess):
    """The part of `kernel.os` that is about processes."""

    def getpid(self) -> int:
        return self.process.syscall("getpid")

    def getppid(self) -> int:
        return self.process.syscall("getppid")

    def getuid(self) -> int:
        return self.process.syscall("getuid")

    def geteuid(self) -> int:
        return self.process.syscall("geteuid")

    def getgid(self) -> int:
        return self.process.syscall("getgid")

    def setuid(self, uid: int) -> None:
        self.process.syscall("setuid", uid)

    def setgid(self, gid: int) -> None:
        self.process.syscall("setgid", gid)

    def kill(self, pid: int, signal: int) -> None:
        self.process.syscall("kill", pid, signal)

    def sigaction(
        self, signum: int, action: Literal["default", "ignore", "catch"], *, restart: bool = False
    ) -> None:
        """What the process does with a signal, as sigaction(2).

        "catch" stands for a handler: the kernel interrupts the process's call for it and finds
        that it returned at once.  The call raises InterruptedError, or goes on with `restart`
        (SA_RESTART) where signal(7) has it so.  `Process.caught` lists what was caught.
        """
        if action not in HANDLERS:
            raise UsageError(f"action must be one of {', '.join(HANDLERS)}, not {action!r}")
        flags = SA_RESTORER | (SA_RESTART if restart else 0)
        new = struct.pack("=QQQQ", HANDLERS[action], flags, HANDLERS["catch"], 0)
        self.process.syscall("rt_sigaction", signum, new, None, 8)

    def umask(self, mask: int) -> int:
        return self.process.syscall("umask", mask)

    def unshare(self, flags: int) -> None:
        """New namespaces for this process (os.CLONE_NEWNET and so on)."""
        self.process.syscall("unshare", flags)

    def setns(self, fd: int, nstype: int = 0) -> None:
        self.process.syscall("setns", fd, nstype)

    def waitpid(self, pid: int, options: int = 0) -> tuple[int, int]:
        """(pid, status) of a child that ended; ChildProcessError when there is none."""
        status = bytearray(4)
        found = self.process.syscall("wait4", pid, status, options, None)
        return found, struct.unpack("=i", status)[0]

    def uname(self) -> Uname:
        raw = bytearray(6 * 65)
        self.process.syscall("uname", raw)
        fields = [bytes(raw[i * 65 : i * 65 + 65]).split(b"\0")[0].decode() for i in range(5)]
        return Uname(*fields)

    def urandom(self, size: int) -> bytes:
        """Bytes of the kernel's own random number generator."""
        room = bytearray(size)
        got = self.process.syscall("getrandom", room, size, 0)
        return bytes(room[:got])

    def strerror(self, code: int) -> str:
        return os.strerror(code)
