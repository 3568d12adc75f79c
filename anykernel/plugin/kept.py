# SPDX-License-Identifier: GPL-2.0
"""Files of a failing test with all that its report has no room for, in pytest's own folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from anykernel.plugin.packets import passages
from anykernel.plugin.pool import Lease

RULE = "-" * 20


def keep(item: pytest.Item, when: str, leases: list[Lease], error: BaseException) -> list[str]:
    """Writes them; lines that say where they are."""
    try:
        stem = _stem(item, when)
        pcaps = [x for x in (_pcap(stem, n, lease) for n, lease in enumerate(leases)) if x]
        path = stem.with_name(f"{stem.name}.txt")
        path.write_text(_everything(item, leases, error, pcaps), errors="backslashreplace")
    except Exception as failure:  # a full disk must not hide the test's own failure
        return [f"(no file with the rest: {type(failure).__name__}: {failure})"]
    return [f"all of it: {path}", *(f"all packets: {one}" for one in pcaps)]


def _stem(item: pytest.Item, when: str) -> Path:
    """In pytest's temporary folder, which keeps those of the last runs; each worker of xdist has
    its own."""
    factory = getattr(item.config, "_tmp_path_factory", None)
    if factory is None:  # -p no:tmpdir
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="anykernel-"))
    else:
        folder = factory.getbasetemp() / "kernels"
        folder.mkdir(exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", item.nodeid).strip("-")[-100:]
    stem = Path(folder / (name if when == "call" else f"{name}-{when}"))
    number = 1
    while stem.with_name(f"{stem.name}.txt").exists():  # a rerun, or a name that was cut
        number += 1
        stem = folder / f"{name}-{number}"
    return stem


def _pcap(stem: Path, position: int, lease: Lease) -> Path | None:
    frames = [] if lease.network else lease.host.instances[0].captured(clear=False)
    if not frames:
        return None
    from anykernel.kernel.pcap import write_pcap

    path = stem.with_name(f"{stem.name}{f'-{position + 1}' if position else ''}.pcap")
    write_pcap(path, frames)
    return path


def _everything(
    item: pytest.Item, leases: list[Lease], error: BaseException, pcaps: list[Path]
) -> str:
    from anykernel.visible import visible

    parts = [f"{item.nodeid}\n\n{type(error).__name__}: {error}"]
    tasks = getattr(error, "tasks", "")
    if tasks:
        parts.append(_part("tasks of the kernel", str(tasks)))
    for position, lease in enumerate(leases):
        of = f" of kernel {position + 1}" if len(leases) > 1 else ""
        for instance in lease.host.instances:
            report = instance.crash
            if report is not None:
                parts.append(_part(f"crash{of}", report.render()))
        for name, kernel, printed in lease.kernels:
            node = f" of node {name}" if name else of
            parts.append(_part(f"log{node}, of this test", log_since(kernel, printed)))
            if not lease.network:
                parts.append(_part(f"log{node}, of its boot", kernel.log.text()[:printed]))
        if lease.network:
            rows = passages(lease.kernel, 1 << 30)
            parts.append(_part(f"packets{of}", "\n".join(rows)))
    parts += [_part("packets", str(path)) for path in pcaps]
    return visible("\n".join(parts)) + "\n"


def _part(title: str, text: str) -> str:
    return f"\n{RULE} {title} {RULE}\n{text or '(nothing)'}"


def log_since(kernel: Any, printed: int) -> str:
    """What a kernel has printed since its boot: in the life of this test."""
    from anykernel.visible import visible

    return visible(kernel.log.text()[printed:])
