# SPDX-License-Identifier: GPL-2.0
"""An archive on disk behind an apt of shell, so that its answers can be chosen; packages and
dpkg are real."""

from __future__ import annotations

import subprocess
from pathlib import Path

from suites.selftest import tiny

APT_GET = """\
#!/bin/sh
echo "apt-get $*" >> {home}/log
cp "$APT_CONFIG" {home}/apt.conf
if [ -e {home}/fails ]; then cat {home}/fails; exit 100; fi
for last; do :; done
case "$1" in
  download) cp {home}/"$last".deb linux-source.deb ;;
  source) cp {home}/"$last"/* . ;;
esac
"""
APT_CACHE = """\
#!/bin/sh
echo "apt-cache $*" >> {home}/log
cat {home}/madison-$2 2> /dev/null
exit 0
"""


class FakeApt:
    """Write what the archive has; read what apt was asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir(parents=True)
        for name, script in (("apt-get", APT_GET), ("apt-cache", APT_CACHE)):
            (self.bin / name).write_text(script.format(home=home))
            (self.bin / name).chmod(0o755)

    def calls(self) -> list[str]:
        """What has been run since this was asked last."""
        log = self.home / "log"
        if not log.exists():
            return []
        lines = log.read_text().splitlines()
        log.unlink()
        return lines

    def fails(self, text: str) -> None:
        """From now on apt-get says this and fails; with an empty text it works again."""
        if text:
            (self.home / "fails").write_text(text)
        else:
            (self.home / "fails").unlink()

    def offers(self, package: str, version: str, kind: str = "Packages") -> None:
        """A line of apt-cache madison."""
        with (self.home / f"madison-{package}").open("a") as file:
            file.write(f"{package:>17} | {version} | file:/archive suite/main {kind}\n")

    def binary(self, series: str, version: str, release: tuple[int, int, int]) -> Path:
        """A linux-source package with a source in it."""
        package = f"linux-source-{series}"
        self.offers(package, version)
        build = self.home / f"build-{version}"
        top = tiny.write(build / f"linux-source-{series}", release)
        folder = build / "deb"
        (folder / "DEBIAN").mkdir(parents=True)
        (folder / "usr/src").mkdir(parents=True)
        (folder / "DEBIAN/control").write_text(
            f"Package: {package}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: A Tester <tester@example.org>\nDescription: tiny\n"
        )
        archive = folder / f"usr/src/{package}.tar.xz"
        run("tar", "-C", build, "-cJf", archive, top.name)
        deb = self.home / f"{package}={version}.deb"
        run("dpkg-deb", "--root-owner-group", "--build", folder, deb)
        return deb

    def source(self, package: str, version: str, release: tuple[int, int, int]) -> Path:
        """A Debian source package."""
        self.offers(package, version, "Sources")
        folder = self.home / f"{package}={version}"
        top = tiny.write(folder / "work", release)
        upstream = folder / f"{package}_{version.rpartition('-')[0]}.orig.tar.xz"
        run("tar", "-C", folder, "-cJf", upstream, top.name)
        (top / "debian/source").mkdir(parents=True)
        (top / "debian/source/format").write_text("3.0 (quilt)\n")
        (top / "debian/control").write_text(
            f"Source: {package}\nMaintainer: A Tester <tester@example.org>\n"
            "Standards-Version: 4.6.2\n\nPackage: some\nArchitecture: all\nDescription: tiny\n"
        )
        (top / "debian/changelog").write_text(
            f"{package} ({version}) unstable; urgency=low\n\n  * Tiny.\n\n"
            " -- A Tester <tester@example.org>  Thu, 01 Jan 1970 00:00:00 +0000\n"
        )
        run("dpkg-source", "-b", top, cwd=folder)
        run("rm", "-r", top)
        return folder


def run(*argv: str | Path, cwd: Path | None = None) -> None:
    """Runs quietly."""
    subprocess.run(argv, check=True, capture_output=True, cwd=cwd)
