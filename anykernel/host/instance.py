# SPDX-License-Identifier: GPL-2.0
"""Instance: one booted kernel, as commands to its host.  Results are raw (-errno)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from anykernel.errors import Deadlock, ProcessEnded, UsageError, call_error
from anykernel.host.border import MAX_NETDEVS, MAX_TASKS, Place
from anykernel.host.captures import Captures, Sink
from anykernel.host.frames import Frame, answers, batches
from anykernel.host.life import Life, Mark
from anykernel.host.loaded import Loads
from anykernel.host.memory import Buffer, UserMemory
from anykernel.host.outcome import failure
from anykernel.host.report import CrashReport
from anykernel.host.times import timeout_ns
from anykernel.host.turns import atomic

if TYPE_CHECKING:
    from anykernel.host.process import Host

# liblinux.h
LIB_SYS_SPAWN = 0x10000
LIB_SYS_NETDEV_ADD = 0x10001
LIB_SYS_NETDEV_DEL = 0x10002
LIB_SYS_NETDEV_CARRIER = 0x10003
LIB_SYS_SHOW_TASKS = 0x10004
LIB_SYS_CALL = 0x10005
LIB_CALL_ARGS = 12
NO_WORDS = (0,) * (LIB_CALL_ARGS + 2)
CALL = struct.Struct(f"<{len(NO_WORDS)}Q")
RESULT = struct.Struct("<2Q")
NO_ARGS = (0,) * 6
ARGS = struct.Struct("<6Q")
"""hk_command.args."""
LOOK = 1_000_000
LIB_ABI_VERSION = 1
LIB_TASK_USER = 1
LIB_TASK_EXITED = 3
NETDEV_CONFIG = struct.Struct("<IIII16s6sBBII")


class Instance:
    """Kernel `index` of a host."""

    def __init__(self, host: Host, index: int) -> None:
        self._host = host
        self.lock = host.lock
        self.index = index
        c = host.c
        self._c = c
        self.border = self._border = host.border
        self._part = part = host.border.part(index)
        user = part.at + c.HK_USER_AT
        self.user = UserMemory(host.view[user : user + c.HK_USER_SIZE], part.user_base)
        self.loaded = Loads(self.user)
        self._captures = Captures(host.border, index)
        host.full[index + 1] = self._captures.drain
        self._call_buffer: Buffer | None = None
        self._op = 0
        self._devs: frozenset[int] = frozenset()
        self._levels: list[tuple[frozenset[int], Mark]] = []
        self.life = Life(host, index)
        self._command = host.commands[0]
        args = c.HK_COMMANDS_AT + host.ffi.offsetof("struct hk_command", "args")
        self._args = host.view[args : args + ARGS.size]
        self._in_view = host.view[c.HK_IN_AT : c.HK_IN_AT + c.HK_IN_SIZE]
        self._out_view = host.view[c.HK_OUT_AT : c.HK_OUT_AT + c.HK_OUT_SIZE]

    # -- system calls ---------------------------------------------------------------------

    def syscall(self, nr: int, *args: int, task: int = 0, timeout: float | None = None) -> int:
        """The call's raw result.  Blocking lets virtual time run.

        timeout: virtual seconds.  Raises TimeoutError (the call was cancelled), Deadlock,
        ProcessEnded (the task is no more, its slot is free), KernelCrash, HostDied.
        """
        with self.lock:  # not by @atomic, which would cost the hottest of all a call
            command = self._fill(self._c.HK_SYSCALL, task)
            command.nr = nr
            self._give(args)
            command.timeout = _timeout_ns(timeout)
            self._go(command, f"system call {nr}")
            return self._result(command)

    def _give(self, args: tuple[int, ...]) -> None:
        """The arguments of a system call: any numbers, of which 64 bits count."""
        try:
            ARGS.pack_into(self._args, 0, *args, *NO_ARGS[len(args) :])
        except struct.error:
            words = [value & 0xFFFFFFFFFFFFFFFF for value in args]
            ARGS.pack_into(self._args, 0, *words, *NO_ARGS[len(args) :])

    @atomic
    def post(self, nr: int, *args: int, task: int) -> int | None:
        """Starts a call of `task` and lets it run as far as it gets at the current time: the
        result if it is over then, or None.  Raises as syscall()."""
        command = self._fill(self._c.HK_POST, task)
        command.nr = nr
        self._give(args)
        self._go(command, f"system call {nr}")
        if command.extra == LIB_TASK_EXITED:
            self.poll(task)  # gives its slot back
        return self._result(command) if command.extra == LIB_TASK_USER else None

    @atomic
    def poll(self, task: int) -> int | None:
        """The result of the call that was posted, or None while it blocks.  Raises ProcessEnded
        of a task that is no more, once."""
        command = self._fill(self._c.HK_POLL, task)
        self._go(command, "poll")
        if command.extra in (LIB_TASK_USER, LIB_TASK_EXITED):
            return self._result(command)
        return None

    @atomic
    def wait(self, task: int, timeout: float | None = None) -> int:
        """Lets time run until the posted call of `task` ends.  Raises as syscall(), but the
        call is left alone after TimeoutError or Deadlock."""
        command = self._fill(self._c.HK_WAIT, task)
        command.timeout = _timeout_ns(timeout)
        self._go(command, f"the call of task {task}")
        return self._result(command)

    @atomic
    def cancel(self, task: int) -> None:
        """Makes a blocked call end with -EINTR."""
        self._go(self._fill(self._c.HK_CANCEL, task), "cancel")

    @atomic
    def call(
        self,
        address: int,
        words: Sequence[int],
        more: Callable[[int], tuple[int, ...] | None] | None = None,
    ) -> tuple[int, int]:
        """Calls a function of the kernel in its first process; (rax, rdx) when it returns.

        more: gives the request (number, arguments) that is to follow a result in the middle of
        the call, as only a unit has them; None: it is the end.  Raises as syscall().
        """
        buffer = self._call_buffer
        if buffer is None or not buffer.alive:
            buffer = self._call_buffer = self.user.alloc(CALL.size)
        view = buffer.view
        CALL.pack_into(view, 0, *words, *NO_WORDS[len(words) :])
        result = self.syscall(LIB_SYS_CALL, address, buffer.address)
        while more is not None and (request := more(result)) is not None:
            result = self.syscall(*request)
        self._checked(result)
        low, high = RESULT.unpack_from(view, 8 * LIB_CALL_ARGS)
        return low, high

    def spawn(self, flags: int) -> int:
        """A new host-owned task, made by clone(flags | CLONE_VM).  Raises OSError."""
        slot = self.syscall(LIB_SYS_SPAWN, flags)
        self._checked(slot)
        return self._border.below("the number of a new task", slot, MAX_TASKS)

    @atomic
    def show_tasks(self) -> str:
        """The kernel's own list of tasks with their stacks."""
        before = self.life.mark()
        self.syscall(LIB_SYS_SHOW_TASKS)
        return self.life.take(before)  # it is our question's answer, not the kernel's log

    # -- time -----------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """ns since boot; in a network, since that of the first."""
        return (self._border if self._host.network else self._part).now

    @property
    def next_timer(self) -> int:
        """When something may be due next, ns since boot, always later than now; in a network,
        where other kernels may have something for it earlier, never more than LOOK later."""
        now, due = self.now, self._part.deadline
        return max(min(due, now + LOOK) if self._host.network else due, now + 1)

    @atomic
    def run(self, until: int | None = None) -> None:
        """Until idle at the current time, or on to the moment `until` (ns since boot)."""
        command = self._fill(self._c.HK_RUN, 0)
        command.args[0] = until or 0
        self._go(command, "run")

    @atomic
    def settle(self, limit_ns: int) -> int:
        """Runs the timers that are due in the next `limit_ns`; returns the time of the last."""
        command = self._fill(self._c.HK_SETTLE, 0)
        command.args[0] = self.now + limit_ns
        self._go(command, "settle")
        return self.now

    # -- netdevs --------------------------------------------------------------------------

    @atomic
    def netdev_add(
        self,
        name: str,
        mac: bytes,
        mtu: int,
        carrier: bool = True,
        features: int = 0,
        super_frames: bool = False,
    ) -> tuple[int, int]:
        """(our number, the kernel's ifindex); `features` are bits of enum lib_netdev_feature.
        Raises OSError, UsageError."""
        dev = next((i for i in range(MAX_NETDEVS) if i not in self._devs), None)
        if dev is None:
            raise UsageError(f"a kernel has {MAX_NETDEVS} netdevs at most")
        head = LIB_ABI_VERSION, NETDEV_CONFIG.size, dev, mtu, name.encode(), mac
        config = NETDEV_CONFIG.pack(*head, carrier, super_frames, features, 0)
        with self.user.write(config) as buffer:
            ifindex = self.syscall(LIB_SYS_NETDEV_ADD, buffer.address)
        if ifindex < 0:
            raise call_error(ifindex, f"netdev {name}")
        self._devs |= {dev}
        return dev, self._border.below("the ifindex of a new netdev", ifindex, 1 << 31)

    @atomic
    def netdev_del(self, dev: int) -> None:
        self._checked(self.syscall(LIB_SYS_NETDEV_DEL, dev))
        self._devs -= {dev}

    @atomic
    def netdev_carrier(self, dev: int, up: bool) -> None:
        self._checked(self.syscall(LIB_SYS_NETDEV_CARRIER, dev, int(up)))

    @atomic
    def inject(self, dev: int, frames: Sequence[bytes], gso_size: int = 0) -> None:
        """The frames arrive at once, in order; returns when the kernel is idle.  `gso_size`: each
        stands for segments with so many bytes of payload."""
        for count in batches(self._in_view, frames):
            command = self._fill(self._c.HK_INJECT, dev)
            command.args[0] = 0
            command.args[1] = count
            command.args[2] = gso_size
            self._go(command, "inject")

    def exchange(self, dev: int, frames: Sequence[bytes]) -> list[list[bytes]]:
        """The frames arrive one by one; for each, what the kernel sent before it was idle."""
        found: list[list[bytes]] = []
        with self.lock:
            for count in batches(self._in_view, frames):
                command = self._fill(self._c.HK_EXCHANGE, dev)
                arguments = command.args
                arguments[0] = 0
                arguments[1] = count
                arguments[2] = 0
                self._go(command, "exchange")
                found += answers(self._out_view, count, command.ret, self._border.lie)
        return found

    def record(self, on: bool) -> None:
        """Whether frames that pass its netdevs are kept for captured() and listen()."""
        self._captures.record(on)

    @atomic
    def listen(self, sink: Sink) -> Callable[[], None]:
        """Calls the method `sink` for each frame from now on, at drain() at the latest; none is
        lost.  What it returns ends that."""
        return self._captures.listen(sink)

    @atomic
    def drain(self) -> None:
        """Those who listen have all frames that passed so far."""
        self._captures.drain()

    @atomic
    def captured(self, dev: int | None = None, clear: bool = True) -> list[Frame]:
        """The frames since the last call that cleared, as far as the ring holds them."""
        frames = self._captures.last(dev)
        if clear:
            self._captures.forget(self._part.capture.head)
        return frames

    # -- snapshots ------------------------------------------------------------------------

    @atomic
    def snapshot(self) -> int:
        """Takes a snapshot inside the present one; its number is its depth.  Raises UsageError
        when there is no room for another."""
        return self.took(self.command("HK_SNAPSHOT"))

    @property
    def depth(self) -> int:
        """How many snapshots there are."""
        return len(self._levels)

    def took(self, depth: int) -> int:
        """The host has taken a snapshot, perhaps with those of other kernels."""
        if depth != len(self._levels) + 1:
            should = str(len(self._levels) + 1)
            raise self._border.lie("the number of a new snapshot", depth, should)
        self._levels.append((self._devs, self.life.mark()))
        self.user.save()
        return depth

    def restore(self, snapshot: int) -> None:
        """Back to a snapshot, which stays; deeper ones are dropped.  A crashed kernel lives
        again.  Raises UsageError."""
        with self.lock:
            if not 1 <= snapshot <= len(self._levels):
                raise self._no_snapshot(snapshot)
            command = self._fill(self._c.HK_RESTORE, 0)
            command.args[0] = snapshot
            self._go(command, "restore")
            self.came_back(snapshot)

    def came_back(self, snapshot: int) -> None:
        """The host has restored it, perhaps with other kernels."""
        levels = self._levels
        if len(levels) > snapshot:
            del levels[snapshot:]
        self._devs, mark = levels[-1]
        self._border.crashed.discard(self.index)
        printed, captured = self._part.heads()
        self._captures.forget(captured)
        self.user.restore(snapshot)
        self.life.back(mark, printed)

    @atomic
    def drop(self, snapshot: int) -> None:
        """Forgets a snapshot and deeper ones; the kernel stays as it is.  Raises UsageError."""
        if not 1 <= snapshot <= len(self._levels):
            raise self._no_snapshot(snapshot)
        self.command("HK_FORGET", 0, snapshot)
        self.dropped(snapshot)

    def dropped(self, snapshot: int) -> None:
        """The host has dropped it, perhaps with those of other kernels."""
        del self._levels[snapshot - 1 :]
        self.user.drop(snapshot)

    def _no_snapshot(self, snapshot: int) -> UsageError:
        return UsageError(f"there is no snapshot {snapshot}: this kernel has {len(self._levels)}")

    # -- its memory -----------------------------------------------------------------------

    @atomic
    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of the kernel's memory, or of the user window.  Raises UsageError for what is
        neither."""
        if self.user.base <= address and address + size <= self.user.base + len(self.user.window):
            at = address - self.user.base
            return bytes(self.user.window[at : at + size])
        parts = []
        room = len(self._out_view)
        for start in range(address, address + size, room):
            length = min(room, address + size - start)
            command = self._fill(self._c.HK_READ, 0)
            command.args[0], command.args[1], command.args[2] = start, length, 0
            self._go(command, f"reading {length} bytes at {start:#x}")
            parts.append(bytes(self._out_view[:length]))
        return b"".join(parts)

    @atomic
    def write_memory(self, address: int, data: bytes) -> None:
        """Changes memory, code and read-only data too; a snapshot brings back what was there.
        Raises UsageError."""
        if self.user.base <= address and address + len(data) <= self.user.base + len(
            self.user.window
        ):
            at = address - self.user.base
            self.user.window[at : at + len(data)] = data
            return
        room = len(self._in_view)
        for start in range(0, len(data), room):
            part = data[start : start + room]
            self._in_view[: len(part)] = part
            command = self._fill(self._c.HK_WRITE, 0)
            command.args[0], command.args[1], command.args[2] = address + start, len(part), 0
            self._go(command, f"writing {len(part)} bytes at {address + start:#x}")

    @property
    def image_base(self) -> int:
        """Where the image lies: its symbols' values count from there."""
        return self._part.place.image

    @property
    def ram_end(self) -> int:
        """Where its memory, which begins with the image, ends."""
        return self._part.place.ram_end

    @atomic
    def memory_hash(self) -> int:
        """A hash of all that a snapshot covers."""
        command = self._fill(self._c.HK_HASH, 0)
        self._go(command, "hash")
        return int(command.extra)

    # -- what there is to see -------------------------------------------------------------

    def console(self, since: int = 0) -> tuple[int, bytes]:
        """(bytes written so far, those from `since` on)."""
        return self._part.console(since)

    def console_lost(self, since: int = 0) -> int:
        """Bytes that were written from `since` on and that console(since) doesn't have any more:
        the host keeps the last 512 KiB."""
        return self._part.console_lost(since)

    @property
    def warnings(self) -> int:
        """Stack traces that the running kernel printed: WARN, lockdep, ..."""
        return self._part.warnings

    @property
    def signals(self) -> list[tuple[int, int, int]]:
        """(time in ns, task, number) of the caught signals, the last HK_SIGNALS of them."""
        return [(one.time_ns, one.task, one.number) for one in self._part.signals()]

    @property
    def stubs(self) -> dict[int, int]:
        """Number to count of the stubs that were reached since the host's start; a restore takes
        nothing back."""
        return self._part.stubs()

    @property
    def boot_ns(self) -> int:
        """Wall time of loading and booting."""
        return self._part.boot_ns

    @property
    def hot_pages(self) -> int:
        """Pages that the last restore copied."""
        return self._part.hot_pages

    @property
    def crash(self) -> CrashReport | None:
        """How the kernel died, or None while it lives.  Raises BorderError when what it shares
        with Python isn't right: a kernel that overwrote that isn't used again."""
        self._part.check()
        return CrashReport.read(self._host, self.index) if self._part.crash else None

    def booted(self) -> Place:
        """It has just booted: notes where it lies."""
        return self._part.place

    # -- inside ---------------------------------------------------------------------------

    def _fill(self, op: int, slot: int) -> Any:
        command = self._command
        self._op = command.op = op
        command.kernel = self.index
        command.slot = slot
        command.timeout = 0
        return command

    def _go(self, command: Any, what: str) -> None:
        try:
            self._host.call()
        except BaseException:
            if command.status == self._c.HK_AGAIN:
                self._give_up(self._op, int(command.slot))
            raise
        if status := command.status:  # nearly always it is HK_OK, 0
            if status == self._c.HK_AGAIN:
                status = self._go_on(command)
            if status:
                self._raise(status, int(command.ret), what)

    @staticmethod
    def _result(command: Any) -> int:
        """Of a call that is over.  Of a task that is no more there is only how it ended."""
        if command.extra == LIB_TASK_EXITED:
            raise ProcessEnded(int(command.ret))
        return int(command.ret)

    def _go_on(self, command: Any) -> int:
        """Serves the network in the middle of a command, or hears that time passes, until that is
        over; its status."""
        c = self._c
        op, slot, until = self._op, int(command.slot), int(command.args[0])
        calls = op in (c.HK_SYSCALL, c.HK_WAIT)
        waits, timeout = op == c.HK_WAIT, int(command.timeout)
        again, before = True, -1  # ns: when that was heard of last
        try:
            while again:
                limit = int(command.extra)
                if self._host.network:
                    self._host.attended()
                elif self.now <= before:
                    raise self._border.lie("hk_command.status", "HK_AGAIN", "an answer")
                before = self.now
                self._fill(c.HK_RESUME if calls else op, slot)
                command.timeout = timeout
                command.args[0], command.args[1] = (limit, waits) if calls else (until, 0)
                again = False
                self._host.call()
                again = command.status == c.HK_AGAIN
        except BaseException:
            if again or command.status == c.HK_AGAIN:
                self._give_up(op, slot)
            raise
        finally:
            self._op = op
        return int(command.status)

    def _give_up(self, op: int, slot: int) -> None:
        """After an error in the middle of a command: ends a system call, for whose result nobody
        will ask any more.  One that was only waited for goes on."""
        if op == self._c.HK_SYSCALL and self._host.alive:
            self.command("HK_CANCEL", slot)
            self.command("HK_POLL", slot)

    @atomic
    def command(self, op: str, slot: int = 0, *args: int) -> int:
        """Executes a command of protocol.h that is about this kernel; what it returns."""
        command = self._fill(getattr(self._c, op), slot)
        for position, value in enumerate(args):
            command.args[position] = value
        self._go(command, op)
        return int(command.ret)

    def _raise(self, status: int, result: int, what: str) -> None:
        c = self._c
        if self._op not in (c.HK_SYSCALL, c.HK_WAIT):
            raise failure(self._host, self.index, status, result, what)
        if status == c.HK_TIMEOUT:
            raise TimeoutError(errno.ETIMEDOUT, f"{what} timed out in virtual time")
        if status == c.HK_DEADLOCK:
            raise Deadlock(
                f"{what} blocks, and nothing can wake it: no timer, no packet, no other task",
                tasks=self._task_list(),
            )
        if status == c.HK_STUCK:
            raise Deadlock(
                f"{what} blocks uninterruptibly; restore a snapshot to go on",
                tasks=self._task_list(),
            )
        raise failure(self._host, self.index, status, result, what)

    def _task_list(self) -> str:
        try:
            return self.show_tasks()
        except UsageError:
            return ""  # task 0, which would make it, is in the call itself

    @staticmethod
    def _checked(result: int) -> None:
        if result < 0:
            raise call_error(result)


def _timeout_ns(seconds: float | None) -> int:
    """0 is none; a timeout of 0 seconds is 1 ns."""
    ns = timeout_ns(seconds)
    return 0 if ns is None else max(1, ns)
