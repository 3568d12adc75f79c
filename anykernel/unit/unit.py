# SPDX-License-Identifier: GPL-2.0
"""Unit: C files without their kernel."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from anykernel.errors import LeakedMemory, UsageError
from anykernel.host.snapshots import Snapshot, check_above
from anykernel.kernel.log import Log
from anykernel.link import debuginfo
from anykernel.link.debuginfo import Signature
from anykernel.link.image import ledger
from anykernel.typed import Array, Names, Pointer, Space
from anykernel.typed.shapes import ArrayShape, Shape, shape_of
from anykernel.unit.control import Control
from anykernel.unit.memory import Owned
from anykernel.unit.mocks import Mock

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.host import Instance


class Allocation(NamedTuple):
    """Memory that a unit holds."""

    address: int
    size: int
    number: int
    """Which of its allocations it was, from 1."""


class _Saved(NamedTuple):
    """What a snapshot has beside the host's."""

    log: tuple[int, int, int]
    owned: dict[int, bytes]
    stubs: bytes
    mocks: dict[int, tuple[Mock, Callable[..., Any] | None]]
    callbacks: list[Callable[..., Any]]


class Unit(Names):
    """The functions and variables of some C files, by name: ``unit.tcp_slow_start(sk, 3)``,
    ``unit.fast_convergence.value = 0``; static ones, too.

    What the files call and don't have is a Mock: ``unit.mock("tcp_slow_start")``.
    """

    def __init__(self, instance: Instance, image: Image, whole: Image) -> None:
        self.instance = instance
        self.image = image
        self.whole = whole
        """The kernel that the files are of."""
        self.log = Log(instance)
        self.control = Control(instance)
        self.owned = Owned(instance.user)
        super().__init__(Space(instance, image, self._call, self._callback, whole))
        self._stubs = {one.symbol: one for one in ledger(image) if one.number >= 0}
        self._mocks: dict[int, Mock] = {}
        self._callbacks: list[Callable[..., Any]] = []
        self._synced = 0
        self._saved: list[_Saved] = []
        self.floor = 0
        """As of a Kernel."""
        instance.syscall(self.control.numbers["UNIT_CONTROL"], self.control.buffer.address)

    def __repr__(self) -> str:
        return f"<Unit {self.image.id} of Linux {self.image.release}>"

    # Memory

    def new(self, kind: str, **fields: Any) -> Pointer:
        """A zeroed object of a type, with some members set: ``new("struct bictcp", cnt=1)``.

        It is the test's: the unit can't free it, and overrunning it fails the test.
        """
        shape = self.space.shape(kind)
        made = Pointer(self.space, self.owned.alloc(shape.size), shape)
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def array(self, kind: str, values: int | Iterable[Any]) -> Array:
        """An array of a type: so many zeroed elements, or these values."""
        element = self.space.type(kind)
        listed = [None] * values if isinstance(values, int) else list(values)
        with debuginfo.LOCK:
            shape = ArrayShape(element.prog.array_type(element, len(listed)))
        made = Array(self.space, self.owned.alloc(shape.size), shape)
        for index, value in enumerate(listed):
            if value is not None:
                made[index] = value
        return made

    def buffer(self, data: bytes | int) -> Pointer:
        """Bytes, or so many zeroed ones, as an `unsigned char *`."""
        raw = bytes(data)
        address = self.owned.alloc(len(raw))
        self.space.write(address, raw)
        return self.space.at(address, "unsigned char")

    def string(self, text: str) -> Pointer:
        """A C string that outlives a call."""
        return self.buffer(text.encode() + b"\0").cast("char")

    def free(self, what: Pointer | Array) -> None:
        """Gives back what new(), array(), buffer() or string() made.  Raises MemoryDamage."""
        self.owned.free(int(what))

    # Mocks

    def mock(self, name: str) -> Mock:
        """The mock of a function that the unit needs and doesn't have.  Raises UsageError."""
        stub = self._stubs.get(name)
        if stub is None:
            near = difflib.get_close_matches(name, self._stubs, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(
                f"{name} is no function that this unit has a mock for{hint}\n"
                f"there are: {', '.join(sorted(self._stubs)) or 'none'}"
            )
        if stub.number not in self._mocks:
            found = debuginfo.signature(debuginfo.program(self.whole.vmlinux), name)
            if found is None:
                raise UsageError(f"{name} has no type that a mock could have")
            self._mocks[stub.number] = Mock(self, stub.number, found)
        return self._mocks[stub.number]

    @property
    def mocks(self) -> list[str]:
        """The names that mock() knows."""
        return sorted(self._stubs)

    def sync_calls(self) -> None:
        """Tells the mocks of the calls since the last time.  Raises UsageError when there were
        more than are recorded."""
        control = self.control
        if self._synced < control.kept():
            raise UsageError(
                f"{control.calls - self._synced} calls of mocks at once are more than are recorded "
                f"({control.numbers['UNIT_CALLS']})"
            )
        for index in range(self._synced, control.calls):
            number, words = control.call(index)
            if number < self._first_callback:
                self._mock_of(number).note(words)
        self._synced = control.calls

    def _mock_of(self, number: int) -> Mock:
        if number not in self._mocks:
            named = [stub.symbol for stub in self._stubs.values() if stub.number == number]
            if not named:
                raise self.control.unknown(number)
            return self.mock(named[0])
        return self._mocks[number]

    # Calls

    @property
    def _first_callback(self) -> int:
        numbers = self.control.numbers
        return numbers["UNIT_STUBS"] - numbers["UNIT_CALLBACKS"]

    def _call(self, address: int, words: list[int]) -> tuple[int, int]:
        return self.instance.call(address, words, self._more)

    def _more(self, result: int) -> tuple[int, ...] | None:
        """What a stub that Python answers for is to return, when it asks."""
        numbers = self.control.numbers
        return (numbers["UNIT_ANSWER"], *self._answer()) if result == numbers["UNIT_ASKS"] else None

    def _answer(self) -> tuple[int, int]:
        control = self.control
        number, words = control.call(control.calls - 1)
        if number >= self._first_callback:
            slot = control.numbers["UNIT_STUBS"] - 1 - number
            if slot >= len(self._callbacks):
                raise control.unknown(number)
            return self._callbacks[slot](words), 0
        return self._mock_of(number).answer(words)

    def _callback(self, effect: Callable[..., Any], signature: Signature) -> int:
        """An address that calls `effect`.  Raises UsageError when all that there are are taken."""
        from anykernel.typed.functions import WORD, from_word

        room = self.control.numbers["UNIT_CALLBACKS"]
        parameters: list[Shape] = [shape_of(one.type) for one in signature.parameters]
        if len(parameters) > 6:
            raise UsageError(f"{signature}: a Python function gets 6 arguments at most")

        def called(words: list[int]) -> int:
            values = [from_word(self.space, s, w) for s, w in zip(parameters, words, strict=False)]
            result = effect(*values)
            return int(result or 0) & WORD

        slot = len(self._callbacks)
        if slot == room:
            raise UsageError(f"{room} Python functions per test can be given to C")
        self._callbacks.append(called)
        self.control.behave(self.control.numbers["UNIT_STUBS"] - 1 - slot, "UNIT_ASK")
        table = self.space.address("unit_callbacks")
        return int.from_bytes(self.space.read(table + 8 * slot, 8), "little")

    # What it leaves behind

    @property
    def live(self) -> list[Allocation]:
        """The memory that the unit holds, the last first.  Raises KernelCrash for damage."""
        room = 1024
        with self.instance.user.alloc(24 * room) as out:
            count, _ = self._call(self.space.address("unit_live"), [out.address, room])
            words = memoryview(out.view).cast("Q")
            return [Allocation(*words[3 * i : 3 * i + 3]) for i in range(min(count, room))]

    def assert_no_leaks(self) -> None:
        """Raises LeakedMemory."""
        lines = [f"  {a.size} bytes at {a.address:#x} (allocation {a.number})" for a in self.live]
        if lines:
            raise LeakedMemory("\n".join(["the unit still holds memory:", *lines[:20]]))

    def check(self) -> None:
        """Raises MemoryDamage or KernelCrash when memory was overrun or used after free."""
        self.owned.check()
        _ = self.live

    # Snapshots, as a Kernel has them

    def snapshot(self) -> Snapshot:
        """Saves the state; restore() comes back to it as often as wanted, drop() forgets it;
        ``with unit.snapshot():`` does both at the end of the block."""
        number = self.instance.snapshot()
        del self._saved[number - 1 :]
        does = {number: (mock, mock.save()) for number, mock in self._mocks.items()}
        log, owned, stubs = self.log.save(), self.owned.save(), self.control.save()
        self._saved.append(_Saved(log, owned, stubs, does, [*self._callbacks]))
        return Snapshot(number, self)

    def restore(self, snapshot: int) -> None:
        """Back to a snapshot: its memory, what new() had made and what mocks did; calls of them
        are forgotten."""
        if snapshot > 0:
            check_above(self.floor, snapshot)
        self.instance.restore(snapshot)
        del self._saved[snapshot:]
        saved = self._saved[-1]
        self.log.load(saved.log)
        self.owned.load(saved.owned)
        self.control.reset(saved.stubs)
        self._mocks = {number: mock for number, (mock, _) in saved.mocks.items()}
        for mock, does in saved.mocks.values():
            mock.load(does)
        self._callbacks = [*saved.callbacks]
        self._synced = 0

    def drop(self, snapshot: int) -> None:
        """Forgets a snapshot and deeper ones; everything stays as it is."""
        if snapshot > 0:
            check_above(self.floor + 1, snapshot)
        self.instance.drop(snapshot)
        del self._saved[snapshot - 1 :]
