# SPDX-License-Identifier: GPL-2.0
"""Property-based packets: fast serialisation (packets) and Hypothesis strategies (strategies)."""
