# SPDX-License-Identifier: GPL-2.0
"""What building and running kernels needs of a machine."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anykernel import cache
from anykernel.build.compile import ccache_refused
from anykernel.build.kbuild import unworkable
from anykernel.errors import AnykernelError
from anykernel.proc import PACKAGES
from anykernel.settings import settings
from anykernel.source.debian import KEYRING

TOOLS = (
    ("gcc", "compiles kernel and host"),
    ("ld", "links them"),
    ("make", "runs Kbuild"),
    ("flex", "Kconfig's lexer"),
    ("bison", "Kconfig's parser"),
    ("bc", "Kbuild's arithmetic"),
    ("ccache", "makes the second build fast"),
    ("xz", "unpacks sources"),
    ("tar", "unpacks sources"),
    ("apt-get", "fetches Debian's sources"),
    ("dpkg-source", "unpacks exact point releases"),
    ("patch", "applies Debian's changes to them"),
    ("perl", "runs scripts of the kernel's build"),
    ("git", "fetches git: sources"),
)
ROOM = 4 << 30
PR_GET_NO_NEW_PRIVS = 39


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    why: str = ""
    package: str = ""


def checks() -> Iterator[Check]:
    """All checks, each with what to do when it fails."""
    machine = platform.machine()
    yield Check("x86-64 Linux", machine == "x86_64", f"this machine is {machine}")
    for tool, purpose in TOOLS:
        found = shutil.which(tool) is not None
        package = "" if found else PACKAGES.get(tool, tool)
        yield Check(f"{tool} ({purpose})", found, f"package {PACKAGES.get(tool, tool)}", package)
    yield _header("stdio.h", "libc6-dev")
    yield _header("gelf.h", "libelf-dev")
    yield Check(
        "Debian's archive keyring (signatures)",
        KEYRING.exists(),
        "package debian-archive-keyring; needed for debian: sources",
        "debian-archive-keyring",
    )
    yield _room()
    if why := ccache_refused():
        yield Check(
            f"ccache's folder {settings().ccache_dir}",
            False,
            f"{why}: builds do without ccache; set CCACHE_DIR to another",
        )
    yield _seccomp()


def _header(name: str, package: str) -> Check:
    try:
        done = subprocess.run(
            ["gcc", "-E", "-"], input=f"#include <{name}>\n", text=True, capture_output=True
        )
        found = done.returncode == 0
    except FileNotFoundError:
        found = False
    return Check(f"header {name}", found, f"package {package}", "" if found else package)


def _room() -> Check:
    where = settings().cache_dir
    try:
        cache.directory("images")
    except AnykernelError as error:
        return Check(f"cache {where}", False, str(error))
    if why := unworkable(where):
        return Check(f"cache {where}", False, f"{why}; set ANYKERNEL_CACHE to another")
    free = shutil.disk_usage(where).free
    return Check(
        f"cache {where} ({free / 1e9:.0f} GB free)",
        free > ROOM,
        "a source tree with its build takes about 3 GB; set ANYKERNEL_CACHE",
    )


def _seccomp() -> Check:
    libc = ctypes.CDLL(None)
    usable = libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) >= 0
    status = Path("/proc/self/status").read_text()
    return Check(
        "seccomp (the sandbox)", usable and "Seccomp:" in status, "the host's kernel has none"
    )
