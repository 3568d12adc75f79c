# SPDX-License-Identifier: GPL-2.0
"""The kernel's own variants: only those that its headers have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anykernel.kernel import Kernel
from anykernel.link.policy import load
from anykernel.link.variants import offered, variant_text


def test_what_the_headers_have(kernel: Kernel) -> None:
    policy = load()
    mptcp = policy.variants["mptcp_init"]
    # Declared for kernels with MPTCP only, used by others' inlines, and nowhere at all.
    absent = dict.fromkeys(("mptcp_write_options", "mptcp_get_reset_option", "mptcp_x"), mptcp)
    wished = replace(policy, variants={**policy.variants, **absent})
    found = offered(kernel.image, wished, ["mptcp_init"]).variants
    assert "mptcp_init" in found
    assert "mptcp_incoming_options" in found
    assert absent.keys() & found.keys() == set()
    assert "vlan_do_receive" not in found, "of other variants nothing was asked"


@pytest.mark.parametrize("missing", [[], ["tcp_v4_rcv"]])
def test_nothing_is_asked(kernel: Kernel, missing: list[str]) -> None:
    assert offered(kernel.image, load(), missing).variants == {}


def test_the_text_names_each_once() -> None:
    variant = load().variants["mptcp_init"]
    text = variant_text(variant, ["mptcp_init", "mptcp_space"])
    assert text.count(".globl mptcp_init") == 1
    assert text.index("#undef CONFIG_MPTCP") < text.index("#include <net/mptcp.h>")
