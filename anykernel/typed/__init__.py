# SPDX-License-Identifier: GPL-2.0
"""C values in Python: structs by field, pointers, arrays and functions of a kernel or a unit."""

from anykernel.typed.functions import Function
from anykernel.typed.names import Names
from anykernel.typed.space import Space
from anykernel.typed.values import Array, Pointer

__all__ = ["Array", "Function", "Names", "Pointer", "Space"]
