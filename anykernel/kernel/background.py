# SPDX-License-Identifier: GPL-2.0
"""Operations that run in threads of the kernel while the test goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from anykernel.errors import Deadlock, ProcessEnded, UsageError, call_error
from anykernel.host.times import timeout_ns
from anykernel.kernel.call import Plan, Request, alone, believed, request
from anykernel.kernel.waits import explain

if TYPE_CHECKING:
    from anykernel.kernel.collected import ClosedLater
    from anykernel.kernel.interface import Instance
    from anykernel.kernel.process import Process

R = TypeVar("R")
FIRST_SLICE = 1_000_000
"""Nanoseconds for which the kernel is first left alone while several calls go on."""
LONGEST = 24 * 3600 * 10**9
"""What has not ended after so many nanoseconds never does."""


class Call(Generic[R]):
    """A running operation, in the manner of concurrent.futures.Future."""

    def __init__(self, workers: Workers, process: Process, task: int, plan: Plan[R]) -> None:
        self._workers = workers
        self.process = process
        self._instance = process.instance
        self._task = task
        self._plan = plan
        self._value: Any = None
        self._error: BaseException | None = None
        self._over = False
        self._ended: int | None = None
        self._nr, self._args = 0, tuple[int, ...]()
        self.lost = False
        """Its thread ended in the middle of it."""
        self._state = process.state
        self._deadline: int | None = None
        self._advance(lambda: next(plan))

    @alone
    def done(self) -> bool:
        """Whether it has ended, after everything was run that can run at the current time."""
        self._check()
        if not self._over:
            self._instance.run()
            self.step()
        return self._over

    @property
    def ended(self) -> int | None:
        """When it ended, in ns of the kernel's clock since boot; None while it goes on."""
        return self._ended if self.done() else None

    @alone
    def result(self, timeout: float | None = None) -> R:
        """What the operation returns; raises what it raises.

        Lets virtual time run until then.  TimeoutError when it has not ended within `timeout`
        virtual seconds (it goes on); Deadlock when nothing can ever end it.
        """
        self._wait(timeout)
        if self._error is not None:
            raise self._error
        value: R = self._value
        return value

    @alone
    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the operation raised, or None; waits like result()."""
        self._wait(timeout)
        return self._error

    @alone
    def cancel(self) -> bool:
        """Interrupts the operation.  Returns whether it had not ended before."""
        if self.done():
            return False
        self._instance.cancel(self._task)
        self._instance.run()
        try:
            if self._instance.poll(self._task) is None:
                raise UsageError("the call is in an uninterruptible sleep and can't be cancelled")
        except ProcessEnded as ended:
            self._lose(ended)
        else:
            self._plan.close()
            self._end(None, InterruptedError("cancelled"))
        return True

    def _check(self) -> None:
        if not self._state.alive:
            self._plan.close()
            raise UsageError("this call belongs to a state that was restored away")

    def _wait(self, timeout: float | None) -> None:
        self._check()
        now = self._instance.now
        ns = timeout_ns(timeout, now)
        limit = None if ns is None else now + ns
        if self.done():
            return
        while not self._over:
            ends = [end for end in (limit, self._deadline) if end is not None]
            left = max(min(ends) - self._instance.now, 0) / 1e9 if ends else None
            try:
                result = self._workers.wait(self._instance, self._task, left)
            except ProcessEnded as ended:
                self._lose(ended)
            except Deadlock as error:
                others = [one for one in self._workers.waiting() if one != self.request]
                explain(error, *self.request, others)
                raise
            except TimeoutError:
                self.step()
                if not self._over and limit is not None and self._instance.now >= limit:
                    raise
            else:
                self._feed(result)

    def _post(self, what: Request) -> None:
        now = self._instance.now
        deadline = timeout_ns(what.timeout, now)
        self._deadline = None if deadline is None else now + deadline
        self._nr, self._args = what.nr, what.args
        self._instance.post(what.nr, *what.args, task=self._task)
        self._instance.run()
        self._state = self.process.state

    def step(self) -> bool:
        """Hands finished requests to the plan; False when the one that runs has not finished."""
        moved = False
        while not self._over:
            try:
                result = self._instance.poll(self._task)
            except ProcessEnded as ended:
                self._lose(ended)
                return True
            if result is not None:
                self._feed(result)
            elif self._deadline is not None and self._instance.now >= self._deadline:
                self._instance.cancel(self._task)
                self._instance.run()
                self._advance(lambda: self._plan.throw(TimeoutError("timed out")))
            else:
                break
            moved = True
        return moved

    def _feed(self, result: int) -> None:
        if result < 0:
            self._advance(lambda: self._plan.throw(call_error(result)))
        else:
            self._advance(lambda: self._plan.send(believed(self._nr, self._args, result)))

    def _advance(self, move: Callable[[], Request]) -> None:
        try:
            self._post(move())
        except StopIteration as stop:
            self._end(stop.value)
        except OSError as error:
            self._end(None, error)
        except ProcessEnded as ended:
            self._lose(ended)
        except UsageError as error:
            if "No such process" not in str(error):
                raise
            self._over = self.lost = True
            self._plan.close()
            raise self.process.no_more(self._task) from None

    def _lose(self, ended: ProcessEnded) -> None:
        """Its thread has ended, so it never has a result."""
        self.lost = True
        self._plan.close()
        self._end(None, self.process.ended_in(ended, self._nr))

    def _end(self, value: Any, error: BaseException | None = None) -> None:
        self._over, self._value, self._error = True, value, error
        self._ended = self._instance.now
        self._state = self.process.state

    @property
    def deadline(self) -> float:
        """When the timeout of what it is in has passed, in ns."""
        return math.inf if self._deadline is None else self._deadline

    @property
    def request(self) -> tuple[Process, int, tuple[int, ...]]:
        """The system call that it is in."""
        return self.process, self._nr, self._args

    @property
    def over(self) -> bool:
        """Whether its end has been seen; never runs the kernel."""
        return self._over

    def drop(self) -> None:
        """Frees the memory of a call that was restored away."""
        self._plan.close()
        self._over = True


class Scheduler(Protocol):
    """Runs programs side by side: each of their calls blocks just the one that makes it."""

    @property
    def busy(self) -> bool:
        """Whether there are programs that have not ended: then all calls are its."""

    def exclusive(self) -> AbstractContextManager[Any]:
        """As Process.exclusive()."""

    def call(self, process: Process, nr: int, args: tuple[int, ...], timeout: float | None) -> int:
        """As Instance.syscall()."""


class Workers:
    """The threads that execute background calls, of all processes of a kernel; reused."""

    def __init__(self) -> None:
        self.scheduler: Scheduler | None = None
        """Who executes system calls while it has programs."""
        self._all: list[tuple[Process, int, Call[Any] | None]] = []
        self.orphans: list[ClosedLater] = []

    def start(self, process: Process, plan: Plan[R]) -> Call[R]:
        """Runs `plan` in a free thread of `process`, or in a new one."""
        from anykernel.kernel.process import CLONE_THREAD_FLAGS, SPAWN

        free = (
            position
            for position, (owner, _, call) in enumerate(self._all)
            if owner is process and (call is None or (call.over and not call.lost))
        )
        position = next(free, len(self._all))
        if position == len(self._all):
            self._all.append((process, process.run(request(SPAWN, CLONE_THREAD_FLAGS)), None))
        task = self._all[position][1]
        made = Call(self, process, task, plan)
        self._all[position] = (process, task, made)
        return made

    def busy(self) -> bool:
        """Whether any background call goes on."""
        return any(call is not None and not call.over for _, _, call in self._all)

    def waiting(self) -> list[tuple[Process, int, tuple[int, ...]]]:
        """The system calls in which background calls are."""
        return [call.request for _, _, call in self._all if call is not None and not call.over]

    def wait(self, instance: Instance, task: int, timeout: float | None) -> int:
        """The result of `task`'s request, while the other background calls are kept going.

        Raises TimeoutError after `timeout` virtual seconds (the request goes on), and Deadlock.
        """
        began, slice_ns = instance.now, FIRST_SLICE
        whole = timeout_ns(timeout, began)
        while True:
            instance.run()
            result = instance.poll(task)
            if result is not None:
                return result
            others = [c for _, t, c in self._all if t != task and c is not None and not c.over]
            moved = [call.step() for call in others]
            if any(moved):
                continue
            passed = instance.now - began
            left = None if whole is None else whole - passed
            if left is not None and left <= 0:
                raise TimeoutError("timed out")
            # Another call may need a push when it gets on, so time may not leap.
            if others and passed < LONGEST:
                left = slice_ns if left is None else min(left, slice_ns)
                slice_ns *= 2
            try:
                return instance.wait(task, None if left is None else left / 1e9)
            except TimeoutError:
                continue

    def keep_up(self, instance: Instance, until: int) -> None:
        """Runs to the moment `until` as long as background calls go on, timer by timer: one that
        can get on does so when it can, not at the end."""
        if not self.busy():
            return
        with instance.lock:
            instance.run()
            while calls := self._going():
                moved = [call.step() for call in calls]
                if any(moved):
                    continue
                due = min([instance.next_timer, *(call.deadline for call in calls)])
                if due > until:
                    return
                instance.run(int(due))

    def _going(self) -> list[Call[Any]]:
        return [call for _, _, call in self._all if call is not None and not call.over]

    def save(self) -> list[tuple[Process, int, Call[Any] | None]]:
        """Who has what to do, for load()."""
        return [
            (p, t, c if c is not None and not c.over else None)
            for p, t, c in self._all
            if c is None or not c.lost
        ]

    def load(self, saved: list[tuple[Process, int, Call[Any] | None]]) -> None:
        """Goes back to save(); calls that began since are dropped."""
        kept = {id(call) for _, _, call in saved}
        for _, _, call in self._all:
            if call is not None and id(call) not in kept:
                call.drop()
        self._all = list(saved)
        for position, (process, task, call) in enumerate(saved):
            if call is not None and call.over:
                # It had ended, and its memory is free; in the kernel it runs again.
                process.instance.cancel(task)
                process.instance.run()
                self._all[position] = (process, task, None)
