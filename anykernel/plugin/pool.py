# SPDX-License-Identifier: GPL-2.0
"""Booted kernels of one pytest run: kept between tests, pristine when handed out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anykernel.plugin.options import KernelOptions

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.host import Host
    from anykernel.link.unit import Spec

UNIT_MEMORY = 16 << 20
IDLE_MOST = 8
"""Idle kernels that are kept for later tests; each costs a process and about 10 MB."""
NETWORK_MOST = 4096
"""Nodes of a network; those that were never used cost nothing."""

ImageKey = tuple[str, str, tuple[tuple[str, str], ...], tuple[str, ...] | None]


@dataclass(eq=False)
class Lease:
    """One booted kernel, lent to one test."""

    options: KernelOptions
    image: Image
    host: Host
    kernel: Any
    """anykernel.kernel.Kernel; or anykernel.unit.Unit, anykernel.net.Network, which are restored
    the same way."""
    booted: int
    """Snapshot of the booted kernel."""
    printed: int
    """Characters that its log had then."""
    example: int | None = None
    """Snapshot of what the test's fixtures made of it; only with Hypothesis."""
    unit: Spec | None = None
    """What it is made of, if it is a unit and no kernel."""
    network: bool = False
    """It is a network of kernels."""
    stubs: dict[int, int] = field(default_factory=dict)
    """How often each stub was reached, as far as that is written down."""
    begun: dict[int, int] = field(default_factory=dict)
    """By id(): what kernels had printed when the test began, where that was after their boot."""
    known: dict[int, int] = field(default_factory=dict)
    """By id(): how many failures their logs had then."""
    retired: bool = False
    """It was well, but is not to be used again; its end is no failure."""
    threads: frozenset[threading.Thread] = field(
        default_factory=lambda: frozenset(threading.enumerate())
    )
    """Those of Python that were there before the test."""

    @property
    def dead(self) -> bool:
        """The host process is gone: nothing can be restored."""
        return not self.host.alive

    def forget(self) -> None:
        """What its kernels did since the snapshot that was restored is nobody's failure."""
        for instance in self.host.instances:
            instance.life.forget()

    @property
    def crashed(self) -> bool:
        return not self.retired and self._crashed

    @property
    def _crashed(self) -> bool:
        return self.dead or any(one.crash is not None for one in self.host.instances)

    @property
    def kernels(self) -> list[tuple[str, Any, int]]:
        """Its kernels: their names (empty for the only one), they, and how much each had printed
        before the test, in characters."""
        if self.network:
            booted = [(name, node, node.printed) for name, node in self.kernel.nodes.items()]
        else:
            booted = [] if self.unit else [("", self.kernel, self.printed)]
        return [(name, one, self.begun.get(id(one), printed)) for name, one, printed in booted]

    def begin(self) -> None:
        """A test begins; what was before isn't its."""
        self.begun, self.known = {}, {}
        for _, one, printed in self.kernels:
            self.begun[id(one)] = len(one.log.text())
            if self.begun[id(one)] != printed:
                self.known[id(one)] = len(one.log.failures())
        self.forget()
        self.threads = frozenset(threading.enumerate())

    def strangers(self) -> bool:
        """Whether the test has left threads of Python behind, which may go on with the kernel."""
        now = frozenset(threading.enumerate())
        return any(thread.is_alive() for thread in now - self.threads)

    # The test's own snapshots lie above ours, which it can't drop nor go behind: another could
    # have their number then.

    def snapshot(self) -> int:
        """One of ours."""
        number: int = self.kernel.snapshot()
        self.kernel.floor = number
        return number

    def restore(self, snapshot: int) -> None:
        """Back to a snapshot of ours; what was since is nobody's failure."""
        if self.network:
            self.kernel.hub.clear()
        self.kernel.floor = snapshot
        self.kernel.restore(snapshot)
        self.forget()

    def drop(self, snapshot: int, floor: int) -> None:
        """Forgets it; floor: that of before."""
        self.kernel.floor = floor
        self.kernel.drop(snapshot)


