# SPDX-License-Identifier: GPL-2.0
"""The border: all that is read of the memory which is shared with a host.

The kernel under test can write there by mistake, and a hostile host program anything at any time.
So each value is read once and checked before it is used: a number against what it may be, a place
against the memory that there is, a count against what has room.  What can't be is a BorderError,
which ends the host; what could be, but isn't true, is just a wrong value.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from anykernel.errors import MOST_ERRNO, BorderError
from anykernel.host import compiled
from anykernel.host.frames import Ring

ENDLESS = 1 << 62
"""Times in ns, counters, and positions in what only grows are below."""
ADDRESSES = 1 << 47
"""Addresses of user space are below."""
MAX_TASKS = 256
MAX_NETDEVS = 256
SIGNALS = 65
PAGE = 4096
HEADS = struct.Struct("<Q8xQ")
"""struct hk_kernel: console_head, console_seen, capture_head."""


class Signal(NamedTuple):
    """A signal that a task caught."""

    time_ns: int
    task: int
    number: int


class Death(NamedTuple):
    """What is written of a kernel's end.  Registers and addresses are any numbers of 64 bits."""

    kind: int
    what: str
    address: int
    ip: int
    sp: int
    bp: int
    registers: list[int]
    stack_from: int
    stack: bytes
    pid: int
    comm: str


class Place(NamedTuple):
    """Where a kernel lies: its image, then its memory."""

    image: int
    image_end: int
    ram_end: int


class Border:
    """The memory that is shared with one host.  All that reads it may raise BorderError."""

    def __init__(self, fd: int, kernels: int, end_host: Callable[[], None]) -> None:
        self.ffi, self.lib, self.c = compiled.client()
        c = self.c
        size = c.HK_KERNELS_AT + kernels * c.HK_KERNEL_SIZE
        os.ftruncate(fd, size)
        self._map = mmap.mmap(fd, size)
        self.view = memoryview(self._map)
        self.base: Any = self.ffi.from_buffer(self._map)
        self.kernels = kernels
        self._end_host = end_host
        self._header: Any = self.ffi.cast("struct hk_header *", self.base)
        self._header.magic = c.HK_MAGIC
        self._header.version = c.HK_VERSION
        self.commands: Any = self.ffi.cast("struct hk_command *", self.base + c.HK_COMMANDS_AT)
        self._client = self.ffi.new("struct hk_client *")
        self.ring: Callable[[int, int], int] = partial(self.lib.hk_call, self._header, self._client)
        """Rings for so many of the first commands, and waits as wait() does."""
        self._parts: dict[int, Part] = {}
        self.crashed: set[int] = set()
        """The kernels of which the host has said that they crashed."""
        wire = self.view[c.HK_WIRE_AT : c.HK_WIRE_AT + c.HK_WIRE_SIZE]
        verdicts = range(len(self.ffi.typeof("enum hk_verdict").elements))
        kinds = frozenset(v | way for v in verdicts for way in (0, c.HK_TOWARDS))
        self.wire = Ring("wire", wire, self._header, "wire", 1 << 31, kinds, self.lie)

    def raw(self, index: int) -> Any:
        """struct hk_kernel of kernel `index`, to be written."""
        if not 0 <= index < self.kernels:
            raise IndexError(f"kernel {index} of {self.kernels}")
        offset = self.c.HK_KERNELS_AT + index * self.c.HK_KERNEL_SIZE
        return self.ffi.cast("struct hk_kernel *", self.base + offset)

    def part(self, index: int) -> Part:
        """What there is to read of kernel `index`."""
        found = self._parts.get(index)
        if found is None:
            found = self._parts[index] = Part(self, index)
        return found

    def interrupt(self, on: bool) -> None:
        """Whether the host is to end the command that runs, as soon as its kernel lets it."""
        self._header.interrupt = on

    # -- checks ---------------------------------------------------------------------------

    def lie(self, field: str, value: object, should: str) -> BorderError:
        """Ends the host, and gives the error to raise: `field` can't have this value."""
        self._end_host()
        return BorderError(field, value, should)

    def below(self, field: str, value: Any, limit: int) -> int:
        """`value`, if it is one of 0 to `limit` - 1."""
        number = int(value)
        if 0 <= number < limit:
            return number
        raise self.lie(field, number, f"from 0 to {limit - 1}")

    def errno(self, field: str, result: Any) -> int:
        """The errno of a refused request, from -errno."""
        number = -int(result)
        if 0 < number <= MOST_ERRNO:
            return number
        raise self.lie(field, -number, f"a negative errno, -{MOST_ERRNO} at least")

    def out(self, size: int, what: str) -> Any:
        """The first `size` bytes of what the host gave back, as of this moment."""
        area = self.c.HK_OUT_SIZE
        if not 0 <= size <= area:
            raise self.lie(what, size, f"at most the {area} bytes that have room")
        return self.view[self.c.HK_OUT_AT : self.c.HK_OUT_AT + size]

    def given(self, kind: str, count: int = 1) -> Any:
        """An array of the `count` structs of type `kind` that the host gave back, as of this
        moment.  Its members are gone with it."""
        size = self.ffi.sizeof(f"struct {kind}")
        copy = bytearray(self.out(count * size, f"the number of struct {kind}"))
        return self.ffi.from_buffer(f"struct {kind}[]", copy)

    # -- the doorbell ---------------------------------------------------------------------

    def wait(self, slice_ns: int) -> int:
        """Waits up to `slice_ns` ns: HK_CALL_DONE, which is 0; HK_CALL_NEWS: done, and a kernel has
        warned, or has half a console to read; HK_CALL_LATER, HK_CALL_FULL: a ring is to be
        read first, or HK_CALL_LIES: somebody else wrote to the doorbell."""
        return int(self.lib.hk_wait(self._header, self._client, slice_ns))

    def bell(self) -> BorderError:
        """What HK_CALL_LIES is about."""
        values = f"doorbell {int(self._header.doorbell)}, done {int(self._header.done)}"
        return self.lie("hk_header", values, f"both {self._client.rung}, as it was rung last")

    def full(self) -> int | None:
        """The ring that is to be read before the host goes on: that of kernel number - 1, or
        HK_WIRE_FULL.  None: the host, which waited, has given the request up."""
        number = int(self._header.full)
        if number == self.c.HK_WIRE_FULL:
            return number
        return self.below("hk_header.full", number, self.kernels + 1) or None

    def go_on(self) -> None:
        """The ring has been read."""
        self.lib.hk_go_on(self._header)

    # -- the header -----------------------------------------------------------------------

    def ready(self) -> bool:
        """All kernels that are booted at first have booted."""
        ready = int(self._header.ready)
        if ready not in (0, self.kernels):
            raise self.lie("hk_header.ready", ready, f"0 or {self.kernels}")
        return ready != 0

    def victim(self) -> int:
        """The kernel that a command has made crash."""
        index = self.below("hk_header.crashed", int(self._header.crashed) - 1, self.kernels)
        self.crashed.add(index)
        return index

    @property
    def now(self) -> int:
        """The network's time, ns."""
        return self.below("hk_header.now", self._header.now, ENDLESS)

    @property
    def trace(self) -> int:
        """A hash: any number."""
        return int(self._header.trace)

    @property
    def user_windows(self) -> tuple[int, int]:
        """Where the first kernel sees its user memory, and how far from there the next one."""
        return int(self._header.user_first), int(self._header.user_stride)

    @property
    def progress(self) -> int:
        """When a job last ended a round, ns."""
        return self.below("hk_header.progress", self._header.progress, ENDLESS)

    @property
    def asked(self) -> int:
        """Frames that wait for a verdict."""
        return int(self._header.asked)

    def keep_wire(self, whole: bool) -> None:
        """Whether the host waits rather than overwrite what has not been read of the wire ring."""
        self._header.wire_whole = whole


