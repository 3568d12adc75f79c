# SPDX-License-Identifier: GPL-2.0
"""Kernels of cardboard, so that the plugin's own logic is tested in milliseconds.

Inner test runs install them in place of the real packages; test_real.py checks the same things
on a real kernel.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Image:
    id: str = "cafe"
    release: str = "6.1.0-fake"
    source: str = ""
    flavour: str = ""

    def of_refused(self) -> str:
        return f"{self.flavour}: 1 of its values can't be had" if "/" in self.flavour else ""


class Report:
    kind = "panic"
    places = ()

    def summary(self) -> str:
        return "panic: cardboard burns\n  fake_function at fake.c:42"

    def render(self) -> str:
        return f"{self.summary()}\nregisters: of cardboard"


@dataclass
class Frame:
    time_ns: int
    dev: int
    direction: str
    data: bytes


@dataclass
class Stub:
    number: int
    symbol: str
    kind: str = "function"
    why: str = ""

    @property
    def generated(self) -> bool:
        return self.kind in ("function", "data")


STUBS = [
    Stub(0, "loud"),
    Stub(1, "calm", why="it does nothing"),
    Stub(2, "idle", why="nobody calls it"),
    Stub(-1, "datum", "data", "it is read only"),
    Stub(-1, "absent", "variant", "the kernel's own"),
    Stub(-1, "ours", "body", "we wrote it"),
]


class Instance:
    image_base = 0

    def __init__(self) -> None:
        self.crash: Report | None = None
        self.frames: list[Frame] = []
        self.noticed: list[Any] = []
        self.life = self
        self.loaded = self
        self.stubs = {1: 2}
        """As at boot."""

    def forget(self) -> None:
        self.noticed.clear()

    def describe(self, address: int) -> str:
        return ""

    def captured(self, dev: int | None = None, clear: bool = True) -> list[Frame]:
        return self.frames


class Host:
    made: Iterator[int] = itertools.count()

    def __init__(self, image: Image, **options: Any) -> None:
        self.number = next(Host.made)
        self.options = options
        self.alive = True
        self.instances = [Instance()]

    def close(self) -> None:
        self.alive = False


class Log:
    lost = 0

    def __init__(self) -> None:
        self.lines = ["Linux version 6.1.0-fake"]

    def __getitem__(self, index: slice) -> list[str]:
        return self.lines[index]

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)

    def failures(self) -> list[str]:
        return [line for line in self.lines if line.startswith("WARNING")]


class Kernel:
    """Its state is a list and its log."""

    warnings = 0

    current: Host

    def __init__(self, instance: Instance, image: Image) -> None:
        self.instance = instance
        self.image = image
        self.state: list[object] = []
        self.log = Log()
        self.saved: list[tuple[list[object], list[str]]] = []
        self.restores = 0
        self.floor = 0

    def snapshot(self) -> int:
        self.saved.append((list(self.state), list(self.log.lines)))
        return len(self.saved)

    def restore(self, snapshot: int) -> None:
        self.restores += 1
        del self.saved[snapshot:]
        state, lines = self.saved[-1]
        self.state, self.log.lines = list(state), list(lines)
        self.instance.crash = None

    def drop(self, snapshot: int) -> None:
        del self.saved[snapshot - 1 :]

    def panic(self) -> None:
        from anykernel.errors import KernelCrash

        report: Any = Report()
        self.instance.crash = report
        raise KernelCrash(report)


def ensure_image(source: str, flavour: str, *, config: Any = None, progress: Any = None) -> Image:
    if source == "broken":
        from anykernel.errors import SourceError

        print("BUILD TRIED", file=sys.__stderr__)
        raise SourceError("no such tree; give a directory")
    if source == "uncompiled":
        from anykernel.errors import BuildError

        print("BUILD TRIED", file=sys.__stderr__)
        raise BuildError("the kernel doesn't compile", tail="net/ipv4/icmp.c:1: error: no")
    if source == "slow" and progress:
        progress("unpacking linux", 0, 0)
        progress("net/core/dev.o", 300, 1200)
    return Image(source=source, flavour=flavour)


def link_image(image: Image, components: Any, folders: Any = ()) -> Image:
    if "net/ipv5" in components:
        from anykernel.errors import UsageError

        raise UsageError("this kernel has no component 'net/ipv5'")
    names = ",".join([*components, *(folder.name for folder in folders)])
    return Image(id=f"part-{names}", source=image.source, flavour=image.flavour)


def ledger(image: Image) -> list[Stub]:
    return STUBS


def install() -> None:
    """Puts the fakes where the plugin imports the real things from."""
    modules: dict[str, dict[str, Any]] = {
        "anykernel.build": {"ensure_image": ensure_image},
        "anykernel.host": {"Host": Host, "Frame": Frame},
        "anykernel.kernel": {"Kernel": Kernel},
        "anykernel.link.image": {"link_image": link_image, "ledger": ledger},
        "anykernel.kernel.pcap": {"write_pcap": lambda path, frames: path.write_bytes(b"pcap")},
    }
    for name, values in modules.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        sys.modules[name] = module
