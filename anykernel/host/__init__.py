# SPDX-License-Identifier: GPL-2.0
"""The sandboxed C process that kernels run in, and Python's hold on it."""

from anykernel.host.frames import Frame
from anykernel.host.instance import Instance
from anykernel.host.memory import Buffer, UserMemory
from anykernel.host.process import Host
from anykernel.host.report import CrashReport
from anykernel.host.snapshots import Snapshot

__all__ = ["Buffer", "CrashReport", "Frame", "Host", "Instance", "Snapshot", "UserMemory"]
