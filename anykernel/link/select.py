# SPDX-License-Identifier: GPL-2.0
"""Which objects an image of some components has, and which symbols it then lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from anykernel.build import Image
from anykernel.link.components import (
    Component,
    component_of,
    find,
    group,
    homes,
    listed,
    objects,
    pulled,
)
from anykernel.link.objects import Object
from anykernel.link.policy import Policy

PULLED_MOST = 6
"""Objects that one missing symbol may draw in by themselves."""


@dataclass(frozen=True)
class Selection:
    """A part of a kernel."""

    components: tuple[str, ...]
    """Those that were asked for, the base, and what these require."""
    objects: tuple[Object, ...]
    """In link order."""
    pulled: tuple[str, ...]
    """Paths of single objects of other components."""
    missing: dict[str, Missing] = field(default_factory=dict)


@dataclass(frozen=True)
class Missing:
    """A symbol that the selection needs and doesn't have."""

    symbol: str
    home: Object
    """The object that defines it in the whole kernel."""
    users: tuple[str, ...]
    """Paths of the objects that need it."""


def select(image: Image, wanted: Iterable[str], policy: Policy) -> Selection:
    """The base, `wanted`, and all that they require.  Raises UsageError."""
    everything = objects(image)
    library = set(listed(image)[1])
    names = _closure(group(everything, policy.split), wanted, policy)
    extra = {path for name in names for path in policy.pull.get(name, ())}
    unknown = extra - {one.path for one in everything}
    chosen = [
        one
        for one in everything
        if one.path not in library
        and (component_of(one.path, policy.split) in names or one.path in extra)
    ]
    # What a release doesn't have can't be pulled; there it is in some other object.
    extra = {one for one in extra - unknown if component_of(one, policy.split) not in names}
    drawn = _self_contained(chosen, everything)
    paths = {one.path for one in chosen} | {one.path for one in drawn}
    paths |= {
        one.path
        for one in pulled(
            [one for one in everything if one.path in paths],
            [one for one in everything if one.path in library],
        )
    }
    taken = tuple(one for one in everything if one.path in paths)
    return Selection(
        components=tuple(names),
        objects=taken,
        pulled=tuple(sorted(extra | {one.path for one in drawn if one.path not in library})),
        missing=_missing(taken, everything),
    )


def _closure(known: dict[str, Component], wanted: Iterable[str], policy: Policy) -> list[str]:
    names = [name for name in policy.base if name in known]
    todo = [find(known, name).name for name in wanted]
    todo += [more for name in names for more in policy.require.get(name, ())]
    while todo:
        name = todo.pop()
        if name in names or name not in known:
            continue
        names.append(name)
        todo += policy.require.get(name, ())
    return sorted(names, key=list(known).index)


def _self_contained(chosen: list[Object], everything: list[Object]) -> list[Object]:
    """Objects that the chosen ones need, that need nothing which is not there, and that run
    nothing at boot: helpers that happen to lie in another folder."""
    home = homes(everything)
    have = _defined(chosen)
    provided = _provided(everything)
    drawn: list[Object] = []
    changed = True
    while changed:
        changed = False
        for symbol in sorted(_undefined([*chosen, *drawn]) - have - provided):
            found = _draw(home.get(symbol), have | provided, home)
            if found and symbol not in have:
                drawn += found
                have |= _defined(found)
                changed = True
    return drawn


def _draw(start: Object | None, have: set[str], home: dict[str, Object]) -> list[Object]:
    """`start` with all that it needs, or [] when that is too much or would run at boot."""
    found: list[Object] = []
    todo = [start] if start else []
    while todo:
        one = todo.pop()
        if one in found:
            continue
        if one.initcalls or len(found) == PULLED_MOST:
            return []
        found.append(one)
        for symbol in sorted(one.undefined - have - _defined(found)):
            if symbol not in home:
                return []
            todo.append(home[symbol])
    return found


def _missing(taken: Iterable[Object], everything: list[Object]) -> dict[str, Missing]:
    taken = list(taken)
    home = homes(everything)
    lacking = _undefined(taken) - _defined(taken)
    return {
        symbol: Missing(symbol, home[symbol], tuple(o.path for o in taken if symbol in o.undefined))
        for symbol in sorted(lacking)
        if symbol in home
    }


def _provided(everything: list[Object]) -> set[str]:
    """What the linker script and kallsyms define: the whole kernel has it from no object."""
    return _undefined(everything) - _defined(everything)


def _defined(some: Iterable[Object]) -> set[str]:
    return {symbol for one in some for symbol in one.defined | one.weak}


def _undefined(some: Iterable[Object]) -> set[str]:
    return {symbol for one in some for symbol in one.undefined}
