# SPDX-License-Identifier: GPL-2.0
"""Options that several commands have: which kernel, and how it boots."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from anykernel.build import Image

F = TypeVar("F", bound=Callable[..., Any])
UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


class Size(click.ParamType[int]):
    """Bytes: 67108864, 64M, 64MiB, 1G."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is no size: write bytes, or as in 64M", param, context)
        return int(match[1]) << UNITS[match[2].upper()]


class Components(click.ParamType[tuple[str, ...]]):
    """Names with commas between; `base` alone is the smallest kernel."""

    name = "A,B"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name for name in (part.strip() for part in value.split(",")) if name)
        if not names:
            self.fail(f"{value!r} names no component: `anykernel components` lists them")
        return () if names == ("base",) else names


SOURCE = click.option(
    "--source",
    default="debian:6.1",
    show_default=True,
    help="debian:6.1, debian:6.1.170-3, a folder, git:FOLDER@REVISION or a tarball.",
)
FLAVOUR = click.option(
    "--flavour",
    default="default",
    show_default=True,
    help="The configuration: default, wide, debug, or a file, as in ./my.config.",
)
CONFIG = click.option(
    "--config",
    multiple=True,
    metavar="SYMBOL=VALUE",
    help="A Kconfig value over the flavour's, as in NET_SCH_FQ=y; may be given again.",
)
BOOTING = (
    click.option(
        "--seed",
        type=click.IntRange(0, (1 << 64) - 1),
        default=0,
        show_default=True,
        help="Same seed, same random numbers in the kernel.",
    ),
    click.option(
        "--memory", type=Size(), default="64M", show_default=True, help="RAM, as in 128M."
    ),
    click.option("--cmdline", default="", metavar="TEXT", help="The kernel's command line."),
    click.option(
        "--budget",
        type=click.FloatRange(0, min_open=True),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a request may keep the kernel busy; then it counts as locked up.",
    ),
    click.option(
        "--cost",
        type=click.FloatRange(0, 1e-3),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Virtual time that each system call and each packet takes.",
    ),
    click.option(
        "--components",
        type=Components(),
        help="Only these parts and what they require, or a named image; base is the smallest.",
    ),
)


JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


def whole(command: F) -> F:
    """--source, --flavour and --config."""
    for option in (CONFIG, FLAVOUR, SOURCE):
        command = option(command)
    return command


def booting(command: F) -> F:
    """What Host takes, and --components."""
    for option in reversed(BOOTING):
        command = option(command)
    return command


def image_of(
    source: str,
    flavour: str,
    config: tuple[str, ...] = (),
    components: tuple[str, ...] | None = None,
) -> Image:
    """The image that these options name, built with progress on stderr if it is absent."""
    from anykernel.build import ensure_image
    from anykernel.cli.progress import terminal_progress
    from anykernel.errors import UsageError
    from anykernel.link.image import link_image
    from anykernel.symbols import assignments

    try:
        values = assignments(config)
    except UsageError as error:
        raise click.BadParameter(str(error), param_hint="--config") from None
    with terminal_progress() as progress:
        found = ensure_image(source, flavour, config=values or None, progress=progress)
        part = found if components is None else link_image(found, components)
    if refused := found.of_refused():
        click.echo(refused, err=True)
    return part
