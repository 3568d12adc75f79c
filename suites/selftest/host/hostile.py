# SPDX-License-Identifier: GPL-2.0
"""Clients of hosts that lie (hostile.c), or whose memory somebody else writes to: whatever they do
ends as a result or as an error of ours, soon.

``python -m suites.selftest.host.hostile liar|poked FIRST COUNT``: runs so many seeds; its own
process, since it may hang or die.  Prints what came of them, or the traceback of what should not.
"""

from __future__ import annotations

import collections
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from anykernel.build.image import Image
from anykernel.errors import AnykernelError, HostDied
from anykernel.host import Host, Instance, process
from anykernel.host.compiled import C_COMPILER, compiled, headers
from anykernel.net.engine import Engine
from anykernel.net.wire import Wire
from suites.selftest.host import fake

HERE = Path(__file__).resolve().parent
WAYS = (
    "garbage", "plausible", "rings", "statuses", "bell", "sleeper", "spinner", "quitter",
    "flooder", "dozer", "never ready", "odd ready", "dies booting", "again", "full", "teaser",
)  # fmt: skip
"""By the seed modulo their number, as in hostile.c."""
BUDGET = 0.05
MEMORY = 16 << 20
FINE = (AnykernelError, OSError)
"""Errors of ours; and those of system calls, of a kernel that says that they failed."""


@cache
def program() -> Path:
    """The host program that lies."""
    return compiled("hostile", C_COMPILER, [HERE / "hostile.c"], headers())


@cache
def image() -> Image:
    """The fake kernel's."""
    return fake.build(Path(tempfile.mkdtemp()))


def liar(seed: int, **options: Any) -> Host:
    """A hostile host.  What it does is said by WAYS[seed % len(WAYS)]."""
    given = {"memory": MEMORY, "budget": BUDGET, "program": program(), **options}
    return Host(image(), seed=seed, **given)


def look(instance: Instance) -> Iterator[Callable[[], object]]:
    """All that there is to read of a kernel without asking its host."""
    yield lambda: instance.now
    yield lambda: instance.console(0)
    yield lambda: instance.console_lost(0)
    yield lambda: instance.captured(clear=False)
    yield lambda: instance.drain()
    yield lambda: instance.signals
    yield lambda: instance.stubs
    yield lambda: (instance.warnings, instance.boot_ns, instance.hot_pages)
    yield lambda: (instance.image_base, instance.ram_end)
    yield lambda: instance.crash and instance.crash.render()


def ask(instance: Instance) -> Iterator[Callable[[], object]]:
    """Requests of each kind."""
    yield lambda: instance.syscall(fake.Fake.GLOBAL, 1)
    yield lambda: instance.syscall(fake.Fake.GLOBAL, 1, timeout=1.0)
    yield lambda: instance.post(fake.Fake.GLOBAL, 1, task=0)
    yield lambda: instance.poll(0)
    yield lambda: instance.wait(0, 1.0)
    yield lambda: instance.cancel(0)
    yield lambda: instance.call(0x1000, [1, 2])
    yield lambda: instance.spawn(0)
    yield lambda: instance.show_tasks()
    yield lambda: instance.run()
    yield lambda: instance.settle(1000)
    yield lambda: instance.netdev_add("eth%d", bytes(6), 1500)
    yield lambda: instance.netdev_del(0)
    yield lambda: instance.inject(0, [bytes(60)] * 3)
    yield lambda: instance.exchange(0, [bytes(60)] * 3)
    yield lambda: instance.restore(instance.snapshot())
    yield lambda: instance.read_memory(0x200000000, 100)
    yield lambda: instance.write_memory(0x200000000, bytes(100))
    yield lambda: instance.memory_hash()


