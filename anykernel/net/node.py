# SPDX-License-Identifier: GPL-2.0
"""A node of a network: a kernel, whose time is the network's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

from anykernel.errors import UsageError
from anykernel.kernel import Kernel

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.host import Instance
    from anykernel.kernel.background import Scheduler
    from anykernel.net.link import Link, Port


class Node(Kernel):
    """A Kernel with a name and with ports; snapshots are the network's."""

    def __init__(self, instance: Instance, image: Image) -> None:
        super().__init__(instance, image)
        self.index = instance.index
        self.name = f"n{self.index}"
        self.ports: list[Port] = []
        self.kept = False
        """Its first snapshot is of how it was booted."""
        self.printed = 0 if self.log.failures() else len(self.log.text())
        """Characters that its log had when it was booted; 0 if it complained then."""

    def __repr__(self) -> str:
        return f"<Node {self.name}, Linux {self.image.release} at {self.clock.seconds:.6f} s>"

    def keep(self) -> None:
        """Takes its first snapshot."""
        self.instance.snapshot()
        self._save()
        self.kept = True

    def join(self, name: str, scheduler: Scheduler) -> None:
        """It is part of a network from now on."""
        self.name = name
        self.ports = []
        self.instance.record(False)
        self._workers.scheduler = scheduler
        host = name.encode()[:64]
        self.syscall("sethostname", host, len(host))
        # As Python has it: who sends to nobody gets BrokenPipeError.
        self.os.sigaction(signal.SIGPIPE, "ignore")

    @property
    def crashed(self) -> bool:
        """Whether its kernel is dead: links and snapshots of others go on without it."""
        return self.instance.crash is not None  # type: ignore[attr-defined]

    def record(self) -> None:
        self.instance.record(True)

    def _next_mac(self) -> bytes:
        """02:00:<node>:<device>: no two nodes of a network have the same."""
        self._macs += 1
        return b"\x02\0" + (self.index + 1).to_bytes(2, "big") + self._macs.to_bytes(2, "big")

    def port(self, link: Link | str) -> Port:
        """Its end of a link.  Raises UsageError."""
        for port in self.ports:
            if port.link is link or port.link.name == link:
                return port
        raise UsageError(f"{self.name} has no end of {link}")

    def snapshot(self) -> NoReturn:
        raise UsageError("a node is saved with its network: network.snapshot()")

    def restore(self, snapshot: int) -> NoReturn:
        raise UsageError("a node is restored with its network: network.restore()")

    def drop(self, snapshot: int) -> NoReturn:
        raise UsageError("a node's snapshots are its network's: network.drop()")
