# SPDX-License-Identifier: GPL-2.0
"""The commands of `anykernel cache`: list, verify, remove, prune, clear."""

from __future__ import annotations

import json
import time

import click

from anykernel.cli.options import JSON


@click.group()
def cache() -> None:
    """What has been downloaded and built."""


@cache.command("list")
@JSON
def cache_list(as_json: bool) -> None:
    """Lists sources, builds and images: where they are, their sizes, when they were made and used
    last, and what of."""
    from anykernel.cli import stored
    from anykernel.settings import settings

    found = stored.entries()
    root, ccache = settings().cache_dir, settings().ccache_dir
    total = sum(one.size for one in found)
    compiler = stored.size(ccache) if ccache.is_dir() else 0
    if as_json:
        entries = [one.as_dict() for one in found]
        whole = {"path": str(root), "entries": entries, "bytes": total}
        click.echo(
            json.dumps({**whole, "ccache": {"path": str(ccache), "bytes": compiler}}, indent=1)
        )
        return
    click.echo(root)
    wide = max([len(str(one.path)) for one in found] + [len(str(ccache))])
    now = time.time()
    for one in found:
        made = stored.age(now - one.made) if one.made else ""
        line = f"  {one.kind:8} {one.path!s:{wide}} {one.size / 1e6:8.0f} MB  "
        line += f"{made:>8} {stored.age(now - one.used):>8}  {one.about}"
        click.echo(line.rstrip())
    if ccache.is_dir():
        click.echo(f"  ccache   {ccache!s:{wide}} {compiler / 1e6:8.0f} MB")
    click.echo(f"  {'all but ccache':{wide + 9}}{total / 1e6:8.0f} MB  (made, used, what of)")


@cache.command("verify")
@JSON
def cache_verify(as_json: bool) -> None:
    """Looks for damage: reads all files of all entries and compares their checksums. A damaged
    entry is removed and will be made again."""
    from anykernel import cache as store
    from anykernel.cli import stored

    whole = 0
    damaged: list[dict[str, str]] = []
    stay: list[dict[str, str]] = []
    for kind in ("sources", "images", "units", "code", "host"):
        for path in stored.ours(kind):
            if not path.is_dir() or path.is_symlink():
                continue
            wrong = store.damage(path)
            if wrong is None:
                whole += 1
            elif not path.exists():  # a process that uses it has seen the same
                continue
            else:
                gone = stored.remove(kind, path) is not None and not path.exists()
                where = damaged if gone else stay
                where.append({"kind": kind, "name": path.name, "path": str(path), "how": wrong})
    if as_json:
        click.echo(json.dumps({"whole": whole, "removed": damaged, "damaged": stay}, indent=1))
    else:
        for one in damaged:
            click.echo(f"{one['kind']}/{one['name']} was damaged and is removed: {one['how']}")
        for one in stay:
            click.echo(f"{one['path']} is damaged and can't be removed: {one['how']}", err=True)
        click.echo("all else is whole" if damaged or stay else "all is whole")
    if stay:
        raise SystemExit(1)


@cache.command("remove")
@click.argument("what")
def cache_remove(what: str) -> None:
    """Removes one entry, or all of one source.

    WHAT is a name as `anykernel cache list` shows it, its path, or a source: debian:6.1, a folder,
    git:FOLDER@REVISION or a tarball. With a kernel go the images and units that were made of it.
    """
    from anykernel.cli import stored

    freed, stay = 0, False
    for kind, path in stored.find(what):
        removed = stored.remove(kind, path)
        if removed is None:
            stay = True
            click.echo(f"{kind}/{path.name} is being built and stays", err=True)
            continue
        freed += removed
        click.echo(f"removed {kind}/{path.name}")
    click.echo(f"freed {freed / 1e6:.0f} MB")
    if stay:
        raise SystemExit(1)


@cache.command("prune")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=30,
    show_default=True,
    help="Keep what was used in the last DAYS days.",
)
def cache_prune(days: int) -> None:
    """Removes builds and images that were not used for a while, and half-made leftovers.

    Sources stay, and what another process is building.
    """
    from anykernel import cache as store
    from anykernel.cli import stored

    freed = 0
    for kind in ("images", "units", "code", "objects", "trees", "host", "states", "bench"):
        store.sweep(store.directory(kind))
        for path in stored.ours(kind):
            if time.time() - path.stat().st_mtime > days * 86400:
                freed += stored.remove(kind, path) or 0
    click.echo(f"freed {freed / 1e6:.0f} MB")


@cache.command("clear")
@click.confirmation_option(prompt="Remove all sources, builds and images?")
def cache_clear() -> None:
    """Removes all sources, builds and images; they can be fetched and built again.

    Files of other programs stay, ccache's among them, and what another process is building.
    """
    from anykernel.cli import stored

    freed = 0
    for kind in stored.NAMES:
        for path in stored.ours(kind, parts=True):
            removed = stored.remove(kind, path)
            if removed is None:
                click.echo(f"{kind}/{path.name} is being built and stays", err=True)
            freed += removed or 0
    click.echo(f"freed {freed / 1e6:.0f} MB")
