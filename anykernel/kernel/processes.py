# SPDX-License-Identifier: GPL-2.0
"""Process calls of the kernel that mirror Python's os module."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

from anykernel.kernel.call import KeepsProcess


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
