# SPDX-License-Identifier: GPL-2.0
"""Linked images: what is in them."""
