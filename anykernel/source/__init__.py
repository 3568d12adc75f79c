# SPDX-License-Identifier: GPL-2.0
"""Pristine kernel sources: from a specification to a tree on disk."""

from anykernel.source.spec import fetch
from anykernel.source.tree import Tree

__all__ = ["Tree", "fetch"]
