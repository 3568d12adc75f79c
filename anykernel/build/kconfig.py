# SPDX-License-Identifier: GPL-2.0
"""Flavours: Kconfig fragments, merged and then verified in the result."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anykernel.build.overlay import OVERLAY
from anykernel.errors import KconfigError, UsageError

FLAVOURS = Path(__file__).resolve().parent / "flavours"
BASED_ON = {"debug": ("default",)}
"""Flavours that add to others."""

LINE = re.compile(
    r"^(?:CONFIG_(?P<set>\w+)=(?P<value>\S+|\".*\")|# CONFIG_(?P<unset>\w+) is not set)"
    r"(?P<optional>\s+# optional)?$"
)


@dataclass(frozen=True)
class Request:
    """One value that is wanted; value 'n' is 'is not set'."""

    symbol: str
    value: str
    optional: bool = False

    def line(self) -> str:
        if self.value == "n":
            return f"# CONFIG_{self.symbol} is not set"
        return f"CONFIG_{self.symbol}={self.value}"


def flavours() -> list[str]:
    """The names of all flavours."""
    return sorted(path.stem for path in FLAVOURS.glob("*.config"))


def requests(flavour: str, extra: Mapping[str, str] | None = None) -> list[Request]:
    """What a flavour and the user's own values ask for; the last of a symbol counts.

    flavour: a name, or the path of a fragment that adds to `default`.  Raises UsageError for one
    that doesn't exist or a malformed value.
    """
    wanted: dict[str, Request] = {}
    for path in _fragments(flavour):
        for request in parse(path.read_text(), path.name):
            wanted[request.symbol] = request
    for symbol, value in (extra or {}).items():
        symbol = symbol.removeprefix("CONFIG_")
        if not re.fullmatch(r"\w+", symbol) or not re.fullmatch(r"[^\n]+", str(value)):
            raise UsageError(f"config {symbol}={value!r}: write it like {{'NET_SCH_FQ': 'y'}}")
        wanted[symbol] = Request(symbol, str(value))
    return list(wanted.values())


def _fragments(flavour: str) -> list[Path]:
    if flavour in flavours():
        return [FLAVOURS / f"{name}.config" for name in (*BASED_ON.get(flavour, ()), flavour)]
    own = Path(flavour).expanduser()
    if own.suffix != ".config":
        raise UsageError(
            f"there is no flavour {flavour!r}; there are: {', '.join(flavours())}, or the path of "
            "a fragment, as in ./my.config"
        )
    if not own.is_file():
        raise UsageError(f"there is no fragment {own}; `anykernel menuconfig` can make one")
    return [FLAVOURS / "default.config", own]


def difference(before: str, after: str, config: str) -> str:
    """The fragment that leads from one minimal configuration (of make savedefconfig) to another,
    whose whole .config is `config`."""
    had, has = parse_config(before), parse_config(after)
    values = {one.symbol: one.value for one in parse_config(config)}
    new = [one for one in has if one not in had]
    # What is minimal no more has its default, which another tree may see otherwise.
    named = {one.symbol for one in has}
    back = [Request(one.symbol, values.get(one.symbol, "n")) for one in had]
    return fragment(new + [one for one in back if one.symbol not in named])


def parse(text: str, name: str) -> list[Request]:
    """The requests of a fragment.  Raises UsageError with the line that is none."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = LINE.match(line.rstrip())
        if match:
            symbol = match["set"] or match["unset"]
            found.append(Request(symbol, match["value"] or "n", bool(match["optional"])))
        elif line.strip() and not line.startswith("#"):
            raise UsageError(f"{name}:{number}: {line!r} is no Kconfig line")
    return found


def fragment(wanted: list[Request]) -> str:
    """The requests as a .config for olddefconfig."""
    return "".join(request.line() + "\n" for request in wanted)


def verify(wanted: list[Request], config: Path, tree: Path) -> None:
    """Raises KconfigError naming what the tree doesn't know, or has not granted."""
    result = {r.symbol: r.value for r in parse_config(config.read_text())}
    wrong = [r for r in wanted if not r.optional and result.get(r.symbol, "n") != r.value]
    if not wrong:
        return
    ours = symbols(OVERLAY / "lib")
    known = {symbol: f"arch/lib/{where}" for symbol, where in ours.items()} | symbols(tree)
    lines = []
    for request in wrong:
        if request.symbol not in known:
            here = [name for name, where in known.items() if not _elsewhere(Path(where))]
            close = difflib.get_close_matches(request.symbol, here, 3, 0.75)
            hint = f"; did you mean {', '.join(close)}?" if close else ""
            lines.append(f"CONFIG_{request.symbol} does not exist in this tree{hint}")
        elif _elsewhere(Path(known[request.symbol])):
            lines.append(
                f"CONFIG_{request.symbol} is of another architecture "
                f"({known[request.symbol]}): no kernel that runs as a library has it"
            )
        else:
            where = known[request.symbol]
            got = result.get(request.symbol, "n")
            lines.append(
                f"CONFIG_{request.symbol}={request.value} was not granted (it is {got}): "
                f"something that it depends on is missing, see {where}"
            )
    raise KconfigError("the configuration can't be had:\n  " + "\n  ".join(lines))


def parse_config(text: str) -> list[Request]:
    """The values of a complete .config."""
    matches = (LINE.match(line) for line in text.splitlines())
    return [Request(m["set"] or m["unset"], m["value"] or "n") for m in matches if m]


def _elsewhere(name: Path) -> bool:
    """Of an architecture that is not ours; the one that all of them share is."""
    return len(name.parts) > 2 and name.parts[0] == "arch" and name.parts[1] != "lib"


def symbols(tree: Path) -> dict[str, str]:
    """Each symbol that the tree's Kconfig files define: 'file:line'.  Of several places one that
    this build reads, if there is one."""
    found: dict[str, str] = {}
    listed = sorted(tree.rglob("Kconfig*"))
    for path in sorted(listed, key=lambda one: _elsewhere(one.relative_to(tree))):
        if not path.is_file() or "Documentation" in path.parts:
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = re.match(r"\s*(?:menu)?config\s+(\w+)\s*$", line)
            if match:
                found.setdefault(match[1], f"{path.relative_to(tree)}:{number}")
    return found
