# SPDX-License-Identifier: GPL-2.0
"""An image of some components: linked from a whole kernel's objects, and stubs.

The kernel's own scripts/link-vmlinux.sh does it, as it did the whole kernel; only its vmlinux.a is
another.  So kallsyms, sorted tables and all else are what they always are.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from anykernel import cache, proc
from anykernel.build import Image
from anykernel.build.kept import LINK
from anykernel.errors import BuildError, ToolError
from anykernel.link import debuginfo, policy
from anykernel.link.compile import LIKE, compile_c, flags_of
from anykernel.link.components import objects
from anykernel.link.select import Selection, select
from anykernel.link.stubs import Generator, Stub, Wanted, variant_text

FORMAT = "2"
"""Of the entry in the cache and the stubs' C."""
ASSEMBLED = "arch/lib/x86_64/fiber.o"
"""An object from assembler: with its flags the table of symbols is assembled."""


def link_image(image: Image, components: Iterable[str], folders: Iterable[Path] = ()) -> Image:
    """The image of `components` of a whole kernel, and what they can't do without; cached.

    components: names as `anykernel components` shows them, or the name of an image of the policy;
    an empty list is the base alone.  folders: further stub policies.

    Raises UsageError for an unknown component, PolicyError, BuildError.
    """
    rules = policy.load(folders)
    wanted = [name for one in components for name in rules.images.get(one, (one,))]
    selection = select(image, wanted, rules)
    key = hashlib.sha256(
        "\0".join([FORMAT, image.id, rules.id, *selection.components]).encode()
    ).hexdigest()[:16]
    found = cache.load("images", key)
    if found is None:
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
    homes = {s: one.path for one in objects(image) for s in one.weak}
    homes |= {s: one.path for one in objects(image) for s in one.defined}
    have = {s for one in selection.objects for s in one.defined | one.weak}
    generator = Generator(debuginfo.program(image.vmlinux), image.objects, homes, have, rules)
    missing = selection.missing.values()
    text = generator.generate(Wanted(one.symbol, one.home.path, one.users) for one in missing)
    (to / "stubs.c").write_text(text)
    with tempfile.TemporaryDirectory(prefix="anykernel-link-") as scratch:
        work = Path(scratch)
        made = [_compile(image, to / "stubs.c", work, strict=True)]
        for variant, symbols in generator.variants.items():
            source = to / f"variant-{variant.name}.c"
            source.write_text(variant_text(variant, symbols))
            made.append(_compile(image, source, work))
        made += [_compile(image, body, work) for body in sorted(generator.bodies)]
        _link(image, selection, made, work)
        shutil.copyfile(work / "vmlinux", to / "vmlinux")
    # Where a reader of vmlinux finds its types.
    os.symlink(image.objects, to / "objects")
    name = image.library.name
    strip = ["objcopy", "--strip-all", "--remove-section=.comment"]
    proc.run([*strip, "vmlinux", name], cwd=to)
    record = {
        "image": image.id,
        "components": selection.components,
        "pulled": selection.pulled,
        "stubs": [asdict(one) for one in generator.stubs],
    }
    (to / "ledger.json").write_text(json.dumps(record, indent=1))
    data = {"library": name, "release": image.release, "base": image.id}
    return data, [name, "vmlinux", "ledger.json"]


def _compile(image: Image, source: Path, work: Path, strict: bool = False) -> Path:
    to = work / f"stub-{source.parent.name}-{source.stem}.o"
    extra = ["-g0", "-fno-builtin", f"-I{image.tree}/arch/lib/kernel"]
    compile_c(image, source, to, like=LIKE, extra=[*extra, "-Werror"] if strict else extra)
    return to


def _link(image: Image, selection: Selection, made: list[Path], work: Path) -> None:
    """work/vmlinux, by the kernel's own script."""
    for entry in image.objects.iterdir():
        if entry.is_dir() or entry.name.startswith("."):
            os.symlink(entry, work / entry.name)
    library = set((image.objects / "library").read_text().split())
    members = [image.objects / one.path for one in selection.objects if one.path not in library]
    # As paths on stdin: there are hundreds.
    listed = "\n".join(map(str, [*members, *made]))
    (work / "members").write_text(listed)
    proc.run(["ar", "cDPrST", "vmlinux.a", "@members"], cwd=work)
    script, *arguments = shlex.split((image.objects / LINK).read_text())
    env: dict[str, str | None] = {
        "ARCH": "lib",
        "SRCARCH": "lib",
        "srctree": str(image.tree),
        "objtree": ".",
        "MAKE": "true",  # what it would make is there
        "CC": "gcc",
        "LD": "ld",
        "NM": "nm",
        "OBJCOPY": "objcopy",
        "CONFIG_SHELL": "sh",
        "KBUILD_LDS": "arch/lib/kernel/vmlinux.lds",
        "KBUILD_VMLINUX_LIBS": "lib/lib.a" if library else "",
        "KBUILD_VERBOSE": "",
        # The shell script splits at spaces and knows no quotes.
        "LINUXINCLUDE": " ".join(f for f in flags_of(image, ASSEMBLED) if "KBUILD_" not in f),
        **dict.fromkeys(("NOSTDINC_FLAGS", "KBUILD_CPPFLAGS", "KBUILD_AFLAGS"), ""),
        "KBUILD_AFLAGS_KERNEL": "",
    }
    name = arguments[3] if len(arguments) > 3 else "vmlinux"
    try:
        proc.run(["sh", script, *arguments], cwd=work, env=env)
    except ToolError as error:
        raise BuildError(
            f"an image of {', '.join(selection.components)} doesn't link",
            argv=error.argv,
            returncode=error.returncode,
            tail=error.tail,
        ) from None
    if name != "vmlinux":
        os.rename(work / name, work / "vmlinux")
