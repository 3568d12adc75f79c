# SPDX-License-Identifier: GPL-2.0
"""Pictures of networks: who is linked to whom, who sent what when, and curves over virtual time.

PNG or SVG by the path's suffix; the same input gives the same bytes.  matplotlib is imported when
the first picture is drawn, and its settings are put back.
"""

from anykernel.net.plot.graph import tiers, topology
from anykernel.net.plot.ladder import Step, sequence
from anykernel.net.plot.lines import curves

__all__ = ["Step", "curves", "sequence", "tiers", "topology"]
