# SPDX-License-Identifier: GPL-2.0
"""anykernel: a real Linux kernel as a library, for tests.  Importing it does nothing."""
