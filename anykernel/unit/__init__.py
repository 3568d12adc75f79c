# SPDX-License-Identifier: GPL-2.0
"""Units: a few C files of a kernel, loaded without booting one, called from Python."""

from anykernel.unit.mocks import Mock
from anykernel.unit.unit import Unit

__all__ = ["Mock", "Unit"]
