# SPDX-License-Identifier: GPL-2.0
"""Components: the parts of a kernel, by the folders that Kbuild built them from.

Nothing is listed by hand but where Linux keeps one part in several folders; a new folder is a new
component by itself.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anykernel.build import Image, kept
from anykernel.link.objects import Object, read
from anykernel.link.policy import load

BASE = "base"
"""What every kernel has: init/, kernel/, arch/."""
NETDEV = "drivers/net/lib"
"""Our virtual Ethernet device, which needs net/core: arch/lib/net/."""
WHOLE = {"init": BASE, "arch": BASE, "kernel": BASE, "usr": BASE}
"""Folders that are one component with all below them; those at the top that aren't named here and
have no folders of components below are so under their own name (mm, lib, crypto, ...)."""
PARTS = ("drivers", "fs", "net")
"""Folders in which each folder is a component."""
GATHERED = {"fs": "vfs", "net": "net/core", "drivers": "drivers/base", "fs/notify": "vfs"}
"""Where the files of a folder belong that has components below it."""
FAMILIES = {"drivers/net"}
"""Folders of PARTS in which, too, each folder is a component, and each driver of one file."""


@dataclass
class Component:
    """A part of a kernel."""

    name: str
    objects: list[Object] = field(default_factory=list)
    needs: Counter[str] = field(default_factory=Counter)
    """Other components, with how many of their symbols it uses."""
    needed_by: Counter[str] = field(default_factory=Counter)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(found.size for found in self.objects)

    @property
    def initcalls(self) -> list[tuple[str, str]]:
        """(level, function) in link order."""
        return [call for found in self.objects for call in found.initcalls]


def component_of(path: str, split: Mapping[str, str] | None = None) -> str:
    """The component of an object by its path: 'net/ipv4' of net/ipv4/tcp_input.o.

    split: objects that are components of their own, by path.
    """
    if split and path in split:
        return split[path]
    folders = path.split("/")[:-1]
    top = folders[0] if folders else BASE
    if folders[:3] == ["arch", "lib", "net"]:
        return NETDEV
    if top not in PARTS:
        return WHOLE.get(top, top)
    if "netfilter" in folders:
        return "netfilter"
    if len(folders) == 1:
        return GATHERED[top]
    name = "/".join(folders[:2])
    if name in FAMILIES:
        return "/".join(folders[:3]) if len(folders) > 2 else path.removesuffix(".o")
    return GATHERED.get(name, name)


def components(image: Image) -> dict[str, Component]:
    """The components of an image, in link order."""
    return group(objects(image), load().split)


def listed(image: Image) -> tuple[list[str], list[str]]:
    """The paths of the objects that an image was linked from, in link order: those of vmlinux.a,
    and those of lib.a, of which the linker takes what is needed."""
    order, library = ((image.objects / record).read_text() for record in ("order", "library"))
    whole = dict.fromkeys(order.split())
    # Newer trees link all of lib.a, and still make it.
    return list(whole), [name for name in library.split() if name not in whole]


@functools.cache
def objects(image: Image) -> list[Object]:
    """The objects that an image was linked from, in link order.  Raises cache.Damaged."""
    kept.sound(image, read=False)
    linked, library = ([read(image.objects / n, n) for n in names] for names in listed(image))
    return linked + pulled(linked, library)


def homes(some: Iterable[Object]) -> dict[str, Object]:
    """Symbol to the object that defines it: a strong definition goes before weak ones."""
    some = list(some)
    found = {symbol: one for one in some for symbol in one.weak}
    return found | {symbol: one for one in some for symbol in one.defined}


def pulled(linked: list[Object], library: list[Object]) -> list[Object]:
    """The members of a library that the linker takes: those that others need, and so on."""
    taken: list[Object] = []
    defined = {symbol for one in linked for symbol in one.defined | one.weak}
    needed = {symbol for one in linked for symbol in one.undefined} - defined
    left = list(library)
    while chosen := [one for one in left if not needed.isdisjoint(one.defined | one.weak)]:
        taken += chosen
        left = [one for one in left if one not in chosen]
        defined |= {symbol for one in chosen for symbol in one.defined | one.weak}
        needed |= {symbol for one in chosen for symbol in one.undefined}
        needed -= defined
    return taken


def group(
    objects: Iterable[Object], split: Mapping[str, str] | None = None
) -> dict[str, Component]:
    """Components of objects, with who needs whom."""
    found: dict[str, Component] = {}
    homes: dict[str, str] = {}
    for one in objects:
        name = component_of(one.path, split)
        found.setdefault(name, Component(name)).objects.append(one)
        for symbol in one.weak:
            homes.setdefault(symbol, name)
    for component in found.values():
        for one in component.objects:
            homes.update(dict.fromkeys(one.defined, component.name))
    for component in found.values():
        wanted = {symbol for one in component.objects for symbol in one.undefined | one.optional}
        for symbol in wanted:
            home = homes.get(symbol)
            if home not in (None, component.name):
                component.needs[home] += 1
                found[home].needed_by[component.name] += 1
    return found


def find(components: dict[str, Component], name: str) -> Component:
    """A component by its name, or its last part where that is clear ('bridge').

    Raises UsageError.
    """
    import difflib

    from anykernel.errors import UsageError

    if name in components:
        return components[name]
    short = [c for c in components.values() if Path(c.name).name == name]
    if len(short) == 1:
        return short[0]
    close = [c.name for c in short] or difflib.get_close_matches(name, components, 3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UsageError(f"this kernel has no component {name!r}{hint} (anykernel components)")
