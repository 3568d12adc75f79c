# SPDX-License-Identifier: GPL-2.0
"""Flavours: Kconfig fragments, merged and then verified in the result."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from anykernel.build.overlay import OVERLAY
from anykernel.errors import KconfigError, UsageError

FLAVOURS = Path(__file__).resolve().parent / "flavours"
MACHINE = FLAVOURS / "machine.kconfig"
"""What every kernel has, whatever its flavour says."""
BASED_ON = {"debug": ("default",), "wide": ("default",)}
"""Flavours that add to others."""
WHOLE = re.compile(r"^# Automatically generated file; DO NOT EDIT\.$", re.M)
"""By this a .config that Kconfig wrote is known from a fragment."""

LINE = re.compile(
    r"^(?:CONFIG_(?P<set>\w+)=(?P<value>\S+|\".*\")|# CONFIG_(?P<unset>\w+) is not set)"
    r"(?P<optional>\s+# optional)?$"
)

DEFINED = re.compile(r"\s*(?:menu)?config\s+(\w+)\s*$")
OTHER = re.compile(r"\s*(?:choice|menu|comment)\b")
PROMPT = re.compile(r"\s*(?:bool|tristate|string|int|hex|prompt)\s+[\"']")


@dataclass(frozen=True)
class Request:
    """One value that is wanted; value 'n' is 'is not set'."""

    symbol: str
    value: str
    optional: bool = False
    """A kernel without it will do; nobody is told."""
    whole: bool = False
    """It is of a whole .config: a kernel without it will do, but its user is told."""

    def line(self) -> str:
        if self.value == "n":
            return f"# CONFIG_{self.symbol} is not set"
        return f"CONFIG_{self.symbol}={self.value}"


def flavours() -> list[str]:
    """The names of all flavours."""
    return sorted(path.stem for path in FLAVOURS.glob("*.config"))


def requests(flavour: str, extra: Mapping[str, str] | None = None) -> list[Request]:
    """What a flavour and the user's own values ask for; the last of a symbol counts.

    flavour: a name, or the path of a fragment that adds to `default`, or of a whole .config, which
    stands for itself.  Raises UsageError for one that doesn't exist or a malformed value.
    """
    wanted = {one.symbol: one for one in _of_flavour(flavour)}
    for symbol, value in (extra or {}).items():
        symbol = symbol.removeprefix("CONFIG_")
        if not re.fullmatch(r"\w+", symbol) or not re.fullmatch(r"[^\n]+", str(value)):
            raise UsageError(f"config {symbol}={value!r}: write it like {{'NET_SCH_FQ': 'y'}}")
        if value == "m":
            raise UsageError(f"config {symbol}=m: a library has no modules; y builds it in")
        wanted[symbol] = Request(symbol, str(value))
    return list(wanted.values())


def _of_flavour(flavour: str) -> Iterator[Request]:
    """Its requests in order: the last of a symbol counts."""
    machine, default = (parse(path.read_text(), path.name) for path in (MACHINE, _file("default")))
    if flavour in flavours():
        yield from machine
        for name in (*BASED_ON.get(flavour, ()), flavour):
            yield from parse(_file(name).read_text(), f"{name}.config")
        return
    own = Path(flavour).expanduser()
    if own.suffix != ".config":
        raise UsageError(
            f"there is no flavour {flavour!r}; there are: {', '.join(flavours())}, or the path of "
            "a fragment or a whole .config, as in ./my.config"
        )
    if not own.is_file():
        raise UsageError(f"there is no fragment {own}; `anykernel menuconfig` can make one")
    text = own.read_text()
    if WHOLE.search(text):
        ours = {one.symbol for one in machine}  # behind all others: of a choice the last counts
        for one in parse(text, own.name):
            if one.symbol not in ours:
                # Without modules what would be one is built in.
                yield Request(one.symbol, "y" if one.value == "m" else one.value, whole=True)
        yield from machine
    else:
        yield from (*machine, *default, *parse(text, own.name))


def _file(name: str) -> Path:
    return FLAVOURS / f"{name}.config"


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
    wrong = _lacking([one for one in wanted if not (one.optional or one.whole)], config)
    if not wrong:
        return
    result = {r.symbol: r.value for r in parse_config(config.read_text())}
    known = _known(tree)
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


def refused(wanted: list[Request], config: Path, tree: Path) -> list[str]:
    """What a whole .config has set and this kernel doesn't have, a line each.  Not what nobody
    sets by hand: it follows from the rest (the compiler's version, an architecture's traits)."""
    lacking = [one for one in _lacking([o for o in wanted if o.whole], config) if one.value != "n"]
    if not lacking:
        return []
    known, asked = _known(tree), _asked(tree)
    lines = []
    for one in lacking:
        where = known.get(one.symbol)
        if where is None:
            why = "not in this tree"
        elif one.symbol not in asked:
            continue
        elif _elsewhere(Path(where)):
            why = f"of another architecture, {where}"
        else:
            why = f"what it depends on is missing, or decided otherwise here, see {where}"
        lines.append(f"CONFIG_{one.symbol}={one.value}: {why}")
    return lines


def _lacking(wanted: list[Request], config: Path) -> list[Request]:
    result = {one.symbol: one.value for one in parse_config(config.read_text())}
    return [one for one in wanted if result.get(one.symbol, "n") != one.value]


def parse_config(text: str) -> list[Request]:
    """The values of a complete .config."""
    matches = (LINE.match(line) for line in text.splitlines())
    return [Request(m["set"] or m["unset"], m["value"] or "n") for m in matches if m]


def _elsewhere(name: Path) -> bool:
    """Of an architecture that is not ours; the one that all of them share is."""
    return len(name.parts) > 2 and name.parts[0] == "arch" and name.parts[1] != "lib"


def _known(tree: Path) -> dict[str, str]:
    """Where each symbol is defined that this build, or another of the tree, may have."""
    ours = symbols(OVERLAY / "lib")
    return {symbol: f"arch/lib/{where}" for symbol, where in ours.items()} | symbols(tree)


def symbols(tree: Path) -> dict[str, str]:
    """Each symbol that the tree's Kconfig files define: 'file:line'.  Of several places one that
    this build reads, if there is one."""
    found: dict[str, str] = {}
    for path, lines in _files(tree):
        for number, line in enumerate(lines, 1):
            if match := DEFINED.match(line):
                found.setdefault(match[1], f"{path.relative_to(tree)}:{number}")
    return found


def _asked(tree: Path) -> set[str]:
    """The symbols that a user is asked for; the others follow from them."""
    found = set()
    for root in (tree, OVERLAY / "lib"):
        for _, lines in _files(root):
            symbol = ""
            for line in lines:
                if match := DEFINED.match(line):
                    symbol = match[1]
                elif OTHER.match(line):
                    symbol = ""  # a choice has a prompt, too
                elif symbol and PROMPT.match(line):
                    found.add(symbol)
    return found


def _files(tree: Path) -> Iterator[tuple[Path, list[str]]]:
    """The tree's Kconfig files, those of other architectures last."""
    listed = sorted(tree.rglob("Kconfig*"))
    for path in sorted(listed, key=lambda one: _elsewhere(one.relative_to(tree))):
        if path.is_file() and "Documentation" not in path.parts:
            yield path, path.read_text(errors="replace").splitlines()
