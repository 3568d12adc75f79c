# SPDX-License-Identifier: GPL-2.0
"""From a source tree to a kernel library: compose, configure, compile."""

from anykernel.build.image import Image, again, ensure_image
from anykernel.build.kbuild import Progress

__all__ = ["Image", "Progress", "again", "ensure_image"]
