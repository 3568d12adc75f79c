# SPDX-License-Identifier: GPL-2.0
"""An image of some components: linked from a whole kernel's objects, and stubs.

What links it is what linked the whole kernel (build/relink.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from anykernel import cache
from anykernel.build import Image, again, kept
from anykernel.build.relink import relink, strip
from anykernel.errors import BuildError
from anykernel.link import debuginfo, policy
from anykernel.link.components import homes, listed, objects
from anykernel.link.select import Selection, select
from anykernel.link.stubs import Generator, Stub, Wanted
from anykernel.link.substitutes import substitutes
from anykernel.link.variants import offered

FORMAT = "3"
"""Of the entry in the cache and the stubs' C."""


def link_image(image: Image, components: Iterable[str], folders: Iterable[Path] = ()) -> Image:
    """The image of `components` of a whole kernel, and what they can't do without; cached.

    components: names as `anykernel components` shows them, or the name of an image of the policy;
    an empty list is the base alone.  folders: further stub policies.

    Raises UsageError for an unknown component, PolicyError, BuildError, CacheError.
    """
    try:
        return _linked(image, components, folders)
    except cache.Damaged:  # the whole kernel's entry, which is removed
        again(image)
        return _linked(image, components, folders)


def _linked(image: Image, components: Iterable[str], folders: Iterable[Path]) -> Image:
    rules = policy.load(folders)
    wanted = [name for one in components for name in rules.images.get(one, (one,))]
    selection = select(image, wanted, rules)
    key = hashlib.sha256(
        "\0".join([FORMAT, image.id, rules.id, *(one.path for one in selection.objects)]).encode()
    ).hexdigest()[:16]
    found = cache.make("images", key, lambda to: _make(image, selection, rules, to))
    return replace(
        image,
        id=key,
        library=found.path / image.library.name,
        vmlinux=found.path / "vmlinux",
        components=selection.components,
        ledger=found.path / "ledger.json",
    )


def ledger(image: Image) -> list[Stub]:
    """The stubs of an image; a whole kernel has none."""
    if image.ledger is None:
        return []
    stubs = json.loads(image.ledger.read_text())["stubs"]
    return [Stub(**{**one, "users": tuple(one["users"])}) for one in stubs]


def _make(
    image: Image, selection: Selection, rules: policy.Policy, to: Path
) -> tuple[dict[str, Any], list[str]]:
    kept.sound(image)
    paths = {symbol: one.path for symbol, one in homes(objects(image)).items()}
    have = {s for one in selection.objects for s in one.defined | one.weak}
    rules = offered(image, rules, selection.missing)
    generator = Generator(debuginfo.program(image.vmlinux), image.objects, paths, have, rules)
    missing = selection.missing.values()
    text = generator.generate(Wanted(one.symbol, one.home.path, one.users) for one in missing)
    with tempfile.TemporaryDirectory(prefix="anykernel-link-") as scratch:
        work = Path(scratch)
        made = substitutes(image, text, generator, to, work, image.root / "arch/lib/kernel")
        library = set(listed(image)[1])
        chosen = [image.objects / o.path for o in selection.objects if o.path not in library]
        (work / "link").mkdir()
        try:
            relink(image, [*chosen, *made], work / "link")
        except BuildError as error:
            error.add_note(f"components: {', '.join(selection.components)}")
            raise
        shutil.copyfile(work / "link" / "vmlinux", to / "vmlinux")
    # Where a reader of vmlinux finds its types.
    os.symlink(os.path.relpath(image.objects, to), to / "objects")
    name = image.library.name
    strip(to / "vmlinux", to / name)
    record = {
        "image": image.id,
        "components": selection.components,
        "pulled": selection.pulled,
        "stubs": [asdict(one) for one in generator.stubs],
    }
    (to / "ledger.json").write_text(json.dumps(record, indent=1))
    data = {
        "library": name,
        "release": image.release,
        "base": image.id,
        "components": " ".join(selection.components),
    }
    return data, [name, "vmlinux", "ledger.json"]
