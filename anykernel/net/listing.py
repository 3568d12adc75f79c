# SPDX-License-Identifier: GPL-2.0
"""A network in words: its links, their devices, and the addresses that these have now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anykernel.net import units

if TYPE_CHECKING:
    from anykernel.net.link import Link, Port
    from anykernel.net.network import Network


def describe(network: Network) -> str:
    """A line for each link and each of its ends; names are whole, however long."""
    rows = [_row(port) for link in network.links for port in link.ports]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = []
    for link in network.links:
        lines.append(_head(link))
        for port in link.ports:
            *cells, last = _row(port)
            padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append("  ".join(["", *padded, last]).rstrip())
    alone = [name for name, node in network.nodes.items() if not node.ports]
    lines += [f"{name}: no link" for name in alone]
    return "\n".join(lines)


def _head(link: Link) -> str:
    words = [link.kind]
    if link.cable.rate is not None:
        words.append(units.rate_text(units.rate(link.cable.rate)))
    if link.cable.delay:
        words.append(units.duration_text(units.duration(link.cable.delay)))
    if not link.is_up:
        words.append("down")
    return f"{link.name} ({', '.join(words)})"


def _row(port: Port) -> tuple[str, str, str, str]:
    has = " ".join(port.addresses) or "no address"
    crashed = ", crashed" if port.node.crashed else ""
    info = port.netdev.seen()
    return port.node.name, info.name, info.mac.hex(":"), has + crashed
