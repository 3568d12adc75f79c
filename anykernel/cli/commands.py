# SPDX-License-Identifier: GPL-2.0
"""The commands: doctor, build, components, boot, shell, suite, cache."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.host import Host

SOURCE = click.option(
    "--source",
    default="debian:6.1",
    show_default=True,
    help="debian:6.1, debian:6.1.170-3, a folder, git:FOLDER@REVISION or a tarball.",
)
FLAVOUR = click.option("--flavour", default="default", show_default=True)
SEED = click.option("--seed", default=0, show_default=True, help="Of the kernel's randomness.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-anykernel")
def cli() -> None:
    """A real Linux kernel, built as a library, for tests."""


@cli.command()
def doctor() -> None:
    """Says what is missing on this machine, and how to get it."""
    from anykernel.cli.doctor import checks

    wrong = []
    for check in checks():
        mark = click.style("ok     ", fg="green") if check.ok else click.style("missing", fg="red")
        click.echo(f"{mark} {check.what}" + ("" if check.ok else f": {check.why}"))
        if not check.ok:
            wrong.append(check)
    packages = sorted({check.package for check in wrong if check.package})
    if packages:
        click.echo(f"\nOn Debian: apt-get install {' '.join(packages)}")
    sys.exit(1 if wrong else 0)


@cli.command()
@SOURCE
@FLAVOUR
@click.option("--config", multiple=True, metavar="SYMBOL=VALUE", help="Kconfig on top.")
@click.option("--quiet", is_flag=True, help="Print only the library's path.")
def build(source: str, flavour: str, config: tuple[str, ...], quiet: bool) -> None:
    """Builds a kernel (once) and says where it is."""
    image = _image(source, flavour, config)
    if quiet:
        click.echo(image.library)
        return
    click.echo(f"Linux {image.release}, flavour {flavour}, image {image.id}")
    click.echo(f"library  {image.library}\nsymbols  {image.vmlinux}\ntree     {image.tree}")


@cli.command()
@click.argument("name", required=False)
@SOURCE
@FLAVOUR
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def components(name: str | None, source: str, flavour: str, as_json: bool) -> None:
    """Lists the parts that a kernel is made of; with NAME, all about one."""
    import json

    from anykernel.cli.components import as_dict, details, table
    from anykernel.link.components import components as parts
    from anykernel.link.components import find

    found = parts(_image(source, flavour, ()))
    chosen = [find(found, name)] if name else list(found.values())
    if as_json:
        click.echo(json.dumps([as_dict(one) for one in chosen], indent=1))
    elif name:
        click.echo(details(chosen[0]))
    else:
        table(chosen)


@cli.command()
@SOURCE
@FLAVOUR
@SEED
def boot(source: str, flavour: str, seed: int) -> None:
    """Boots a kernel, shows its log and how long it took."""
    image = _image(source, flavour, ())
    with _host(image, seed) as host:
        instance = host.instances[0]
        click.echo(instance.console()[1].decode(errors="replace"), nl=False)
        click.echo(f"Linux {image.release} booted in {instance.boot_ns / 1e6:.1f} ms")


@cli.command()
@SOURCE
@FLAVOUR
@SEED
def shell(source: str, flavour: str, seed: int) -> None:
    """A Python prompt with `kernel`, a booted kernel."""
    import code

    from anykernel.kernel import Kernel

    image = _image(source, flavour, ())
    with _host(image, seed) as host:
        kernel = Kernel(host.instances[0], image)
        banner = (
            f"Linux {image.release} in process {host.pid}. Try: kernel.log, "
            "kernel.os.listdir('/'), kernel.sysctl['net.ipv4.ip_forward'], "
            "kernel.add_netdev('eth0')"
        )
        code.interact(banner=banner, local={"kernel": kernel}, exitmsg="")


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@SOURCE
@FLAVOUR
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def suite(name: str | None, source: str, flavour: str, pytest_arguments: tuple[str, ...]) -> None:
    """Runs a shipped suite on a kernel; without NAME, lists them.  More arguments go to pytest."""
    import subprocess

    from anykernel.cli.suites import find, names

    if name is None:
        click.echo("\n".join(names()))
        return
    folder = find(name)
    # Before pytest captures the terminal: a first build takes minutes.
    _image(source, flavour, ())
    arguments = [
        f"--kernel-source={source}",
        f"--kernel-flavour={flavour}",
        "-p",
        "no:cacheprovider",
    ]
    argv = [sys.executable, "-m", "pytest", str(folder), f"--rootdir={folder}"]
    sys.exit(subprocess.run([*argv, *arguments, *pytest_arguments]).returncode)


@cli.group()
def cache() -> None:
    """What has been downloaded and built."""


@cache.command("list")
def cache_list() -> None:
    """Lists sources and images with their sizes."""
    from anykernel import cache as store
    from anykernel.settings import settings

    click.echo(settings().cache_dir)
    for kind in ("sources", "trees", "objects", "images"):
        for path in sorted(store.directory(kind).iterdir()):
            if path.is_dir() and not path.name.startswith(store.PREFIX):
                click.echo(f"  {kind:8} {path.name:36} {_size(path) / 1e6:8.0f} MB")


@cache.command("verify")
def cache_verify() -> None:
    """Looks for damage; a damaged entry is removed and will be made again."""
    from anykernel import cache as store

    damaged = 0
    for kind in ("sources", "images"):
        for path in sorted(store.directory(kind).iterdir()):
            if not path.is_dir() or path.name.startswith(store.PREFIX):
                continue
            if store.load(kind, path.name) is None:
                damaged += 1
                click.echo(f"{kind}/{path.name} was damaged and is removed")
    click.echo("all else is whole" if damaged else "all is whole")


@cache.command("prune")
@click.option("--days", default=30, show_default=True, help="Keep what was used since.")
def cache_prune(days: int) -> None:
    """Removes builds and images that were not used for a while, and half-made leftovers."""
    from anykernel import cache as store

    freed = 0
    for kind in ("images", "objects", "trees"):
        store.sweep(store.directory(kind))
        for path in store.directory(kind).iterdir():
            unused = time.time() - path.stat().st_mtime > days * 86400
            if unused and not path.name.startswith(store.PREFIX):
                freed += _size(path)
                store.remove(path)
    click.echo(f"freed {freed / 1e6:.0f} MB")


@cache.command("clear")
@click.confirmation_option(prompt="Remove all sources, builds and images?")
def cache_clear() -> None:
    """Removes everything; it can all be fetched and built again."""
    from anykernel import cache as store
    from anykernel.settings import settings

    for kind in ("images", "objects", "trees", "sources", "apt", "host"):
        store.remove(settings().cache_dir / kind)


def _image(source: str, flavour: str, config: tuple[str, ...]) -> Image:
    from anykernel.build import ensure_image
    from anykernel.cli.progress import terminal_progress

    values = {}
    for item in config:
        symbol, equals, value = item.partition("=")
        if not equals:
            raise click.BadParameter(f"{item!r}: write SYMBOL=VALUE, as in NET_SCH_FQ=y")
        values[symbol] = value
    with terminal_progress() as progress:
        return ensure_image(source, flavour, config=values or None, progress=progress)


def _host(image: Image, seed: int) -> Host:
    from anykernel.host import Host

    return Host(image, seed=seed)


def _size(path: Path) -> int:
    """Bytes below a folder, links not followed."""
    return sum(p.lstat().st_size for p in path.rglob("*") if not p.is_dir())
