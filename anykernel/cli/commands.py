# SPDX-License-Identifier: GPL-2.0
"""The commands: doctor, build, menuconfig, components, stubs, boot, shell, suite, gdb, cache."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from anykernel.cli.caching import cache
from anykernel.cli.options import FLAVOUR, JSON, SOURCE, booting, image_of, whole

UNSAID = click.core.ParameterSource.DEFAULT


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-anykernel")
def cli() -> None:
    """A real Linux kernel, built as a library, for tests.

    Begin with `anykernel doctor`, then `anykernel suite smoke`.
    """


@cli.command()
@JSON
def doctor(as_json: bool) -> None:
    """Says what is missing on this machine, and how to get it."""
    from anykernel.cli.doctor import checks

    found = list(checks())
    if as_json:
        click.echo(json.dumps([asdict(check) for check in found], indent=1))
        sys.exit(0 if all(check.ok for check in found) else 1)
    wrong = []
    for check in found:
        mark = click.style("ok     ", fg="green") if check.ok else click.style("missing", fg="red")
        click.echo(f"{mark} {check.what}" + ("" if check.ok else f": {check.why}"))
        if not check.ok:
            wrong.append(check)
    packages = sorted({check.package for check in wrong if check.package})
    if packages:
        click.echo(f"\nOn Debian: apt-get install {' '.join(packages)}")
    sys.exit(1 if wrong else 0)


@cli.command()
@whole
@click.option("--quiet", is_flag=True, help="Print only the library's path.")
@JSON
def build(source: str, flavour: str, config: tuple[str, ...], quiet: bool, as_json: bool) -> None:
    """Builds a kernel (once) and says where it is.

    The first build takes minutes, what is in the cache is there at once.
    """
    image = image_of(source, flavour, config)
    if quiet:
        click.echo(image.library)
        return
    if as_json:
        said = {name: getattr(image, name) for name in ("id", "release", "source", "flavour")}
        paths = ("library", "vmlinux", "config", "tree")
        said |= {name: str(getattr(image, name)) for name in paths}
        click.echo(json.dumps(said, indent=1))
        return
    click.echo(f"Linux {image.release}, flavour {flavour}, image {image.id}")
    click.echo(f"library  {image.library}\nsymbols  {image.vmlinux}\ntree     {image.tree}")


@cli.command()
@SOURCE
@click.argument("fragment", type=click.Path(dir_okay=False, writable=True, path_type=Path))
def menuconfig(source: str, fragment: Path) -> None:
    """Changes a configuration in the kernel's own menu, and saves it as FRAGMENT.

    FRAGMENT (my.config) has what differs from the flavour `default`, and is a flavour itself:
    anykernel build --flavour ./my.config, pytest --kernel-flavour=./my.config. What it had before
    is kept as my.config.old.
    """
    from anykernel.build.menu import choose
    from anykernel.source import fetch

    if fragment.suffix != ".config":
        raise click.BadParameter(f"{fragment}: a fragment's name ends in .config")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("the menu needs a terminal")
    count = choose(fetch(source, lambda text: click.echo(text, err=True)), fragment)
    click.echo(f"{fragment}: {count} values that differ from the flavour default")


@cli.command()
@click.argument("name", required=False)
@SOURCE
@FLAVOUR
@JSON
def components(name: str | None, source: str, flavour: str, as_json: bool) -> None:
    """Lists the parts that a kernel is made of; with NAME, all about one."""
    from anykernel.cli.components import as_dict, details, table
    from anykernel.link.components import components as parts
    from anykernel.link.components import find

    found = parts(image_of(source, flavour))
    chosen = [find(found, name)] if name else list(found.values())
    if as_json:
        click.echo(json.dumps([as_dict(one) for one in chosen], indent=1))
    elif name:
        click.echo(details(chosen[0]))
    else:
        table(chosen)


@cli.command()
@click.argument("image", required=False)
@SOURCE
@FLAVOUR
@click.option(
    "--policy",
    "folders",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="A folder of further stub policies; may be given again.",
)
@JSON
@click.option(
    "--write",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Write the text of each named image to FOLDER/6.1/IMAGE.txt.",
)
def stubs(
    image: str | None,
    source: str,
    flavour: str,
    folders: tuple[Path, ...],
    as_json: bool,
    folder: Path | None,
) -> None:
    """Lists what stands in for the absent parts of IMAGE, and why that is harmless.

    IMAGE is the name of one of the policy's images, or components with commas between. Without
    IMAGE: all named images, and grants that none of them needs.
    """
    from anykernel.cli import stubs as show

    if image is not None and folder is not None:
        raise click.UsageError("--write is for all named images at once")
    whole = image_of(source, flavour)
    found = [show.read(whole, image, folders)] if image else show.named(whole, folders)
    if folder:
        click.echo("\n".join(map(str, show.write(found, folder))))
    elif as_json:
        click.echo(json.dumps([show.as_dict(one) for one in found], indent=1))
    elif image:
        click.echo(show.text(found[0]), nl=False)
    else:
        show.table(found)
        if left := show.unused(found, folders):
            click.echo(f"granted, but lacked by none of these: {', '.join(left)}")


@cli.command()
@whole
@booting
def boot(
    source: str,
    flavour: str,
    config: tuple[str, ...],
    components: tuple[str, ...] | None,
    **options: Any,
) -> None:
    """Boots a kernel, shows its log and how long it took."""
    from anykernel.host import Host
    from anykernel.visible import visible

    image = image_of(source, flavour, config, components)
    with Host(image, **options) as host:
        instance = host.instances[0]
        click.echo(visible(bytes(instance.life.said()).decode(errors="replace")), nl=False)
        click.echo(f"Linux {image.release} booted in {instance.boot_ns / 1e6:.1f} ms")


@cli.command()
@whole
@booting
@click.option("--log", is_flag=True, help="Show what the kernel prints, as it prints it.")
def shell(
    source: str,
    flavour: str,
    config: tuple[str, ...],
    components: tuple[str, ...] | None,
    log: bool,
    **options: Any,
) -> None:
    """A Python prompt with `kernel`, a booted kernel.

    Tab completes; Ctrl-C ends a call and keeps the kernel; restart() boots anew; Ctrl-D ends.
    Where stdin is no terminal, what it has is run as `python -` would.
    """
    from anykernel.cli import shell as prompt

    image = image_of(source, flavour, config, components)
    with prompt.session(image, options, log) as opened:
        status = prompt.run(opened)
    sys.exit(status)


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@whole
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def suite(
    name: str | None,
    source: str,
    flavour: str,
    config: tuple[str, ...],
    pytest_arguments: tuple[str, ...],
) -> None:
    """Runs a shipped suite on a kernel; without NAME, lists them.

    All other arguments go to pytest: anykernel suite smoke -k ping --kernel-seed=5
    A file of the suite, or a test in it, takes the place of all: anykernel suite smoke test_udp.py
    """
    from anykernel.cli.suites import chosen, find, names

    if name is None:
        context = click.get_current_context()
        given = (context.get_parameter_source(one) for one in ("source", "flavour", "config"))
        if any(one is not UNSAID for one in given):
            raise click.UsageError(f"which suite? There are: {', '.join(names())}")
        click.echo("\n".join(names()))
        return
    folder = find(name)
    # Before pytest captures the terminal: a first build takes minutes.
    image_of(source, flavour, config)
    arguments = [
        f"--kernel-source={source}",
        f"--kernel-flavour={flavour}",
        *(f"--kernel-config={one}" for one in config),
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",  # a suite may have modules of its own
    ]
    paths, others = chosen(folder, pytest_arguments)
    argv = [sys.executable, "-m", "pytest", *paths, f"--rootdir={folder.parent}"]
    # In our place: Ctrl-C and the exit code are pytest's.
    os.execv(sys.executable, [*argv, *arguments, *others])


@cli.command()
@click.argument("pid", required=False, type=int)
@click.option(
    "-x",
    "--execute",
    multiple=True,
    metavar="COMMAND",
    help="A command of gdb that is executed first; may be given again.",
)
@click.option("--print", "only_print", is_flag=True, help="Print gdb's command line, no more.")
def gdb(pid: int | None, execute: tuple[str, ...], only_print: bool) -> None:
    """Attaches gdb to the process PID that a kernel runs in, with the kernel's symbols.

    Without PID: to the only one, or a list. The kernel stands still meanwhile, and its budget does
    not run out. In gdb, `crash` shows a kernel that has crashed as it was then.
    """
    from anykernel.cli.processes import choose
    from anykernel.host.gdb import attach, by_hand, of_process

    chosen = choose(pid)
    images = of_process(chosen)
    if only_print:
        click.echo(by_hand(chosen, images))
    else:
        attach(chosen, images, execute)


cli.add_command(cache)
