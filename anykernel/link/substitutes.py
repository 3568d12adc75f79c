# SPDX-License-Identifier: GPL-2.0
"""What stands in for absent parts, written and compiled: stubs, the kernel's own variants, bodies
of policies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from anykernel.build.compile import LIKE, compile_c
from anykernel.link.variants import variant_text
from anykernel.settings import settings

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.link.stubs import Generator


def substitutes(
    image: Image, text: str, generator: Generator, to: Path, work: Path, include: Path
) -> list[Path]:
    """Objects in `work`, from sources that stay in `to` for people to read.  Raises BuildError."""
    sources = [to / "stubs.c"]
    sources[0].write_text(text)
    for variant, symbols in generator.variants.items():
        sources.append(to / f"variant-{variant.name}.c")
        sources[-1].write_text(variant_text(variant, symbols))
    sources += sorted(generator.bodies)

    def make(source: Path) -> Path:
        made = work / f"stub-{source.parent.name}-{source.stem}.o"
        flags = ["-g0", "-fno-builtin", f"-I{include}"]
        flags += ["-Werror"] if source == sources[0] else []  # what people wrote may warn
        compile_c(image, source, made, like=LIKE, extra=flags, cached=False)
        return made

    with ThreadPoolExecutor(settings().jobs) as threads:
        return list(threads.map(make, sources))