class Part:
    """What there is to read of one kernel."""

    def __init__(self, border: Border, index: int) -> None:
        self._border = border
        self._raw = border.raw(index)
        self._name = f"hk_kernel[{index}]"
        self.index = index
        c = border.c
        self.at = c.HK_KERNELS_AT + index * c.HK_KERNEL_SIZE
        self._printed = 0
        at = self.at + border.ffi.offsetof("struct hk_kernel", "console_head")
        self._heads = border.view[at : at + HEADS.size]
        self._place: Place | None = None
        ring = border.view[self.at + c.HK_CAPTURE_AT :][: c.HK_CAPTURE_SIZE]
        self.capture = Ring(
            self._name, ring, self._raw, "capture", MAX_NETDEVS, frozenset((0, 1)), border.lie
        )

    def _below(self, field: str, limit: int = ENDLESS) -> int:
        return self._border.below(f"{self._name}.{field}", getattr(self._raw, field), limit)

    @property
    def now(self) -> int:
        """ns since boot."""
        return self._below("now")

    @property
    def deadline(self) -> int:
        """The time of its next timer; the largest number where it has none."""
        return int(self._raw.deadline)

    @property
    def warnings(self) -> int:
        """Stack traces that it printed."""
        return self._below("warnings")

    @property
    def boot_ns(self) -> int:
        """Wall time of loading and booting."""
        return self._below("boot_ns")

    @property
    def hot_pages(self) -> int:
        """Pages that the last restore copied."""
        return self._below("hot_pages")

    @property
    def place(self) -> Place:
        """Where it lies: that was read when it had booted, and doesn't change."""
        if self._place is None:
            image, end, ram = (
                self._below(name, ADDRESSES) for name in ("image_base", "image_end", "ram_end")
            )
            if not (PAGE <= image < end < ram and image % PAGE == 0):
                places = f"{image:#x}, {end:#x}, {ram:#x}"
                raise self._border.lie(f"{self._name}.image_base", places, "places in this order")
            self._place = Place(image, end, ram)
        return self._place

    @property
    def user_base(self) -> int:
        """Where the kernel sees its user memory."""
        size = int(self._border.c.HK_USER_SIZE)
        first, stride = self._border.user_windows
        base = first + self.index * stride
        if not PAGE <= base <= ADDRESSES - size or base % PAGE:
            raise self._border.lie("hk_header.user_first", first, "the address of a page")
        return base

    # -- the console ----------------------------------------------------------------------

    def heads(self) -> tuple[int, int]:
        """`printed` and `capture.head`: at once, as each restore wants both."""
        printed, captured = HEADS.unpack(self._heads)
        if not self._printed <= printed < ENDLESS or not self.capture.goes_to(captured):
            return self.printed, self.capture.head  # one of them is an error
        self._printed = printed
        return printed, captured

    @property
    def printed(self) -> int:
        """Bytes that it has printed so far."""
        head = self._below("console_head")
        if head < self._printed:
            field = f"{self._name}.console_head"
            raise self._border.lie(field, head, f"at least {self._printed}, as it was before")
        self._printed = head
        return head

    def console(self, since: int) -> tuple[int, bytes]:
        """(bytes printed so far, those from `since` on as far as the ring holds them)."""
        head, size = self.printed, self._border.c.HK_CONSOLE_SIZE
        start = max(since, head - size, 0)
        if start >= head:
            return head, b""
        ring = self._border.view[self.at + self._border.c.HK_CONSOLE_AT :][:size]
        first, last = start % size, head % size
        if first < last:
            return head, bytes(ring[first:last])
        return head, bytes(ring[first:]) + bytes(ring[:last])

    def console_seen(self, head: int) -> None:
        """It has been read up to `head`."""
        self._raw.console_seen = head

    def console_lost(self, since: int) -> int:
        """Bytes from `since` on that the ring doesn't hold any more."""
        return max(0, self.printed - int(self._border.c.HK_CONSOLE_SIZE) - max(since, 0))

    # -- signals, stubs -------------------------------------------------------------------

    def signals(self) -> list[Signal]:
        """The caught signals, the last HK_SIGNALS of them."""
        size, below = self._border.c.HK_SIGNALS, self._border.below
        head = self._below("signals_head")
        found = []
        for position in range(max(0, head - size), head):
            raw = self._raw.signals[position % size]
            name = f"{self._name}.signals[{position % size}]"
            time_ns = below(f"{name}.time", raw.time, ENDLESS)
            task = below(f"{name}.slot", raw.slot, MAX_TASKS)
            number = below(f"{name}.signo", raw.signo - 1, SIGNALS - 1) + 1
            found.append(Signal(time_ns, task, number))
        return found

    def stubs(self) -> dict[int, int]:
        """Number to count of the stubs that were reached."""
        counts = self._border.ffi.unpack(self._raw.stubs, self._border.c.HK_STUBS)
        return {number: count for number, count in enumerate(counts) if count}

    # -- its end --------------------------------------------------------------------------

    @property
    def crash(self) -> int:
        """How it crashed (enum hk_crash), or 0: as the host has said, too."""
        kind = self._below("crash", len(self._border.ffi.typeof("enum hk_crash").elements))
        if kind and self.index not in self._border.crashed:
            should = "0: the host said nothing of a crash"
            raise self._border.lie(f"{self._name}.crash", kind, should)
        return kind

    def death(self) -> Death:
        """How it crashed.  An error where it is said that it did, and nothing says how."""
        raw, c = self._raw, self._border.c
        kinds = len(self._border.ffi.typeof("enum hk_crash").elements)
        kind = self._below("crash", kinds)
        if not kind:
            raise self._border.lie(f"{self._name}.crash", 0, "how it crashed")
        copy = self.at + c.HK_REPORT_SIZE - c.HK_STACK_COPY
        size = self._below("stack_bytes", c.HK_STACK_COPY + 1)
        return Death(
            kind=kind,
            what=self._text(raw.what),
            address=int(raw.fault_address),
            ip=int(raw.ip),
            sp=int(raw.sp),
            bp=int(raw.bp),
            registers=[int(value) for value in raw.regs],
            stack_from=int(raw.stack_from),
            stack=bytes(self._border.view[copy : copy + size]),
            pid=int(raw.pid),
            comm=self._text(raw.comm),
        )

    def _text(self, field: Any) -> str:
        """A string of an array, which needn't have an end."""
        return bytes(self._border.ffi.buffer(field)).partition(b"\0")[0].decode(errors="replace")

    def check(self) -> None:
        """Looks at all that has no reader of its own at the end of a test."""
        _ = self.crash, self.printed, self.now, self.warnings, self.capture.ends()
        if self._place is not None:
            raw = self._raw
            place = Place(int(raw.image_base), int(raw.image_end), int(raw.ram_end))
            if place != self._place:
                raise self._border.lie(f"{self._name}.image_base", place, f"{self._place}")
