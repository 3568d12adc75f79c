# SPDX-License-Identifier: GPL-2.0
"""/proc/sys and the protocols' counters as mappings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anykernel.kernel.process import Process

ROOT = "/proc/sys"
FILES = ("snmp", "netstat", "snmp6")


class Sysctl(MutableMapping[str, str]):
    """``kernel.sysctl["net.ipv4.ip_forward"] = 1``.

    Names are those of sysctl(8): dots or slashes; a dot inside an interface's name is written as
    the other one.  A value is read as text (several values have tabs between them); ints, bools and
    sequences may be written.  Raises KeyError for a name that isn't there, OSError for a value that
    the kernel refuses or doesn't tell (some can only be written).
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    @staticmethod
    def _path(name: str) -> str:
        first = re.search(r"[./]", name)
        if first is not None and first[0] == ".":
            name = name.translate(str.maketrans("./", "/."))
        return f"{ROOT}/{name}"

    def __getitem__(self, name: str) -> str:
        try:
            return self._process.read_text(self._path(name)).strip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(name) from None

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, bool):
            value = int(value)
        if isinstance(value, list | tuple):
            value = " ".join(str(part) for part in value)
        try:
            fd = self._process.os.open(self._path(name), os.O_WRONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise KeyError(name) from None
        try:
            self._process.os.write(fd, str(value).encode())
        finally:
            self._process.os.close(fd)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a sysctl can't be deleted")

    def __iter__(self) -> Iterator[str]:
        yield from self._below(ROOT)

    def _below(self, folder: str) -> Iterator[str]:
        for entry in self._process.os.scandir(folder):
            if entry.is_dir():
                yield from self._below(entry.path)
            else:
                name = entry.path[len(ROOT) + 1 :]
                yield name.translate(str.maketrans("./", "/."))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._process.os.exists(self._path(name))


class Counters(Mapping[str, Mapping[str, int]]):
    """The counters of /proc/net/{snmp,netstat,snmp6}: ``kernel.snmp["Icmp"]["InCsumErrors"]``.

    In the groups of IPv6 (Ip6, Icmp6, Udp6, UdpLite6) names have no prefix.  Each group is
    read when it is asked for: a plain dict, so that two can be compared.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    def _read(self, files: tuple[str, ...] = FILES) -> dict[str, dict[str, int]]:
        groups: dict[str, dict[str, int]] = {}
        for file in files:
            if file == "snmp6":
                continue
            lines = self._text(file).splitlines()
            for names, values in zip(lines[::2], lines[1::2], strict=True):
                group, _, rest = names.partition(":")
                numbers = map(int, values.partition(":")[2].split())
                groups[group] = dict(zip(rest.split(), numbers, strict=True))
        for line in self._text("snmp6").splitlines() if "snmp6" in files else ():
            name, value = line.split()
            match = re.match(r"(Ip6|Icmp6|UdpLite6|Udp6)(.+)", name)
            if match is not None:
                groups.setdefault(match[1], {})[match[2]] = int(value)
        return groups

    def _text(self, file: str) -> str:
        try:
            return self._process.read_text(f"/proc/net/{file}")
        except FileNotFoundError:
            return ""

    def __getitem__(self, group: str) -> dict[str, int]:
        file = "snmp6" if group.endswith("6") else "netstat" if group.endswith("Ext") else "snmp"
        return self._read((file,))[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())
