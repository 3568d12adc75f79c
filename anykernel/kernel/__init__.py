# SPDX-License-Identifier: GPL-2.0
"""The kernel under test: Kernel and what hangs from it."""

from anykernel.kernel.kernel import Kernel
from anykernel.kernel.process import Process

__all__ = ["Kernel", "Process"]
