# SPDX-License-Identifier: GPL-2.0
"""From a source tree to a kernel library: compose, configure, compile."""

from anykernel.build.image import Image, ensure_image
from anykernel.build.kbuild import Progress

__all__ = ["Image", "Progress", "ensure_image"]
