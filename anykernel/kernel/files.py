# SPDX-License-Identifier: GPL-2.0
"""File calls of the kernel that mirror Python's os module."""

from __future__ import annotations

import errno
import os
import stat as pystat
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import abi
from anykernel.kernel.call import Plan, Request, operation, request
from anykernel.kernel.processes import ProcessCalls

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

HERE = (1 << 64) - 100
"""AT_FDCWD."""
MOST = 1 << 20
STAT_SIZE = 144
DIRENT = struct.Struct("=QqHB")
READ, WRITE, PREAD, PWRITE, OPENAT, CLOSE, NEWFSTATAT = (
    NUMBERS[n] for n in ("read", "write", "pread64", "pwrite64", "openat", "close", "newfstatat")
)


class DirEntry:
    """An entry of scandir(): name, path, is_dir(), is_file(), is_symlink(), inode(), stat()."""

    def __init__(self, files: Files, folder: str, name: str, inode: int, kind: int) -> None:
        self.name = name
        self.path = f"{folder.rstrip('/')}/{name}" if folder != "." else name
        self._files, self._inode, self._kind = files, inode, kind

    def __repr__(self) -> str:
        return f"<DirEntry {self.name!r}>"

    def __fspath__(self) -> str:
        return self.path

    def inode(self) -> int:
        return self._inode

    def stat(self, *, follow_symlinks: bool = True) -> abi.StatResult:
        return self._files.stat(self.path, follow_symlinks=follow_symlinks)

    def _is(self, kind: int, follow: bool) -> bool:
        if self._kind and not (self._kind == 10 and follow):
            return self._kind == kind >> 12
        try:
            return pystat.S_IFMT(self.stat(follow_symlinks=follow).st_mode) == kind
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(pystat.S_IFDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(pystat.S_IFREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._is(pystat.S_IFLNK, False)


class Files(ProcessCalls):
    """`kernel.os`: functions of Python's os module, executed by the kernel under test.

    Paths are str, bytes or path-like; errors are OSError with the path as filename.
    """

    def __init__(self, process: Process) -> None:
        self.process = process

    def _on(self, name: str, *args: Any) -> int:
        """One system call; str arguments are paths, the first of which errors name."""
        paths = [arg for arg in args if isinstance(arg, str | bytes | os.PathLike)]
        plain = [os.fsdecode(a) if isinstance(a, bytes | os.PathLike) else a for a in args]
        if any("\0" in path for path in plain if isinstance(path, str)):
            raise ValueError("embedded null byte")
        try:
            return self.process.syscall(name, *plain)
        except OSError as error:
            if error.errno is None or not paths:
                raise
            second = (None, paths[1]) if len(paths) > 1 else ()
            raise OSError(error.errno, error.strerror, paths[0], *second) from None

    # Descriptors

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        return self._on("openat", HERE, path, flags, mode)

    @operation
    def close(self, fd: int) -> Plan[None]:
        yield Request(CLOSE, (fd,))

    @operation
    def read(self, fd: int, n: int) -> Plan[bytes]:
        """At most `n` bytes (and at most 1 MiB), b"" at the end."""
        with self.process.memory() as memory:
            room = memory.new(min(n, MOST))
            got = yield Request(READ, (fd, room.address, min(n, MOST)))
            return bytes(room.view[:got])

    @operation
    def readinto(self, fd: int, buffer: Any) -> Plan[int]:
        """Reads into a writable buffer; returns the number of bytes."""
        view = memoryview(buffer).cast("B")
        with self.process.memory() as memory:
            size = min(len(view), MOST)
            room = memory.new(size)
            got = yield Request(READ, (fd, room.address, size))
            view[:got] = room.view[:got]
        return got

    @operation
    def write(self, fd: int, data: Any) -> Plan[int]:
        """Writes at most 1 MiB of `data`; returns the number of bytes."""
        view = memoryview(data).cast("B")[:MOST]
        with self.process.memory() as memory:
            return (yield Request(WRITE, (fd, memory.put(view), len(view))))

    @operation
    def pread(self, fd: int, n: int, offset: int) -> Plan[bytes]:
        with self.process.memory() as memory:
            room = memory.new(min(n, MOST))
            got = yield Request(PREAD, (fd, room.address, min(n, MOST), offset))
            return bytes(room.view[:got])

    @operation
    def pwrite(self, fd: int, data: Any, offset: int) -> Plan[int]:
        view = memoryview(data).cast("B")[:MOST]
        with self.process.memory() as memory:
            return (yield Request(PWRITE, (fd, memory.put(view), len(view), offset)))

    def lseek(self, fd: int, position: int, whence: int = 0) -> int:
        return self.process.syscall("lseek", fd, position, whence)

    def fsync(self, fd: int) -> None:
        self.process.syscall("fsync", fd)

    def sync(self) -> None:
        self.process.syscall("sync")

    def ftruncate(self, fd: int, length: int) -> None:
        self.process.syscall("ftruncate", fd, length)

    def dup(self, fd: int) -> int:
        return self.process.syscall("dup", fd)

    def dup2(self, fd: int, fd2: int) -> int:
        return self.process.syscall("dup2", fd, fd2)

    def pipe(self, flags: int = 0) -> tuple[int, int]:
        """(read end, write end)"""
        pair = bytearray(8)
        self.process.syscall("pipe2", pair, flags)
        read, write = struct.unpack("=ii", pair)
        return read, write

    def fcntl(self, fd: int, command: int, argument: Any = 0) -> int:
        """As fcntl.fcntl; a bytearray as argument is updated."""
        return self.process.syscall("fcntl", fd, command, argument)

    def ioctl(self, fd: int, command: int, argument: Any = 0) -> int:
        """As fcntl.ioctl; a bytearray as argument is updated."""
        return self.process.syscall("ioctl", fd, command, argument)

    def set_blocking(self, fd: int, blocking: bool) -> None:
        flags = self.fcntl(fd, 3) & ~os.O_NONBLOCK
        self.fcntl(fd, 4, flags if blocking else flags | os.O_NONBLOCK)

    # Names

    def stat(
        self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> abi.StatResult:
        """Of a path or a descriptor."""
        if isinstance(path, int):
            return self.fstat(path)
        raw = bytearray(STAT_SIZE)
        where = HERE if dir_fd is None else dir_fd
        self._stat(where, path, raw, 0 if follow_symlinks else 0x100)
        return abi.unpack_stat(raw)

    def _stat(self, where: int, path: Any, raw: bytearray, flags: int) -> None:
        self._on("newfstatat", where, path, raw, flags)

    def lstat(self, path: Any) -> abi.StatResult:
        return self.stat(path, follow_symlinks=False)

    def fstat(self, fd: int) -> abi.StatResult:
        raw = bytearray(STAT_SIZE)
        self.process.syscall("fstat", fd, raw)
        return abi.unpack_stat(raw)

    def exists(self, path: Any) -> bool:
        """Like os.path.exists."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def isdir(self, path: Any) -> bool:
        """Like os.path.isdir."""
        return self.exists(path) and pystat.S_ISDIR(self.stat(path).st_mode)

    def access(self, path: Any, mode: int) -> bool:
        try:
            self._on("faccessat", HERE, path, mode)
        except OSError:
            return False
        return True

    def mkdir(self, path: Any, mode: int = 0o777) -> None:
        self._on("mkdir", path, mode)

    def makedirs(self, name: Any, mode: int = 0o777, exist_ok: bool = False) -> None:
        path = os.fsdecode(name)
        parent = os.path.dirname(path.rstrip("/"))
        if parent and parent != path and not self.exists(parent):
            self.makedirs(parent, exist_ok=True)
        try:
            self.mkdir(path, mode)
        except FileExistsError:
            if not exist_ok or not self.isdir(path):
                raise

    def rmdir(self, path: Any) -> None:
        self._on("rmdir", path)

    def unlink(self, path: Any) -> None:
        self._on("unlink", path)

    remove = unlink

    def rename(self, src: Any, dst: Any) -> None:
        self._on("rename", src, dst)

    replace = rename

    def link(self, src: Any, dst: Any) -> None:
        self._on("link", src, dst)

    def symlink(self, src: Any, dst: Any) -> None:
        self._on("symlink", src, dst)

    def readlink(self, path: Any) -> str:
        room = bytearray(4096)
        size = self._on("readlink", path, room, len(room))
        return os.fsdecode(bytes(room[:size]))

    def chmod(self, path: Any, mode: int) -> None:
        self._on("chmod", path, mode)

    def chown(self, path: Any, uid: int, gid: int) -> None:
        self._on("chown", path, uid, gid)

    def mknod(self, path: Any, mode: int = 0o600, device: int = 0) -> None:
        self._on("mknod", path, mode, device)

    def mkfifo(self, path: Any, mode: int = 0o666) -> None:
        self.mknod(path, pystat.S_IFIFO | mode)

    def truncate(self, path: Any, length: int) -> None:
        self._on("truncate", path, length)

    def utime(self, path: Any, times: tuple[float, float]) -> None:
        packed = b"".join(abi.pack_timespec(time) for time in times)
        with self.process.memory() as memory:
            self._on("utimensat", HERE, path, memory.put(packed), 0)

    def chdir(self, path: Any) -> None:
        self._on("chdir", path)

    def getcwd(self) -> str:
        room = bytearray(4096)
        size = self.process.syscall("getcwd", room, len(room))
        return os.fsdecode(bytes(room[: size - 1]))

    def scandir(self, path: Any = ".") -> Iterator[DirEntry]:
        """The entries of a directory, without . and .., in the kernel's order."""
        folder = os.fsdecode(path)
        fd = self.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            while raw := self.process.run(self._entries(fd)):
                yield from self._parsed(folder, raw)
        finally:
            self.close(fd)

    def _entries(self, fd: int) -> Plan[bytes]:
        with self.process.memory() as memory:
            room = memory.new(1 << 15)
            got = yield from request(NUMBERS["getdents64"], fd, room.address, 1 << 15)
            return bytes(room.view[:got])

    def _parsed(self, folder: str, raw: bytes) -> Iterator[DirEntry]:
        at = 0
        while at < len(raw):
            inode, _, length, kind = DIRENT.unpack_from(raw, at)
            if length < DIRENT.size:
                raise OSError(errno.EIO, "getdents64 gave an entry of impossible length")
            name = os.fsdecode(raw[at + DIRENT.size : at + length].split(b"\0")[0])
            if name not in (".", ".."):
                yield DirEntry(self, folder, name, inode, kind)
            at += length

    def listdir(self, path: Any = ".") -> list[str]:
        return [entry.name for entry in self.scandir(path)]

    def mount(
        self, source: str, target: str, fstype: str, flags: int = 0, options: str = ""
    ) -> None:
        """Mounts a file system: ``kernel.os.mount("none", "/mnt", "tmpfs")``."""
        try:
            self.process.syscall("mount", source, target, fstype, flags, options)
        except OSError as error:
            raise OSError(error.errno, error.strerror, target) from None

    def umount(self, target: str, flags: int = 0) -> None:
        self._on("umount2", target, flags)
