# SPDX-License-Identifier: GPL-2.0
"""Policy: what people wrote in stubs/*.toml, checked.

docs/stubs.md has the format for people; PolicyError says what is wrong in a file, and where.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anykernel.errors import UsageError

PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = next(
    (found for found in (PACKAGE / "_stubs", PACKAGE.parent / "stubs") if found.is_dir()),
    PACKAGE / "_stubs",
)
"""stubs/: within the package in a wheel, beside it in a checkout."""
TABLES = {
    "base": {"components", "why"},
    "unit": {"objects", "why"},
    "require": {"components", "why"},
    "split": {"objects", "why"},
    "pull": {"objects", "why"},
    "image": {"components", "why"},
    "variant": {"headers", "without", "symbols", "why"},
    "grant": {"returns", "body", "data", "when", "also", "why"},
}


class PolicyError(UsageError):
    """A policy file that can't be meant so."""


@dataclass(frozen=True)
class Grant:
    """What the stub of one symbol may do without failing the test.

    One of: `returns`, a C expression over the true parameters ("" for void); `body`, a C file that
    defines the symbol itself; `data`, "zero".
    """

    symbol: str
    why: str
    origin: str
    """FILE: [grant.SYMBOL]."""
    returns: str | None = None
    body: Path | None = None
    data: str | None = None
    when: str | None = None
    """A C condition over the parameters: other calls fail the test."""


@dataclass(frozen=True)
class Variant:
    """Headers that have the functions of a component as empty inlines, for a kernel built without
    the options `without`."""

    name: str
    headers: tuple[str, ...]
    without: tuple[str, ...]
    why: str
    origin: str


@dataclass(frozen=True)
class Policy:
    """All files together."""

    base: tuple[str, ...] = ()
    """Components that every image has."""
    unit: tuple[str, ...] = ()
    """Objects that every unit has."""
    split: Mapping[str, str] = field(default_factory=dict)
    """Path of an object to the component that it is, apart from its folder's."""
    require: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Component to those it never comes without."""
    pull: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Component to single objects of others that come with it."""
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names for sets of components that have a committed ledger."""
    grants: Mapping[str, Grant] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    """Symbol to where the kernel has it for the component's absence."""
    id: str = ""
    """A hash of all files."""


def load(folders: Iterable[Path] = ()) -> Policy:
    """The shipped policy with that of `folders` on top: a later file's grant replaces an earlier
    one's of the same symbol.  Raises PolicyError."""
    return _load((SHIPPED, *folders))


def load_unit(folders: Iterable[Path] = ()) -> Policy:
    """The same for units, from stubs/unit/ and `folders`."""
    return _load((SHIPPED / "unit", *folders))


@functools.cache
def _load(folders: tuple[Path, ...]) -> Policy:
    policy = Policy()
    sha = hashlib.sha256()
    for folder in folders:
        if not folder.is_dir():
            raise PolicyError(f"there is no folder {folder} for stub policies")
        sha.update(f"{_named(folder)}\0".encode())  # a ledger says where a grant stands
        for file in sorted(folder.glob("*")):
            if file.suffix in (".toml", ".c", ".h"):
                sha.update(file.read_bytes() + b"\0")
        for file in sorted(folder.glob("*.toml")):
            policy = _add(policy, file)
    for body in sorted({one.body for one in policy.grants.values() if one.body}):
        sha.update(body.read_bytes() + b"\0")  # it may lie in a folder below
    return replace(policy, id=sha.hexdigest()[:12])


def _named(path: Path) -> Path:
    """What a ledger and a message call it: shipped files by their place in the project, so that
    an image is the same from every checkout."""
    return path.relative_to(SHIPPED.parent) if path.is_relative_to(SHIPPED) else path


def _add(policy: Policy, file: Path) -> Policy:
    try:
        data = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"{file}: {error}") from None
    require, pull, split = dict(policy.require), dict(policy.pull), dict(policy.split)
    images, grants = dict(policy.images), dict(policy.grants)
    variants = dict(policy.variants)
    base, unit = policy.base, policy.unit
    for table, content in data.items():
        if table not in TABLES:
            raise PolicyError(f"{file}: unknown table [{table}]; there are {', '.join(TABLES)}")
        if not isinstance(content, dict):
            raise PolicyError(f"{file}: [{table}] is a table")
        entries: dict[str, Any] = {"": content} if table in ("base", "unit") else content
        for name, entry in entries.items():
            where = f"{_named(file)}: [{table}{'.' + name if name else ''}]"
            _check(where, entry, TABLES[table])
            listed = tuple(entry.get("components", entry.get("objects", ())))
            match table:
                case "base":
                    base += listed
                case "unit":
                    unit += listed
                case "require":
                    require[name] = require.get(name, ()) + listed
                case "split":
                    split |= dict.fromkeys(listed, name)
                case "pull":
                    pull[name] = pull.get(name, ()) + listed
                case "image":
                    images[name] = listed
                case "variant":
                    variants |= _variant(where, name, entry)
                case _:
                    for symbol in (name, *entry.get("also", ())):
                        grants[symbol] = _grant(where, symbol, entry, file.parent)
    return Policy(base, unit, split, require, pull, images, grants, variants)


def _check(where: str, entry: Any, known: set[str]) -> None:
    if not isinstance(entry, dict):
        raise PolicyError(f"{where}: this is a table, with {', '.join(sorted(known))}")
    for key, value in entry.items():
        if key not in known:
            raise PolicyError(f"{where}: unknown key {key!r}; there are {', '.join(sorted(known))}")
        if key in ("components", "objects", "headers", "symbols", "without", "also"):
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise PolicyError(f"{where}: {key} is a list of strings")
        elif not isinstance(value, str | int) or isinstance(value, bool):
            raise PolicyError(f"{where}: {key} is a string or a whole number")
    if not str(entry.get("why", "")).strip():
        raise PolicyError(f"{where}: why is missing: say why this is harmless, or needed")


def _grant(where: str, name: str, entry: dict[str, Any], folder: Path) -> Grant:
    given = [key for key in ("returns", "body", "data") if key in entry]
    if len(given) != 1:
        raise PolicyError(
            f"{where}: one of returns, body and data is needed, not {given or 'none'}"
        )
    if "when" in entry and "returns" not in entry:
        raise PolicyError(f"{where}: when goes with returns")
    body = None
    if "body" in entry:
        body = folder / str(entry["body"])
        if os.path.relpath(body, folder).startswith("..") or not body.is_file():
            raise PolicyError(f"{where}: there is no file {body}")
    if entry.get("data", "zero") != "zero":
        raise PolicyError(f"{where}: data can only be 'zero'")
    return Grant(
        name,
        why=" ".join(str(entry["why"]).split()),
        origin=where,
        returns=str(entry["returns"]) if "returns" in entry else None,
        body=body,
        data=entry.get("data"),
        when=str(entry["when"]) if "when" in entry else None,
    )


def _variant(where: str, name: str, entry: dict[str, Any]) -> dict[str, Variant]:
    for key in ("headers", "without", "symbols"):
        if not entry.get(key):
            raise PolicyError(f"{where}: {key} is missing")
    why = " ".join(str(entry["why"]).split())
    made = Variant(name, tuple(entry["headers"]), tuple(entry["without"]), why, where)
    return dict.fromkeys(entry["symbols"], made)
