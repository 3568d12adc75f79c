# SPDX-License-Identifier: GPL-2.0
"""Unpacking tarballs that nobody vouches for: nothing is written outside of a folder, nothing in
it leads outside, and there are no devices."""

from __future__ import annotations

import contextlib
import errno
import lzma
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from anykernel import proc
from anykernel.errors import SourceError

if not hasattr(tarfile, "data_filter"):  # before Python 3.11.4
    from backports import tarfile  # type: ignore[no-redef]

PROGRAMS = {".xz": "xz", ".txz": "xz", ".zst": "zstd"}
"""What unpacks as fast as files are written, or at all."""
WRONG = (
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
)
"""What Python says of archives that are none."""
BLOCK = 512
"""Of zeros: the end of an archive."""
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE)


def unpack(archive: Path, to: Path, *, strip: bool) -> None:
    """Unpacks a tarball into the new folder `to`; strip: without its topmost folder.

    Raises SourceError, ToolError, and OSError of a full disk.
    """
    if archive.suffix == ".tar":
        with archive.open("rb") as file:
            file.seek(-min(BLOCK, archive.stat().st_size), os.SEEK_END)
            if file.read() != bytes(BLOCK):  # Python takes it for whole if a member ends there
                raise SourceError(f"{archive} can't be unpacked; it may be cut off or no tarball")
    with _opened(archive) as file:
        extract(file, to, archive.name, strip=strip)


def extract(file: IO[bytes], to: Path, shown: str, *, strip: bool, mode: str = "r|*") -> None:
    """The same of an open file or pipe; errors name `shown`."""
    to.mkdir()
    try:
        with tarfile.open(fileobj=file, mode=mode) as members:  # type: ignore[call-overload]
            for member in members:
                _member(members, member, to, strip=strip)
    except OSError as error:
        if error.errno in OF_THE_DISK:
            raise
        raise _unfit(shown, error) from error
    except WRONG as error:
        raise _unfit(shown, error) from error


def _unfit(shown: str, error: Exception) -> SourceError:
    return SourceError(f"{shown} can't be unpacked; it may be cut off or no tarball:\n{error}")


def _member(members: Any, member: Any, to: Path, *, strip: bool) -> None:
    named = [member.name, member.linkname] if member.islnk() else [member.name]
    if any(name.startswith("/") or ".." in PurePosixPath(name).parts for name in named):
        raise tarfile.TarError(f"{member.name!r} names a place outside")
    changed = {"name": _stripped(member.name) if strip else member.name}
    if not changed["name"]:
        return
    if member.islnk() and strip:
        changed["linkname"] = _stripped(member.linkname)
    member = member.replace(**changed, deep=False)
    member = tarfile.data_filter(member, str(to))
    if member is None:
        return
    for name in [member.name, member.linkname] if member.islnk() else [member.name]:
        _no_link(to, name)
    place = to / member.name
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        place.unlink()  # of the same name: what comes last counts
    members.extract(member, to, set_attrs=not member.isdir(), filter="fully_trusted")


def _stripped(name: str) -> str:
    return "/".join(PurePosixPath(name).parts[1:])


def _no_link(to: Path, name: str) -> None:
    """Raises TarError for a name behind a link: no source has such, and links of links have led
    out of Python's filter."""
    for folder in PurePosixPath(name).parents:
        if (to / folder).is_symlink():
            raise tarfile.TarError(f"{name!r} is behind a link")


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """The archive, or what a program unpacks of it."""
    program = PROGRAMS.get(archive.suffix)
    if program is None:
        with archive.open("rb") as file:
            yield file
        return
    with pipe([program, "-dc", str(archive)]) as file:
        yield file


@contextlib.contextmanager
def pipe(argv: list[str]) -> Iterator[IO[bytes]]:
    """What a program writes.  Raises SourceError when it fails, ToolError when it isn't there."""
    if shutil.which(argv[0]) is None:
        raise proc.missing(argv[0])
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            yield process.stdout
            process.stdout.read()  # what is behind the last member
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise SourceError(f"{argv[-1]} can't be unpacked; it may be cut off or no tarball:\n{said}")
