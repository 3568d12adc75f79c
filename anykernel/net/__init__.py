# SPDX-License-Identifier: GPL-2.0
"""Many kernels, joined by simulated links under one virtual clock."""
