# SPDX-License-Identifier: GPL-2.0
"""Where a netdev is: it may have another name, MAC address, number, or network namespace now."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from anykernel.errors import UsageError
from anykernel.kernel.rtnl import LinkInfo, Rtnl

if TYPE_CHECKING:
    from anykernel.kernel.process import Process


def find(process: Process, last: LinkInfo, others: Collection[int]) -> tuple[LinkInfo, int | None]:
    """A device that was `last` so, as it is now, and a descriptor of its namespace, which is the
    caller's to close; None: it is in the process's own, where `others` are taken.

    It is known by its permanent address, which it keeps wherever it goes.  Raises UsageError when
    it is nowhere, or when that doesn't tell which one it is.
    """
    with Rtnl(process) as rtnl:
        same = rtnl.link(last.ifindex)
        if same is not None and same.permanent == last.permanent:
            return same, None
        links = [one for one in rtnl.links() if one.ifindex not in others]
    found: list[tuple[LinkInfo, int | None]] = [
        (one, None) for one in links if one.permanent == last.permanent
    ]
    for namespace in _others(process):
        with Rtnl(process, namespace) as rtnl:
            there = [one for one in rtnl.links() if one.permanent == last.permanent]
        found += [(one, namespace) for one in there]
        if not there:
            process.os.close(namespace)
    if len(found) == 1:
        return found[0]
    for namespace in {namespace for _, namespace in found if namespace is not None}:
        process.os.close(namespace)
    mac = last.permanent.hex(":")
    raise UsageError(
        f"{last.name} was moved, and {len(found)} devices have its permanent address {mac}: give "
        "each its own in add_netdev()"
        if found
        else f"{last.name} is in no network namespace that a process, a file or a mount holds"
    )


def _others(process: Process) -> Iterator[int]:
    """Descriptors of the network namespaces besides the process's own that anything holds."""
    seen = {process.os.readlink("/proc/self/ns/net")}
    for path in list(_handles(process)):
        with suppress(OSError):  # processes end
            fd = process.os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            name = process.os.readlink(f"/proc/self/fd/{fd}")
            if name.startswith("net:[") and name not in seen:
                seen.add(name)
                yield fd
            else:
                process.os.close(fd)


def _handles(process: Process) -> Iterator[str]:
    """Files that may stand for network namespaces: of tasks, open ones, mounted ones."""
    for pid in sorted(filter(str.isdigit, process.os.listdir("/proc")), key=int):
        with suppress(OSError):
            for task in process.os.listdir(f"/proc/{pid}/task"):
                yield f"/proc/{pid}/task/{task}/ns/net"
            for fd in process.os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{fd}"
                if process.os.readlink(path).startswith("net:["):
                    yield path
    for line in process.read_text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.startswith("nsfs "):
            yield before.split()[4]