def network(host: Host) -> Iterator[Callable[[], object]]:
    """Requests to a network."""
    engine, wire = Engine(host), Wire(host)
    stop = wire.listen(lambda passage: None)
    yield lambda: host.boot()
    yield lambda: engine.command("HK_JOIN")
    yield lambda: engine.command("HK_LINK", 0, 1)
    yield lambda: engine.command("HK_PLUG", 0, 1)
    yield lambda: engine.pipe_stats(0, towards=False)
    yield lambda: engine.run(engine.now + 1000)
    yield lambda: engine.asked()
    yield lambda: engine.batch([("HK_SNAPSHOT", 0, 0)] * 3)
    yield lambda: (engine.trace, engine.progress)
    yield lambda: wire.drain()
    yield lambda: wire.recent()
    yield lambda: host.attended()
    yield stop


def tried(use: Callable[[], object], seen: collections.Counter[str]) -> None:
    try:
        use()
        seen["result"] += 1
    except FINE as error:
        seen[type(error).__name__] += 1


def run_liar(seed: int, seen: collections.Counter[str]) -> None:
    """All requests, in a random order, to one host that lies."""
    rng = random.Random(seed)
    clock = rng.choice(["virtual", "real", "network"])
    try:
        host = liar(seed, clock=clock, kernels=rng.choice([1, 3]))
    except FINE as error:
        seen[f"boot: {type(error).__name__}"] += 1
        return
    with host:
        instances = host.instances or [Instance(host, 0)]
        for _ in range(2):
            uses = [*ask(instances[-1]), *(network(host) if clock == "network" else ())]
            instances[-1].listen(Listener().hear)
            rng.shuffle(uses)
            for use in uses[:12]:
                tried(use, seen)
                for see in rng.sample(list(look(rng.choice(instances))), 3):
                    tried(see, seen)
                if not host.alive:
                    seen["ended"] += 1
                    return


class Listener:
    """Who hears frames."""

    def __init__(self) -> None:
        self.heard = 0

    def hear(self, frame: object) -> None:
        self.heard += 1


@contextmanager
def poking(host: Host, rng: random.Random) -> Iterator[None]:
    """Another thread writes to what a kernel can write to, all the time."""
    c = host.c
    places = [
        (0, 256), (c.HK_COMMANDS_AT, 96), (c.HK_OUT_AT, 4096), (c.HK_KERNELS_AT, 2048),
        (c.HK_KERNELS_AT + c.HK_CAPTURE_AT, 4096), (c.HK_IN_AT, 4096),
    ]  # fmt: skip
    values = [0, 1, 255, (1 << 31) - 1, (1 << 32) - 1, 1 << 62, (1 << 64) - 1]
    over = threading.Event()

    def poke() -> None:
        while not over.is_set():
            start, size = rng.choice(places)
            at = start + rng.randrange(size // 8) * 8
            value = rng.choice(values) if rng.random() < 0.7 else rng.getrandbits(64)
            host.view[at : at + 8] = value.to_bytes(8, "little")
            time.sleep(rng.random() * 0.0004)

    thread = threading.Thread(target=poke)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def run_poked(seed: int, seen: collections.Counter[str]) -> None:
    """Requests to a real host with the fake kernel, while another writes to its memory."""
    rng = random.Random(seed)
    with Host(image(), memory=MEMORY, budget=BUDGET, seed=seed) as host:
        (instance,) = host.instances
        listener = Listener()
        instance.listen(listener.hear)
        with poking(host, rng):
            for _ in range(3):
                for use in rng.sample([*ask(instance), *look(instance)], 12):
                    tried(use, seen)
                    if not host.alive:
                        seen["ended"] += 1
                        return


def main(what: str, first: int, count: int) -> None:
    process.BOOTING, process.GRACE = 0.2, 0.05
    run = {"liar": run_liar, "poked": run_poked}[what]
    seen: collections.Counter[str] = collections.Counter()
    spent: dict[str, float] = dict.fromkeys(WAYS, 0.0)
    for seed in range(first, first + count):
        begun = time.monotonic()
        try:
            run(seed, seen)
        except HostDied:  # Instance() of a host that lies about where it lies
            seen["HostDied"] += 1
        except BaseException:
            print(f"seed {seed} ({WAYS[seed % len(WAYS)]})", flush=True)
            raise
        spent[WAYS[seed % len(WAYS)]] += time.monotonic() - begun
    print(dict(seen))
    print({way: round(seconds, 1) for way, seconds in spent.items()}, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
