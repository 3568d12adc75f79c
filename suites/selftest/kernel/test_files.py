# SPDX-License-Identifier: GPL-2.0
"""Files and kernel.os behave like open() and os: every test runs on the machine's kernel too."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePosixPath

import pytest

from anykernel.kernel import Process


def test_read_and_write(system: Process, folder: PurePosixPath) -> None:
    path = folder / "file"
    with system.open(path, "w") as file:
        assert file.write("eins\nzwei\ndrei äöü\n") == 19
    with system.open(path) as file:
        assert file.readline() == "eins\n" and list(file) == ["zwei\n", "drei äöü\n"]
    with system.open(path, "rb") as file:
        file.seek(-4, 2)
        assert file.read() == "öü\n".encode()[-4:] and file.tell() == 22
    with system.open(path, "a") as file:
        file.write("vier")
    assert system.read_text(path).endswith("ü\nvier")
    with system.open(path, "r+b") as file:
        file.write(b"EINS")
        file.truncate(4)
    assert system.read_bytes(path) == b"EINS"
    with pytest.raises(FileExistsError):
        system.open(path, "x")


def test_megabytes(system: Process, folder: PurePosixPath) -> None:
    data = os.urandom(1 << 20) * 3
    with system.open(folder / "big", "wb") as file:
        file.write(data)
    assert system.os.stat(folder / "big").st_size == len(data)
    assert system.read_bytes(folder / "big") == data


@pytest.mark.parametrize("mode", ["", "q", "rw", "rbt", "rr", "+"])
def test_bad_modes(system: Process, mode: str) -> None:
    with pytest.raises(ValueError, match="mode"):
        system.open("/", mode)


def test_wrong_use(system: Process, folder: PurePosixPath) -> None:
    with pytest.raises(ValueError, match="unbuffered"):
        system.open(folder / "x", "w", buffering=0)
    with pytest.raises(ValueError, match="encoding"):
        system.open(folder / "x", "wb", encoding="utf-8")
    with system.open(folder / "x", "wb") as file, pytest.raises(OSError, match="read"):
        file.read()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"")
    with pytest.raises(ValueError, match="null"):
        system.os.stat("a\0b")


def test_errors_name_the_file(system: Process, folder: PurePosixPath) -> None:
    missing = str(folder / "missing")
    with pytest.raises(FileNotFoundError) as caught:
        system.open(missing)
    assert caught.value.filename == missing and caught.value.errno == errno.ENOENT
    with pytest.raises(IsADirectoryError):
        system.open(folder, "w")
    with pytest.raises(FileNotFoundError) as caught:
        system.os.rename(missing, missing + "2")
    assert caught.value.filename2 == missing + "2"


def test_names(system: Process, folder: PurePosixPath) -> None:
    k = system.os
    k.makedirs(folder / "a/b/c")
    k.makedirs(folder / "a/b/c", exist_ok=True)
    with pytest.raises(FileExistsError):
        k.mkdir(folder / "a")
    system.write_text(folder / "a/file", "content")
    k.link(folder / "a/file", folder / "a/hard")
    k.symlink("file", folder / "a/soft")
    assert k.readlink(folder / "a/soft") == "file"
    assert k.stat(folder / "a/soft").st_size == 7
    assert stat.S_ISLNK(k.lstat(folder / "a/soft").st_mode)
    assert k.stat(folder / "a/file").st_nlink == 2
    assert sorted(k.listdir(folder / "a")) == ["b", "file", "hard", "soft"]
    kinds = {e.name: (e.is_dir(), e.is_file(), e.is_symlink()) for e in k.scandir(folder / "a")}
    assert kinds["b"] == (True, False, False)
    assert kinds["file"] == (False, True, False)
    assert kinds["soft"] == (False, True, True)
    with pytest.raises(OSError) as caught:
        k.rmdir(folder / "a")
    assert caught.value.errno == errno.ENOTEMPTY
    k.rename(folder / "a/hard", folder / "moved")
    k.unlink(folder / "moved")
    assert not k.exists(folder / "moved") and k.isdir(folder / "a/b")
    k.rmdir(folder / "a/b/c")


def test_modes_sizes_times(system: Process, folder: PurePosixPath) -> None:
    k = system.os
    path = folder / "file"
    system.write_text(path, "12345")
    k.chmod(path, 0o640)
    assert stat.S_IMODE(k.stat(path).st_mode) == 0o640
    k.truncate(path, 3)
    assert system.read_text(path) == "123"
    k.utime(path, (1, 1234567890.5))
    assert k.stat(path).st_mtime_ns == 1234567890_500000000
    assert k.access(path, os.R_OK) and not k.access(folder / "no", os.F_OK)
    k.mkfifo(folder / "fifo")
    assert stat.S_ISFIFO(k.stat(folder / "fifo").st_mode)


def test_a_file_that_is_not_closed_is_closed_later(system: Process, folder: PurePosixPath) -> None:
    system.open(folder / "file", "w").write("flushed")
    assert len(system.orphans) == 1
    assert system.read_text(folder / "file") == "flushed"
    assert not system.orphans
    before = len(system.os.listdir("/proc/self/fd"))
    for mode in ("rb", "r+b", "r", "ab"):
        system.open(folder / "file", mode)
    system.open(folder / "file", "rb", buffering=0)
    system.open(folder / "file", "r").detach().detach()
    system.os.getpid()
    assert len(system.os.listdir("/proc/self/fd")) == before


def test_descriptors(system: Process, folder: PurePosixPath) -> None:
    k = system.os
    fd = k.open(folder / "file", os.O_RDWR | os.O_CREAT, 0o600)
    assert k.write(fd, b"0123456789") == 10
    assert k.pread(fd, 3, 5) == b"567" and k.pwrite(fd, b"xx", 8) == 2
    assert k.lseek(fd, 0, 0) == 0 and k.read(fd, 100) == b"01234567xx"
    assert k.fstat(fd).st_size == 10
    k.ftruncate(fd, 1)
    other = k.dup(fd)
    k.close(fd)
    k.dup2(other, fd)
    assert k.pread(fd, 9, 0) == b"0"
    k.close(other)
    k.close(fd)
    with pytest.raises(OSError) as caught:
        k.close(fd)
    assert caught.value.errno == errno.EBADF


def test_pipes(system: Process) -> None:
    k = system.os
    read, write = k.pipe()
    k.set_blocking(read, False)
    with pytest.raises(BlockingIOError):
        k.read(read, 1)
    k.set_blocking(read, True)
    call = system.submit(k.read, read, 10)
    assert not call.done()
    k.write(write, b"data")
    assert call.result() == b"data"
    k.close(write)
    assert k.read(read, 1) == b""
    k.close(read)


def test_the_process(system: Process) -> None:
    k = system.os
    assert k.getpid() > 0 and k.getcwd().startswith("/")
    uname = k.uname()
    assert uname.sysname == "Linux" and uname.release[0].isdigit()
    assert len(k.urandom(16)) == 16
    with pytest.raises(ProcessLookupError):
        k.kill(2**22 + 1, 0)
    with pytest.raises(ChildProcessError):
        k.waitpid(2**22 + 1)


def test_raw_system_calls(system: Process, folder: PurePosixPath) -> None:
    path = str(folder / "raw")
    fd = system.syscall("open", path, os.O_CREAT | os.O_RDWR, 0o644)
    assert system.syscall("write", fd, b"abc", 3) == 3
    room = bytearray(8)
    assert system.syscall("pread64", fd, room, 8, 0) == 3
    assert room == b"abc\0\0\0\0\0"
    system.syscall("close", fd)
    with pytest.raises(OSError) as caught:
        system.syscall("uname", 8)
    assert caught.value.errno == errno.EFAULT
