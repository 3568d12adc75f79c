# SPDX-License-Identifier: GPL-2.0
"""Allocations that fail on purpose: the Nth one, for each N, until the operation passes.

SQLite tests itself this way (https://www.sqlite.org/malloc.html): whatever memory runs out
first, the operation must fail cleanly or succeed, and keep nothing.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from anykernel.errors import KernelError, LeakedMemory, UsageError

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.typed import Space
    from anykernel.unit import Unit

COUNTERS = struct.Struct("<4Q")
"""struct lib_failing (overlay/lib/kernel/failing.c) and unit_failing: seen, from, to, failed."""
STACK = struct.Struct("<17Q")
"""Behind it, of a kernel only: depth, and the stack of the last that failed."""
HOOKS = {
    "should_failslab": "lib_should_failslab",
    "should_fail_alloc_page": "lib_should_fail_alloc_page",
}
"""Functions of the kernel's fault injection (mm/failslab.c, mm/page_alloc.c), and ours for them."""
JUMP = b"\xe9"
LEAKS = "/sys/kernel/debug/kmemleak"
OLD_ENOUGH = 6
"""Seconds after which kmemleak looks at an allocation (MSECS_MIN_AGE, mm/kmemleak.c)."""


def failing_allocations(
    target: Kernel | Unit, *, sticky: bool = False, leaks: bool = True, most: int = 2000
) -> Iterator[Fault]:
    """Runs a block again and again, with another allocation failing each time::

        for fault in failing_allocations(kernel):
            with fault:
                kernel.socket()

    The first time the first allocation in the block fails, then the second, until none is left
    to fail.  Each time begins with the same state.  An OSError in the block is how an operation
    is expected to fail; everything else, a crash above all, fails the test and says which
    allocation it was.

    sticky: all from the Nth on fail.  leaks: look for memory that got lost; a kernel needs
    kmemleak for that, @pytest.mark.kernel(cmdline="kmemleak=on").  most: give up after so many.

    Raises UsageError, LeakedMemory.
    """
    allocator = _allocator(target, leaks)
    start = target.snapshot()
    for number in itertools.count(1):
        if number > most:
            raise UsageError(f"there is no end: {most} allocations failed, one after the other")
        fault = Fault(allocator, number, sticky, leaks)
        yield fault
        if not fault.over:
            raise UsageError("failing_allocations() needs `with fault:` in its loop")
        if not fault.failed:
            return
        target.restore(start)


class Fault:
    """One turn: allocation `number` fails in the `with` block.

    failed: how many did.  error: the OSError that the block ended with, or None.
    """

    def __init__(self, allocator: _Allocator, number: int, sticky: bool, leaks: bool) -> None:
        self.number = number
        self.failed = 0
        self.error: OSError | None = None
        self.over = False
        self._allocator = allocator
        self._sticky = sticky
        self._leaks = leaks

    def __repr__(self) -> str:
        return f"<Fault: allocation {self.number}{' and all behind it' * self._sticky}>"

    def __enter__(self) -> Fault:
        self._allocator.arm(self.number, (1 << 64) - 1 if self._sticky else self.number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.over = True
        self.failed = self._allocator.failed()
        if error is not None and not (self.failed and isinstance(error, OSError)):
            error.add_note(self._note())
            return False
        self.error = error if isinstance(error, OSError) else None
        self._allocator.arm(0, 0)
        if self.failed and self._leaks:
            try:
                self._allocator.check_leaks()
            except KernelError as leak:
                leak.add_note(self._note())
                raise
        return True

    def _note(self) -> str:
        if not self.failed:
            return f"(allocation {self.number} was to fail, but there were fewer)"
        where = (f"  {line}" for line in self._allocator.where())
        return "\n".join([f"allocation {self.number} failed on purpose:", *where])


class _Allocator:
    """What counts allocations: `at` is where its counters lie."""

    def __init__(self, space: Space, at: str) -> None:
        self._space = space
        self._at = space.address(at)

    def arm(self, first: int, last: int) -> None:
        self._space.write(self._at, COUNTERS.pack(0, first, last, 0))

    def failed(self) -> int:
        return int(COUNTERS.unpack(self._space.read(self._at, COUNTERS.size))[3])

    def where(self) -> list[str]:
        """The stack of the last that failed, as far as it is known."""
        return []

    def check_leaks(self) -> None:
        raise NotImplementedError


def _allocator(target: Any, leaks: bool) -> _Allocator:
    from anykernel.kernel import Kernel

    return _OfKernel(target, leaks) if isinstance(target, Kernel) else _OfUnit(target)


class _OfUnit(_Allocator):
    """The unit's own allocator."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit.space, "unit_failing")
        self._unit = unit

    def check_leaks(self) -> None:
        self._unit.assert_no_leaks()


class _OfKernel(_Allocator):
    """The kernel's own hooks for failing allocations, with our counting behind them."""

    def __init__(self, kernel: Kernel, leaks: bool) -> None:
        super().__init__(kernel.inside.space, "lib_failing")
        self._kernel = kernel
        for hook, ours in HOOKS.items():
            self._redirect(hook, ours)
        if leaks:
            self._watch()

    def _redirect(self, hook: str, ours: str) -> None:
        """Puts a jump to our function over the kernel's."""
        try:
            at = self._space.address(hook)
        except UsageError:
            raise UsageError(
                "this kernel can't fail allocations: it was built without CONFIG_FAILSLAB or "
                "CONFIG_FAIL_PAGE_ALLOC"
            ) from None
        distance = self._space.address(ours) - (at + len(JUMP) + 4)
        self._space.write(at, JUMP + distance.to_bytes(4, "little", signed=True))

    def _watch(self) -> None:
        files = self._kernel.os
        if not files.exists(LEAKS) and files.exists("/sys/kernel/debug"):
            self._kernel.os.mount("debugfs", "/sys/kernel/debug", "debugfs")
        on = "kmemleak=on" in self._kernel.open("/proc/cmdline").read()
        if not (on and files.exists(LEAKS)):
            raise UsageError(
                "looking for leaks needs a kernel with kmemleak: "
                '@pytest.mark.kernel(cmdline="kmemleak=on"); or say leaks=False'
            )

    def where(self) -> list[str]:
        from anykernel.link.symbols import Symbols

        raw = self._space.read(self._at + COUNTERS.size, STACK.size)
        depth, *stack = STACK.unpack(raw)
        symbols = Symbols.of(self._kernel.image.vmlinux)
        base = self._kernel.instance.image_base  # type: ignore[attr-defined]
        found = [symbols.describe(one - 1 - base) for one in stack[:depth]]
        # From the innermost: how the stack was saved, then our hook, then who allocated.
        ours = max(
            (n for n, text in enumerate(found) if text.startswith("lib_should_")), default=-1
        )
        return [text for text in found[ours + 1 :] if text]

    def check_leaks(self) -> None:
        # Once to learn what changes by itself, once to tell; mm/kmemleak.c, update_checksum().
        for _ in range(2):
            self._kernel.clock.advance(OLD_ENOUGH)
            with self._kernel.open(LEAKS, "w") as file:
                file.write("scan")
        report = self._kernel.open(LEAKS).read()
        if report:
            raise LeakedMemory(f"the kernel lost memory:\n{report.rstrip()}")
