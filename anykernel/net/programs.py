# SPDX-License-Identifier: GPL-2.0
"""Programs: plain Python functions on nodes, side by side in virtual time.

Each runs as a coroutine (greenlet).  A system call that blocks in its kernel blocks only the
program, like a thread; which of several goes on first is the order in which their calls ended,
so a run is deterministic.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet
from greenlet import error as GreenletError

from anykernel.errors import AnykernelError, Deadlock, ProcessEnded, UsageError, ending
from anykernel.host.times import nanoseconds, timeout_ns
from anykernel.kernel.waits import call_name, waited_for

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net.network import Network
    from anykernel.net.node import Node

R = TypeVar("R")
SPINNING = 1_000_000
"""Turns and calls of programs without any time passing, after which one is taken to spin."""


class Killed(GreenletExit):
    """The process has ended in the middle of a call; with its status, as wait(2) tells it."""

    @property
    def status(self) -> int:
        return int(self.args[0])

    def __str__(self) -> str:
        return ending(self.status)


class Program(Generic[R]):
    """A function that runs on a node; made by network.start()."""

    def __init__(
        self, hub: Hub, name: str, process: Process, node: Node, run: Callable[[], R], daemon: bool
    ) -> None:
        self._hub = hub
        self.name = name
        self.node = node
        self.process = process
        self.daemon = daemon
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.waits = "to be started"
        """For what, since when: for people."""
        self.in_call: tuple[Process, int, tuple[int, ...]] | None = None
        """The system call that it waits in: whose, number, arguments."""
        self.since_ns = hub.network.now
        self._run = run
        self._value: Any = None
        self.error: BaseException | None = None
        self.killed: Killed | None = None
        """When its process was killed in the middle of a call."""
        self._greenlet = greenlet(self._main, hub.home())

    def __repr__(self) -> str:
        state = "ended" if self.done else self.waits
        return f"<Program {self.name} on {self.node.name}: {state}>"

    def _main(self, _: Any) -> None:
        self.started_ns = self._hub.network.now
        try:
            self._value = self._run()
            if self.process is not self.node and not self.process.ended:
                self.process.exit()
        except GreenletExit:
            self.error = InterruptedError(f"{self.name} {self.killed or 'was stopped'}")
            if self.killed is None:
                self._leave()
        except BaseException as error:
            if self.killed is not None:  # its own clean-up can't work any more
                self.error = InterruptedError(f"{self.name} {self.killed}")
                return
            error.add_note(
                f"in program {self.name} on node {self.node.name}, "
                f"{self._hub.network.seconds:.9f} s"
            )
            self.error = error
        finally:
            self.ended_ns = self._hub.network.now
            self._hub.ended(self)

    def leave_unstarted(self) -> None:
        """It ends before it began; only for the hub."""
        self.ended_ns = self._hub.network.now
        self.error = InterruptedError(f"{self.name} was stopped")
        self._leave()

    def _leave(self) -> None:
        """Its process ends, as a killed one does: what it holds is free again."""
        if self.process is not self.node:
            with suppress(AnykernelError):  # of a kernel that is dead
                self.process.exit(1)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.ended_ns is not None

    @property
    def result(self) -> R:
        """What the function returned; raises what it raised, UsageError while it runs."""
        if not self.done:
            raise UsageError(f"{self.name} has not ended: network.run() lets it")
        if self.error is not None:
            raise self.error
        value: R = self._value
        return value

    def join(self) -> R:
        """In another program: waits for its end; its result, as `result` has it."""
        self._hub.wait_for(self)
        return self.result

    def stop(self) -> None:
        """Ends it where it waits (GreenletExit is raised in it)."""
        self._hub.stop(self)

    def step(self, value: Any, error: BaseException | None = None) -> None:
        """Runs it until it blocks; only for the hub."""
        self.waits = "(it runs)"
        self.in_call = None
        if error is not None:
            self._greenlet.throw(error)
        else:
            self._greenlet.switch(value)

    @property
    def greenlet(self) -> greenlet:
        return self._greenlet

    def line(self) -> str:
        """Who, and what it waits for."""
        since = f"since {self.since_ns / 1e9:.6f} s"
        if self.node.crashed:
            return (
                f"  {self.name} on {self.node.name}: {self.waits}, {since} (its kernel has crashed)"
            )
        more = ""
        if self.in_call is not None and self.in_call[0] is not self.node:
            more = waited_for(*self.in_call, by=self.node)
        return f"  {self.name} on {self.node.name}: {self.waits}{more}, {since}"


class Hub:
    """Who runs programs; a Scheduler for their processes' calls."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._begin()

    def _begin(self) -> None:
        """Without any program."""
        self.main = getcurrent()
        self._thread = threading.current_thread()
        self.programs: list[Program[Any]] = []
        self._by_greenlet: dict[greenlet, Program[Any]] = {}
        self._ready: deque[tuple[Program[Any], Any, int]] = deque()
        self._calls: dict[tuple[int, int], Program[Any]] = {}
        self._test_calls: dict[tuple[int, int], list[int | Killed]] = {}
        self._timers: list[tuple[int, int, Program[Any], int]] = []
        self._joins: dict[Program[Any], list[Program[Any]]] = {}
        self._numbers = itertools.count()
        self._turn: dict[Program[Any], int] = {}
        self.progress_ns = 0
        """When a program last had its turn."""
        self._turns = self._turns_ns = 0

    # What programs call

    @property
    def inside(self) -> bool:
        """Whether a program runs now."""
        return getcurrent() in self._by_greenlet

    @property
    def busy(self) -> bool:
        """Whether there are programs that have not ended."""
        return bool(self._by_greenlet)

    def home(self) -> greenlet:
        """Where programs come from and go back to: the thread that starts the first of them."""
        if not self.busy and self._thread is not threading.current_thread():
            self.main, self._thread = getcurrent(), threading.current_thread()
        return self.main

    def exclusive(self) -> AbstractContextManager[Any]:
        """For a with block into which no other thread comes.  Raises UsageError for a thread that
        is not that of the programs: they can't go on in another."""
        with self.network.host.lock:
            if not self.busy:
                return self.network.host.lock
            if self._thread is not threading.current_thread():
                raise UsageError(
                    f"programs of this network run in the thread {self._thread.name}, which "
                    "started them: what another thread does has to wait until they have ended"
                )
        # They take turns within the thread, also in the middle of a call.
        return nullcontext()

    def _current(self) -> Program[Any]:
        program = self._by_greenlet.get(getcurrent())
        if program is None:
            raise UsageError("only a program that network.start() runs can wait here")
        return program

    def _pause(self, program: Program[Any], what: str, until_ns: int | None = None) -> Any:
        """Blocks `program`, which runs, until it is made ready; or its turn comes at `until_ns`."""
        program.waits = what
        program.since_ns = self.network.now
        turn = self._turn[program] = self._turn.get(program, 0) + 1
        if until_ns is not None:
            heapq.heappush(self._timers, (until_ns, next(self._numbers), program, turn))
        return self.main.switch()

    def call(self, process: Process, nr: int, args: tuple[int, ...], timeout: float | None) -> int:
        """A system call of the program that runs, or of the test, which lets programs take their
        turns if it blocks.  Raises TimeoutError, Deadlock, ProcessEnded, KernelCrash."""
        instance, task = process.instance, process.task
        program = self._by_greenlet.get(getcurrent())
        key = (instance.index, task)  # type: ignore[attr-defined]
        if key in self._calls:
            raise UsageError(
                f"{program.name if program else 'the test'} uses a process of "
                f"{self._calls[key].name}, which is in a call: each program has a process of its "
                "own, its first argument"
            )
        try:
            result = instance.post(nr, *args, task=task)
        except ProcessEnded as ended:
            if program is not None and process is program.process:
                program.killed = Killed(ended.status)
                raise program.killed from None
            raise
        if program is None:
            return self._test_call(process, nr, args, timeout) if result is None else result
        if result is not None:
            spinning = self._spinning(program)
            if spinning is not None:
                raise spinning
            return result
        program.in_call = (process, nr, args)
        return self._wait(program, process, call_name(nr, args), timeout)

    def _test_call(
        self, process: Process, nr: int, args: tuple[int, ...], timeout: float | None
    ) -> int:
        """The rest of a call of the test that blocks."""
        instance, task = process.instance, process.task
        what = call_name(nr, args)
        key = (instance.index, task)  # type: ignore[attr-defined]
        results: list[int | Killed] = []
        self._test_calls[key] = results
        try:
            self.network.run_until(lambda: bool(results), timeout, what)
        except BaseException:
            instance.cancel(task)
            raise
        finally:
            del self._test_calls[key]
        result = results[0] if results else _given_up(process, what)
        if isinstance(result, Killed):
            raise _seen(process, result)
        return result

    def wait_task(self, process: Process, what: str) -> int:
        """Until a task that works by itself is back; its last result."""
        return self._wait(self._current(), process, what, None)

    def _wait(
        self, program: Program[Any], process: Process, what: str, timeout: float | None
    ) -> int:
        instance, task = process.instance, process.task
        key = (instance.index, task)  # type: ignore[attr-defined]
        ns = timeout_ns(timeout, self.network.now)
        until = None if ns is None else self.network.now + max(1, ns)
        self._calls[key] = program
        try:
            result: int | Killed | None = self._pause(program, what, until)
            if result is None:
                try:
                    result = _given_up(process, what)
                except ProcessEnded as ended:
                    result = Killed(ended.status)
        except GreenletExit:
            instance.cancel(task)
            raise
        finally:
            del self._calls[key]
        if isinstance(result, Killed):
            error = _seen(process, result)
            if process is not program.process:  # but one that it uses
                raise error
            process.note_end(result.status)
            program.killed = result
            raise result
        return result

    def sleep(self, seconds: float) -> None:
        """Lets virtual time pass for the program that runs."""
        until = self.network.now + nanoseconds(seconds, "a sleep", self.network.now)
        self._pause(self._current(), f"sleep({seconds})", until)

    def wait_for(self, other: Program[Any]) -> None:
        """Blocks the program that runs until `other` has ended."""
        if not other.done:
            program = self._current()
            self._joins.setdefault(other, []).append(program)
            self._pause(program, f"the end of {other.name}")

    # What the network calls

    def add(self, program: Program[Any], at_ns: int) -> None:
        """The program begins at that time."""
        self.programs.append(program)
        self._by_greenlet[program.greenlet] = program
        self._turn[program] = 0
        heapq.heappush(self._timers, (at_ns, next(self._numbers), program, 0))

    def ended(self, program: Program[Any]) -> None:
        """It is over: who waits for it goes on."""
        self._by_greenlet.pop(program.greenlet, None)
        for other in self._joins.pop(program, ()):
            self._wake(other, None)

    def stop(self, program: Program[Any]) -> None:
        """Ends a program."""
        if program.done:
            return
        self.exclusive()
        if program.started_ns is None:
            program.leave_unstarted()
            self.ended(program)
        elif self.inside:
            raise UsageError("a program can't stop another: stop it from the test")
        else:
            program.step(None, GreenletExit())

    def clear(self) -> None:
        """Ends all, without regard: the state that they work on is gone."""
        for program in self.programs:
            if not program.done:
                self._turn.pop(program, None)
                try:
                    program.greenlet.throw(GreenletExit())
                except GreenletError:  # of another thread, which has ended or never comes back
                    program.leave_unstarted()
        self._begin()

    @property
    def next_timer(self) -> int | None:
        """When a program wants to go on by itself."""
        while self._timers and self._stale(self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def _stale(self, timer: tuple[int, int, Program[Any], int]) -> bool:
        return timer[2].done or self._turn.get(timer[2]) != timer[3]

    def back(self, kernel: int, task: int, result: int | Killed) -> None:
        """A task's call is over."""
        key = (kernel, task)
        if key in self._test_calls:
            self._test_calls[key].append(result)
        elif (program := self._calls.get(key)) is not None:
            self._wake(program, result)

    def _wake(self, program: Program[Any], value: Any) -> None:
        """It has its turn next, if it still waits for the same then."""
        self._ready.append((program, value, self._turn[program]))

    def take_turns(self) -> None:
        """Lets all programs go on that can at the present time.  Raises what a program raises."""
        now = self.network.now
        while (due := self.next_timer) is not None and due <= now:
            self._wake(heapq.heappop(self._timers)[2], None)
        while self._ready:
            program, value, turn = self._ready.popleft()
            # A call may be over at the very moment of its timeout.
            if program.done or self._turn[program] != turn:
                continue
            self._turn[program] += 1
            self.progress_ns = now
            program.step(value, self._spinning(program))
            if program.error is not None and program.killed is None:
                raise program.error

    def _spinning(self, program: Program[Any]) -> Deadlock | None:
        """Counts what programs do while no time passes; the end of who does too much."""
        now = self.network.now
        self._turns = self._turns + 1 if now == self._turns_ns else 1
        self._turns_ns = now
        if self._turns <= SPINNING:
            return None
        self._turns = 0
        return Deadlock(
            f"{program.name} on {program.node.name} never ends: {SPINNING:,} calls, and no time "
            "passes",
            self.table(),
        )

    def pending(self) -> list[Program[Any]]:
        """The programs that a run waits for."""
        return [program for program in self.programs if not program.done and not program.daemon]

    def table(self) -> str:
        """Who waits for what."""
        lines = [program.line() for program in self.programs if not program.done]
        lines += [f"  link {link.name} is down" for link in self.network.links if not link.is_up]
        return "\n".join(lines)


def _seen(process: Process, killed: Killed) -> ProcessEnded:
    """Gives the slot of a task that has ended back; how it ended."""
    with suppress(ProcessEnded):
        process.instance.poll(process.task)
    return ProcessEnded(killed.status)


def _given_up(process: Process, what: str) -> int:
    """Ends a call whose time is up: its result, if it ended by itself at the last moment.  Raises
    TimeoutError."""
    process.instance.cancel(process.task)
    result = process.instance.poll(process.task)
    if result is None or result == -errno.EINTR:
        raise TimeoutError(errno.ETIMEDOUT, f"{what} timed out in virtual time")
    return result
