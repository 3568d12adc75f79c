# SPDX-License-Identifier: GPL-2.0
"""Debian's kernel sources through apt, in a configuration of our own: the system's package
lists and sources stay as they are, signatures are checked with the archive's keyring."""

from __future__ import annotations

import functools
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.errors import SourceError, ToolError, UsageError
from anykernel.settings import settings
from anykernel.source.tree import Tree, release_of
from anykernel.source.unpack import extract, pipe, unpack

Say = Callable[[str], None]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITES = ("bookworm", "trixie", "forky", "sid", "experimental")
SECURITY = ("bookworm-security", "trixie-security")
LISTS_STAY = 24 * 3600  # seconds before package lists are fetched anew


def fetch(spec: str, say: Say) -> Tree:
    """debian:SERIES (the newest of it, as first found; `anykernel cache clear` forgets) or
    debian:VERSION.  Raises UsageError, SourceError."""
    wanted = spec.removeprefix("debian:")
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?([~+.\w]*-[~+.\w]+)?", wanted):
        raise UsageError(
            f"{spec!r}: write debian:SERIES or debian:VERSION, as in debian:6.1 or debian:6.1.170-3"
        )
    known = cache.directory("sources") / f"debian-{wanted}.newest"
    if known.exists():
        entry = cache.load("sources", f"debian-{known.read_text()}")
        if entry:
            return _tree(entry, spec)
    entry = cache.load("sources", f"debian-{wanted}")
    if entry:
        return _tree(entry, spec)
    with cache.locked("apt", say), cache.explained(known):
        apt = Apt(say)
        package, version, source = apt.find(wanted)
    entry = cache.make(
        "sources", f"debian-{version}", lambda to: _get(apt, package, version, source, to, say), say
    )
    with cache.explained(known):
        known.write_text(version)
    return _tree(entry, spec)


def _tree(entry: cache.Entry, spec: str) -> Tree:
    return Tree(entry.path / "tree", entry.data["release"], spec, entry.path.name)


def _get(
    apt: Apt, package: str, version: str, source: bool, to: Path, say: Say
) -> tuple[dict[str, Any], list[str]]:
    say(f"downloading {package} {version}")
    (to / "download").mkdir()
    if source:
        apt.run("apt-get", "source", "--download-only", f"{package}={version}", cwd=to / "download")
        (description,) = (to / "download").glob("*.dsc")
        say(f"unpacking {package} {version}")
        proc.run(["dpkg-source", "--no-check", "-x", str(description), str(to / "tree")])
    else:
        apt.run("apt-get", "download", f"{package}={version}", cwd=to / "download")
        (deb,) = (to / "download").glob("*.deb")
        say(f"unpacking {package} {version}")
        with pipe(["dpkg-deb", "--fsys-tarfile", str(deb)]) as file:
            extract(file, to / "deb", deb.name, strip=False)
        (archive,) = (to / "deb/usr/src").glob("linux-source-*.tar.xz")
        unpack(archive, to / "tree", strip=True)
        shutil.rmtree(to / "deb")
    shutil.rmtree(to / "download")
    data = {"release": release_of(to / "tree"), "package": package, "spec": f"debian:{version}"}
    return data, ["tree/Makefile"]


