# SPDX-License-Identifier: GPL-2.0
"""Adds to a failing test what its kernels have to say: log, crash, packets, how to replay."""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from anykernel.plugin.fixtures import LEASES
from anykernel.plugin.pool import Lease

if TYPE_CHECKING:
    from anykernel.host import Frame
    from anykernel.kernel import Kernel
    from anykernel.net import Network

LOG_LINES = 60
PACKETS = 20


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    leases = item.stash.get(LEASES, None)
    if report.failed and leases:
        for position, lease in enumerate(leases):
            label = f" of kernel {position + 1}" if len(leases) > 1 else ""
            for title, text in _sections(item, lease, position):
                report.sections.append((f"{title}{label}", text))
        report.sections.append(("Replay", _replay(item, leases)))
    return report


def _sections(item: pytest.Item, lease: Lease, position: int) -> list[tuple[str, str]]:
    """What can still be had; a dead host must not hide the test's own failure."""
    makers = [
        (f"Kernel log{f' of node {name}' if name else ''}", partial(_log, kernel, printed))
        for name, kernel, printed in lease.kernels
    ]
    makers.append(("Kernel crash", partial(_crash, lease)))
    makers.append(("Last packets", partial(_packets, item, lease, position)))
    found = []
    for title, make in makers:
        try:
            text = make()
        except Exception as error:
            text = f"(not to be had: {type(error).__name__}: {error})"
        if text:
            found.append((title, text))
    return found


def _log(kernel: Kernel, printed: int) -> str:
    text = kernel.log.text()
    booting = text[:printed].count("\n")
    lines = text[printed:].splitlines()
    if not lines and isinstance(getattr(kernel, "name", None), str):
        return ""  # of many nodes, those that say something
    before = [f"... {booting} lines of its boot"] if booting else []
    if len(lines) > LOG_LINES:
        before.append(f"... {len(lines) - LOG_LINES} lines")
    return "\n".join([*before, *lines[-LOG_LINES:]])


def _crash(lease: Lease) -> str:
    reports = [instance.crash for instance in lease.host.instances]
    return "\n".join(report.render() for report in reports if report is not None)


def _packets(item: pytest.Item, lease: Lease, position: int) -> str:
    if lease.network:
        return _passages(lease.kernel)
    frames = lease.host.instances[0].captured(clear=False)
    if not frames:
        return ""
    from anykernel.kernel.pcap import write_pcap

    path = _pcap_path(item, position)
    write_pcap(path, frames)
    lines = [f"{'time':>14}  dev  way  bytes  packet"]
    lines += [_row(frame) for frame in frames[-PACKETS:]]
    if len(frames) > PACKETS:
        lines.insert(1, f"... {len(frames) - PACKETS} before")
    lines.append(f"all of them: {path}")
    return "\n".join(lines)


def _passages(network: Network) -> str:
    """Of all links, in the order in which they were sent."""
    recent = network.wire.recent()
    if not recent:
        return ""
    lines = [f"{'time':>14}  {'link':<16}  {'sender':<10}  {'became':<10}  bytes  packet"]
    if len(recent) > PACKETS:
        lines.append(f"... {len(recent) - PACKETS} before")
    for passage in recent[-PACKETS:]:
        link, sender = network.ends(passage)
        lines.append(
            f"{passage.time_ns / 1e9:>14.9f}  {link:<16}  {sender:<10}  {passage.verdict:<10}  "
            f"{passage.length:>5}  {_summary(passage.data)}"
        )
    lines.append("a pcap file of a link: `with link.pcap(path):`")
    return "\n".join(lines)


def _row(frame: Frame) -> str:
    time = f"{frame.time_ns / 1e9:.9f}"
    way = "in" if frame.direction == "rx" else "out"
    return f"{time:>14}  {frame.dev:>3}  {way:<3}  {len(frame.data):>5}  {_summary(frame.data)}"


def _summary(data: bytes) -> str:
    """One line by scapy, which is slow to import but only needed here, or the first bytes."""
    try:
        from scapy.layers import inet, inet6  # noqa: F401  (they register the protocols)
        from scapy.layers.l2 import Ether

        return str(Ether(data).summary())
    except Exception:
        return data[:24].hex(" ")


def _pcap_path(item: pytest.Item, position: int) -> Path:
    """In pytest's temporary folder, which keeps those of the last runs."""
    factory = getattr(item.config, "_tmp_path_factory", None)
    if factory is None:  # -p no:tmpdir
        import tempfile

        folder = Path(tempfile.mkdtemp(prefix="anykernel-"))
    else:
        folder = factory.getbasetemp() / "packets"
        folder.mkdir(exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", item.nodeid).strip("-")[-100:]
    return Path(folder / f"{name}{f'-{position + 1}' if position else ''}.pcap")


def _replay(item: pytest.Item, leases: list[Lease]) -> str:
    first = leases[0]
    command = f"pytest {shlex.quote(item.nodeid)} {first.options.replay()}"
    seed = item.config.getoption("hypothesis_seed", None)
    if seed is not None:
        command += f" --hypothesis-seed={seed}"
    images = ", ".join(dict.fromkeys(f"{x.image.release} (image {x.image.id})" for x in leases))
    return f"{command}\nkernel {images}"