class Pool:
    """Builds images once, boots kernels on demand and restores them between tests."""

    def __init__(
        self, build: Callable[[KernelOptions], Image], policies: Sequence[Path] = ()
    ) -> None:
        self._build = build
        self._policies = policies
        self._images: dict[ImageKey, Image | Exception] = {}
        self._idle: list[Lease] = []
        self.booted = 0
        """Kernels booted so far."""

    def image(self, options: KernelOptions) -> Image:
        """The image of `options`.  A failed build fails again without being tried again."""
        key = (options.source, options.flavour, options.config, options.components)
        if key not in self._images:
            try:
                self._images[key] = self._make(options)
            except Exception as error:
                self._images[key] = error
        found = self._images[key]
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def _make(self, options: KernelOptions) -> Image:
        if options.components is None:
            return self._build(options)
        from anykernel.link.image import link_image

        whole = self.image(replace(options, components=None))
        return link_image(whole, options.components, self._policies)

    def take(
        self, options: KernelOptions, unit: Spec | None = None, network: bool = False
    ) -> Lease:
        """A pristine kernel, or unit of one, or network, that nobody else has."""
        for position in range(len(self._idle) - 1, -1, -1):
            idle = self._idle[position]
            if (idle.options, idle.unit, idle.network) == (options, unit, network):
                lease = self._idle.pop(position)
                try:
                    lease.restore(lease.booted)  # who had it may have used it even since then
                except Exception:
                    # Its process ended while nobody had it: a new one is as good.
                    self._close(lease)
                    break
                lease.threads = frozenset(threading.enumerate())
                return lease
        if network:
            return self._connect(options)
        return self._boot(options) if unit is None else self._load(options, unit)

    def simulate(self, options: KernelOptions) -> Lease:
        """An ns-3 simulation, for one test: give_back() doesn't keep it once its host is closed."""
        from anykernel.net.ns3 import simulation

        self._check_network(options)
        image = self.image(options)
        network = simulation(
            image,
            kernels=NETWORK_MOST,
            **options.of_host(),
        )
        return Lease(options, image, network.host, network, 0, 0, network=True)

    def give_back(self, lease: Lease) -> None:
        """The test is over.  A kernel that crashed, or that somebody may still use, is not used
        again."""
        if lease in self._idle:
            return
        # Of very many nodes not all can be had again as they were booted.
        many = lease.network and len(lease.host.instances) > lease.host.c.HK_FEW
        lease.retired |= not lease.crashed and (many or lease.strangers())
        if lease.retired or lease.crashed:
            self._close(lease)
            return
        lease.example = None
        lease.begun, lease.known = {}, {}
        self._idle.append(lease)
        while len(self._idle) > IDLE_MOST:
            self._close(self._idle.pop(0))

    def make_pristine(self, leases: Sequence[Lease]) -> None:
        """Restores those that were given back.  Raises HostDied when something has written over
        what was saved of one, which is not used again."""
        for lease in leases:
            if lease not in self._idle:
                continue
            try:
                lease.restore(lease.booted)
            except Exception:
                self._idle.remove(lease)
                self._close(lease)
                raise

    def close(self) -> None:
        """Ends all idle kernels."""
        while self._idle:
            self._close(self._idle.pop())

    def _boot(self, options: KernelOptions) -> Lease:
        from anykernel.host import Host
        from anykernel.kernel import Kernel

        image = self.image(options)
        host = Host(image, clock=options.clock, **options.of_host())
        try:
            kernel = Kernel(host.instances[0], image)
            booted = kernel.snapshot()
            # A kernel that complained at boot does so in each test's name.
            wrong = kernel.warnings or kernel.log.failures()
            printed = 0 if wrong else len(kernel.log.text())
            kernel.floor = booted
            lease = Lease(options, image, host, kernel, booted, printed)
        except BaseException:
            host.close()
            raise
        self.booted += 1
        return lease

    def _load(self, options: KernelOptions, spec: Spec) -> Lease:
        from anykernel.host import Host
        from anykernel.link.unit import link_unit
        from anykernel.unit import Unit

        whole = self.image(replace(options, components=None))
        image = link_unit(whole, spec, self._policies)
        host = Host(image, memory=UNIT_MEMORY, seed=options.seed, budget=options.budget)
        try:
            unit = Unit(host.instances[0], image, whole)
            lease = Lease(options, image, host, unit, 0, 0, unit=spec)
            lease.booted = lease.snapshot()
            return lease
        except BaseException:
            host.close()
            raise

    @staticmethod
    def _check_network(options: KernelOptions) -> None:
        from anykernel.errors import UsageError

        if options.clock != "virtual":
            raise UsageError("a network has one clock, which is virtual: leave clock= out")

    def _connect(self, options: KernelOptions) -> Lease:
        from anykernel.host import Host
        from anykernel.net import Network

        self._check_network(options)
        image = self.image(options)
        host = Host(image, kernels=NETWORK_MOST, clock="network", **options.of_host())
        return Lease(options, image, host, Network(host, image), 0, 0, network=True)

    @staticmethod
    def _close(lease: Lease) -> None:
        with contextlib.suppress(Exception):
            lease.host.close()