class Apt:
    """apt with lists, cache and state in our cache."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._home = cache.directory("apt")
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self._home / folder).mkdir(parents=True, exist_ok=True)
        (self._home / "state/status").touch()
        (self._home / "apt.conf").write_text(
            f'Dir::Etc::SourceList "{self._home}/sources.list";\n'
            'Dir::Etc::SourceParts "/dev/null";\n'
            f'Dir::State "{self._home}/state";\n'
            f'Dir::State::status "{self._home}/state/status";\n'
            f'Dir::Cache "{self._home}/cache";\n'
            # Our folder may not be readable to apt's own user; signatures are checked anyway.
            'APT::Sandbox::User "root";\n'
            'APT::Get::Assume-Yes "true";\nAcquire::Languages "none";\n'
            'Acquire::Retries "3";\n'
        )
        self._stamp = self._home / "updated"

    def run(self, *argv: str, cwd: Path | None = None) -> str:
        """Raises SourceError with what apt said."""
        try:
            return proc.run(argv, cwd=cwd, env={"APT_CONFIG": str(self._home / "apt.conf")})
        except ToolError as error:
            if "No space left" in error.tail or "enough free space" in error.tail:
                raise OSError(28, "No space left on device", str(cwd or self._home)) from error
            if error.returncode is None:
                raise
            raise SourceError(
                f"apt can't fetch the kernel source:\n{error.tail}\n"
                "Check the network and the system's apt sources, set ANYKERNEL_MIRROR, or give a "
                "folder or a tarball as source"
            ) from error

    def find(self, wanted: str) -> tuple[str, str, bool]:
        """(package, version, whether it is a source package) of the newest that fits."""
        series = ".".join(wanted.split(".")[:2]).split("-")[0]
        self._update(sources=False)
        found = self._candidates(f"linux-source-{series}", "Packages", wanted)
        if found:
            return f"linux-source-{series}", found[-1], False
        self._update(sources=True)
        for package in (f"linux-{series}", "linux"):
            found = self._candidates(package, "Sources", wanted)
            if found:
                return package, found[-1], True
        there = sorted(set(self._all(f"linux-source-{series}")) | set(self._all("linux")))
        raise SourceError(
            f"Debian has no kernel source {wanted}; of {series} there are: "
            + (", ".join(v for v in there if v.startswith(series)) or "none")
        )

    def _all(self, package: str, kind: str = "") -> list[str]:
        lines = self.run("apt-cache", "madison", package).splitlines()
        fields = [[part.strip() for part in line.split("|")] for line in lines]
        return [f[1] for f in fields if len(f) == 3 and f[2].endswith(kind)]

    def _candidates(self, package: str, kind: str, wanted: str) -> list[str]:
        """Versions that are `wanted` or of its series, ascending."""
        exact = "-" in wanted
        versions = {
            v
            for v in self._all(package, kind)
            if (v == wanted if exact else re.match(rf"{re.escape(wanted)}[^\d]", v))
        }
        return sorted(versions, key=functools.cmp_to_key(_compare))

    def _update(self, *, sources: bool) -> None:
        text = "\n".join(self._lines("deb") + (self._lines("deb-src") if sources else [])) + "\n"
        listing = self._home / "sources.list"
        fresh = (
            self._stamp.exists()
            and time.time() - self._stamp.stat().st_mtime < LISTS_STAY
            and listing.exists()
            and listing.read_text() == text
        )
        if fresh:
            return
        self._say("fetching Debian's package lists")
        listing.write_text(text)
        self.run("apt-get", "update", "-q")
        self._stamp.touch()

    def _lines(self, kind: str) -> list[str]:
        if not KEYRING.exists():
            raise SourceError(
                f"{KEYRING} is missing, so signatures can't be checked; "
                "on Debian: apt-get install debian-archive-keyring"
            )
        main, security = mirrors()
        where = [(main, suite) for suite in SUITES]
        if security:
            where += [(security, suite) for suite in SECURITY]
        return [f"{kind} [signed-by={KEYRING}] {uri} {suite} main" for uri, suite in where]


def mirrors(etc: Path = Path("/etc/apt")) -> tuple[str, str | None]:
    """(archive, security archive or None), from our setting or the system's own sources."""
    chosen = settings().mirror
    if chosen:
        return chosen, None
    texts = [p.read_text(errors="replace") for p in sorted(etc.glob("sources.list.d/*.sources"))]
    lists = [etc / "sources.list", *sorted(etc.glob("sources.list.d/*.list"))]
    texts += [p.read_text(errors="replace") for p in lists if p.exists()]
    uris: list[str] = []
    for text in texts:
        text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
        for line in re.findall(r"^URIs:(.*)$", text, re.M):
            uris += line.split()
        uris += re.findall(r"^deb(?:-src)?\s+(?:\[[^\]]*\]\s+)?(\S+)", text, re.M)
    debian = [u.rstrip("/") for u in uris if re.search(r"debian(-security)?/?$", u)]
    main = next((u for u in debian if not u.endswith("security")), None)
    if main is None:
        raise SourceError(
            "this system's apt sources name no Debian archive; set ANYKERNEL_MIRROR to one, or "
            "give a folder, git:FOLDER@REVISION or a tarball as source"
        )
    return main, next((u for u in debian if u.endswith("security")), None)


def _compare(a: str, b: str) -> int:
    """Debian's order of versions."""
    if a == b:
        return 0
    import subprocess

    older = subprocess.run(["dpkg", "--compare-versions", a, "lt", b], check=False)
    return -1 if older.returncode == 0 else 1
