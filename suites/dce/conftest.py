# SPDX-License-Identifier: GPL-2.0
"""What a kernel may have been built without."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anykernel.net.node import Node


@pytest.fixture
def needs_ipv6() -> Callable[[Node], None]:
    """``needs_ipv6(node)`` skips the test where the kernel has no IPv6."""

    def look(node: Node) -> None:
        if not node.os.exists("/proc/sys/net/ipv6"):
            pytest.skip("this kernel has no IPv6")

    return look
