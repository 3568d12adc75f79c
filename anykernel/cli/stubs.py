# SPDX-License-Identifier: GPL-2.0
"""What `anykernel stubs` shows: what images of some components were linked without."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anykernel.build import Image
from anykernel.link import policy
from anykernel.link.image import ledger, link_image
from anykernel.link.select import Selection, select
from anykernel.link.stubs import Stub

WIDTH = 100
ORDER = ("function", "data", "body", "variant")


@dataclass(frozen=True)
class Ledger:
    """An image, and what stands in for what it lacks."""

    name: str
    wanted: tuple[str, ...]
    """The components that were asked for."""
    image: Image
    selection: Selection
    stubs: tuple[Stub, ...]

    def of(self, *kinds: str) -> list[Stub]:
        return [one for one in self.stubs if one.kind in kinds]

    @property
    def generated(self) -> list[Stub]:
        return [one for one in self.stubs if one.generated]

    @property
    def granted(self) -> list[Stub]:
        """Generated ones that may be reached."""
        return [one for one in self.generated if one.why]


def read(whole: Image, name: str, folders: Iterable[Path] = ()) -> Ledger:
    """The ledger of a named image, or of components with commas between.

    Raises UsageError, BuildError.
    """
    folders = tuple(folders)
    rules = policy.load(folders)
    wanted = [part.strip() for part in name.split(",") if part.strip()]
    image = link_image(whole, wanted, folders)
    expanded = [more for one in wanted for more in rules.images.get(one, (one,))]
    return Ledger(
        name=",".join(wanted),
        wanted=tuple(expanded),
        image=image,
        selection=select(whole, expanded, rules),
        stubs=tuple(sorted(ledger(image), key=lambda one: (ORDER.index(one.kind), one.symbol))),
    )


def named(whole: Image, folders: Iterable[Path] = ()) -> list[Ledger]:
    """Those of all images that the policy names."""
    folders = tuple(folders)
    return [read(whole, name, folders) for name in policy.load(folders).images]


def unused(ledgers: Iterable[Ledger], folders: Iterable[Path] = ()) -> list[str]:
    """Symbols that the policy grants or has variants of, and that none of the images lacks."""
    rules = policy.load(folders)
    lacking = {stub.symbol for one in ledgers for stub in one.stubs}
    return sorted((rules.grants.keys() | rules.variants.keys()) - lacking)


def as_dict(one: Ledger) -> dict[str, Any]:
    """For JSON."""
    return {
        "name": one.name,
        "image": one.image.id,
        "release": one.image.release,
        "components": one.selection.components,
        "pulled": one.selection.pulled,
        "objects": len(one.selection.objects),
        "size": one.image.library.stat().st_size,
        "stubs": [asdict(stub) | {"generated": stub.generated} for stub in one.stubs],
    }


def text(one: Ledger) -> str:
    """All about one: the same wherever it was linked, and sorted, so that it can be compared.

    Not how many objects there are, nor what a compiler made of them.
    """
    return "\n".join(_lines(one)) + "\n"


def _lines(one: Ledger) -> Iterator[str]:
    yield f"image {one.name}: {_counts(one)}"
    yield from _wrapped("components", one.selection.components)
    yield from _wrapped("single objects of others", one.selection.pulled)
    for title, stubs in (
        ("generated: a test that reaches one fails", [s for s in one.of("function") if not s.why]),
        ("data, as the whole kernel has it at boot", [s for s in one.of("data") if not s.why]),
        ("generated, with a granted behaviour", one.granted),
        ("written by hand", one.of("body")),
        ("the kernel's own, for the component's absence", one.of("variant")),
    ):
        if stubs:
            yield f"\n{title}:"
        for stub in stubs:
            yield ""
            yield f"  {stub.declaration}"
            yield f"    of {stub.home}"
            yield from _wrapped("    needed by", stub.users)
            if stub.why:
                yield from _wrapped("    why", stub.why.split(), " ")


def _counts(one: Ledger) -> str:
    return (
        f"{len(one.generated)} generated ({len(one.granted)} granted), "
        f"{len(one.of('variant'))} variants, {len(one.of('body'))} bodies"
    )


def _wrapped(title: str, words: Iterable[str], between: str = ", ") -> Iterator[str]:
    """Lines of `title: word, word`; none for no words."""
    line = between.join(words)
    if line:
        inner = " " * (len(title) - len(title.lstrip()) + 2)
        yield from textwrap.wrap(
            f"{title}: {line}",
            WIDTH,
            subsequent_indent=inner,
            break_long_words=False,
            break_on_hyphens=False,
        )


def table(ledgers: Iterable[Ledger]) -> None:
    """Prints a line each."""
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    made.add_column("image", overflow="fold")
    for heading in ("objects", "generated", "granted", "variants", "bodies", "KiB"):
        made.add_column(heading, justify="right", overflow="fold")
    made.add_column("components beside the base", style="dim", overflow="fold")
    for one in ledgers:
        sizes = (one.selection.objects, one.generated, one.granted)
        kinds = (one.of("variant"), one.of("body"))
        made.add_row(
            one.name,
            *(str(len(some)) for some in (*sizes, *kinds)),
            str(one.image.library.stat().st_size >> 10),
            ", ".join(one.wanted) or "-",
        )
    Console().print(made)


def minor(release: str) -> str:
    """'6.1' of '6.1.170-3': kernels of one have the same ledgers."""
    return ".".join(release.split(".")[:2]).partition("-")[0]


def write(ledgers: Iterable[Ledger], folder: Path) -> list[Path]:
    """Writes the texts to `folder`/RELEASE/IMAGE.txt, in the place of all others there."""
    made = []
    for one in ledgers:
        path = folder / minor(one.image.release) / f"{one.name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(one))
        made.append(path)
    for parent in {path.parent for path in made}:
        for old in set(parent.glob("*.txt")) - set(made):
            old.unlink()
    return made
