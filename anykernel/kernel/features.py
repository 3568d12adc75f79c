# SPDX-License-Identifier: GPL-2.0
"""What the hardware of a netdev can, by the names that ethtool -k shows."""

from __future__ import annotations

from collections.abc import Iterable

from anykernel.errors import UsageError

FEATURES = (
    "tx-scatter-gather",
    "tx-checksum-ip-generic",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-udp-segmentation",
    "tx-gso-partial",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "rx-checksum",
    "rx-gro-hw",
    "tx-vlan-hw-insert",
    "rx-vlan-hw-parse",
)
"""In the order of enum lib_netdev_feature in liblinux.h."""


def mask(features: Iterable[str] | None) -> int:
    """The bits of enum lib_netdev_feature; None are all.  Raises UsageError for unknown names."""
    if features is None:
        return (1 << len(FEATURES)) - 1
    names = (features,) if isinstance(features, str) else tuple(features)
    bits = 0
    for name in names:
        if name not in FEATURES:
            raise UsageError(
                f"a netdev has no feature {name!r}; there are, as ethtool -k calls them, "
                + ", ".join(FEATURES)
            )
        bits |= 1 << FEATURES.index(name)
    return bits
