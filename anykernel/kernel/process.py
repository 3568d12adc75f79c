# SPDX-License-Identifier: GPL-2.0
"""A process of the kernel, controlled from Python: its system calls, files and sockets."""

from __future__ import annotations

import os
import signal as pysignal
import socket as pysocket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from anykernel.errors import Deadlock, KernelError, ProcessEnded, UsageError, call_error, ending
from anykernel.host.stretch import Stretch, Stretches
from anykernel.kernel import abi
from anykernel.kernel.background import Call, Workers
from anykernel.kernel.call import Memory, Plan, Request, alone, believed, request
from anykernel.kernel.links import Links
from anykernel.kernel.mapping import READ_WRITE, SHARED, Mapping
from anykernel.kernel.waits import explain

if TYPE_CHECKING:
    from pathlib import Path

    from anykernel.kernel.capture import DeviceCapture
    from anykernel.kernel.collected import ClosedLater
    from anykernel.kernel.files import Files
    from anykernel.kernel.interface import Instance
    from anykernel.kernel.kernel import Kernel
    from anykernel.kernel.poll import Epoll, Poll
    from anykernel.kernel.sockets import Socket
    from anykernel.kernel.sysctl import Counters, Sysctl

R = TypeVar("R")
SPAWN = 0x10000
"""The kernel library's own call that makes a task (LIB_SYS_SPAWN)."""
CLONE_THREAD_FLAGS = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
"""VM, FS, FILES, SIGHAND, THREAD, SYSVSEM: a thread as pthread_create makes it."""
U64 = (1 << 64) - 1
READ_SIZE = 1 << 16


class Caught(NamedTuple):
    """A signal that a process had a handler for."""

    time_ns: int
    """Virtual time since boot."""
    signum: int


class Process(Links):
    """One process of the kernel.  `kernel.process()` makes more; the Kernel itself is the first.

    What the calls raise: OSError (of the subclass for its errno) when the kernel refuses,
    TimeoutError when a timeout in virtual time has passed, Deadlock when a blocking call can never
    end, ProcessEnded when the process is killed or exits in it, KernelCrash when the kernel died of
    it, UsageError when the object's state was restored away.
    """

    _stretches: Stretches
    """Between which snapshots it is now; one object for all processes' eyes lives in the Kernel."""

    def __init__(
        self, instance: Instance, task: int, workers: Workers, parent: Process | None, pid: int = 1
    ):
        self.instance = instance
        self.task = task
        self.pid = pid
        """Its process id, as it saw it when it was made."""
        self._workers = workers
        self._parent = parent
        self._born = parent.state if parent is not None else None
        self._ended: tuple[Stretch, str] | None = None

    def __repr__(self) -> str:
        return f"<Process {self.pid}{', ended' if self.ended else ''}>"

    @property
    def process(self) -> Process:
        return self

    @property
    def kernel(self) -> Kernel:
        """The kernel that it is a process of."""
        first: Any = self
        while first._parent is not None:
            first = first._parent
        found: Kernel = first
        return found

    @property
    def state(self) -> Stretch:
        """What objects made now belong to."""
        if self._parent is None:
            return self._stretches.now
        return self._parent.state

    def check(self) -> None:
        """Raises UsageError when this process is no more."""
        if self._born is not None and not self._born.alive:
            raise UsageError(
                "this process belongs to a state that was restored away: make a new one, or make "
                "it before the snapshot"
            )
        if self.ended:
            raise UsageError(f"this process has ended: {self._ended[1]}")  # type: ignore[index]

    @property
    def ended(self) -> bool:
        """Whether it is known to have ended: by exit(), or because a call showed it."""
        return self._ended is not None and self._ended[0].alive

    def note_end(self, status: int) -> None:
        """A call has shown that it is no more; a restore may bring it back."""
        self._ended = self.state, f"it {ending(status)}"

    def ended_in(self, error: ProcessEnded, nr: int) -> ProcessEnded:
        """`error` as the test is to see it: who ended, and in which call."""
        return ProcessEnded(error.status, f"process {self.pid}", f"{abi.name(nr)}()")

    # Running

    def exclusive(self) -> AbstractContextManager[Any]:
        """For a with block into which no other thread comes: this kernel's calls are made one
        after the other, whoever makes them.  Raises UsageError in a thread that can't have its
        turn, since programs of a network run in another."""
        scheduler = self._workers.scheduler
        return self.instance.lock if scheduler is None else scheduler.exclusive()

    def run(self, plan: Plan[R]) -> R:
        """Executes an operation's plan; blocking calls let virtual time run."""
        with self.exclusive():
            return self._run(plan)

    def _run(self, plan: Plan[R]) -> R:
        self.check()
        if self.orphans:
            self.close_collected()
        syscall, busy = self.instance.syscall, self._workers.busy
        scheduler = self._workers.scheduler
        if scheduler is not None and not scheduler.busy:
            scheduler = None
        nr, args = 0, tuple[int, ...]()
        try:
            nr, args, timeout = next(plan)
            while True:
                if scheduler is not None:
                    result = scheduler.call(self, nr, args, timeout)
                elif busy():
                    result = self._beside(nr, args, timeout)
                else:
                    result = syscall(nr, *args, task=self.task, timeout=timeout)
                if result < 0:
                    nr, args, timeout = plan.throw(call_error(result))
                else:
                    nr, args, timeout = plan.send(believed(nr, args, result))
        except StopIteration as stop:
            value: R = stop.value
            return value
        except ProcessEnded as error:
            self.note_end(error.status)
            raise self.ended_in(error, nr) from None
        except KernelError as error:
            if isinstance(error, Deadlock) and not error.waits:
                explain(error, self, nr, args, self._workers.waiting())
            error.add_note(f"in {abi.name(nr)}() of {self!r}")
            raise
        except UsageError as error:
            if self._parent is not None and "No such process" in str(error):
                raise self.no_more(self.task) from None
            raise
        finally:
            plan.close()

    def no_more(self, task: int) -> UsageError:
        """It ended while its thread `task` was in no call."""
        how = "it was killed or it exited"
        try:
            self.instance.poll(task)
        except ProcessEnded as error:
            if task == self.task:
                self.note_end(error.status)
            how = f"it {ending(error.status)}"
        return UsageError(f"this process has ended: {how}")

    @property
    def orphans(self) -> list[ClosedLater]:
        """Files and sockets that Python has collected and that are still to be closed."""
        return self._workers.orphans

    def close_collected(self) -> None:
        """Closes what Python has collected."""
        while self.orphans:
            self.orphans.pop(0).close_collected()

    def _beside(self, nr: int, args: tuple[int, ...], timeout: float | None) -> int:
        """A system call while background calls go on, which may have more than one of them."""
        self.instance.post(nr, *args, task=self.task)
        try:
            return self._workers.wait(self.instance, self.task, timeout)
        except (TimeoutError, Deadlock):
            self.instance.cancel(self.task)
            self.instance.run()
            raise

    @alone
    def submit(self, operation: Callable[..., R] | str, /, *args: Any, **kwargs: Any) -> Call[R]:
        """Starts an operation in a thread of its own and returns at once, like an executor.

        `operation` is a method of a socket, of an open file's `raw`, of `kernel.os`, or the name
        of a system call.  What it needs to end may then be done by the test::

            call = kernel.submit(server.accept)
            client.connect(server.getsockname())
            connection, address = call.result()

        Raises UsageError for other callables.
        """
        self.check()
        plan: Plan[Any]
        if isinstance(operation, str):
            plan = self._syscall(operation, *args, **kwargs)
        else:
            make = getattr(operation, "plan", None)
            owner = getattr(operation, "__self__", None)
            if make is None or owner is None:
                raise UsageError(
                    f"submit() can't run {operation!r}: give a method of a kernel's socket or "
                    "file, or a system call's name"
                )
            plan = make(owner, *args, **kwargs)
        return self._workers.start(self, plan)

    def memory(self) -> Memory:
        """User memory for a with block."""
        return Memory(self)

    def mmap(
        self, fd: int, length: int, prot: int = READ_WRITE, flags: int = SHARED, offset: int = 0
    ) -> Mapping:
        """Maps `length` bytes of a file, or with fd -1 and mmap.MAP_ANONYMOUS memory, as mmap(2)
        does without an MMU (Documentation/admin-guide/mm/nommu-mmap.rst): MAP_PRIVATE copies,
        MAP_SHARED only what lies in memory, such as a file of a tmpfs.  Raises OSError."""
        return Mapping(self, fd, length, prot, flags, offset)

    def syscall(self, name: str | int, /, *args: Any, timeout: float | None = None) -> int:
        """Executes a system call by its name (or number) and returns its result.

        Arguments: int; None (NULL); bytes (copied in); str (a path: copied in with a NUL);
        bytearray or another writable buffer (copied in and, afterwards, back out).  `timeout` is
        in virtual seconds.  Raises OSError, and UsageError for an unknown name.
        """
        return self.run(self._syscall(name, *args, timeout=timeout))

    def _syscall(self, name: str | int, *args: Any, timeout: float | None = None) -> Plan[int]:
        nr = name if isinstance(name, int) else abi.number(name)
        if len(args) > 6:
            raise UsageError(f"a system call has at most 6 arguments, not {len(args)}")
        with self.memory() as memory:
            values: list[int] = []
            back: list[tuple[memoryview, memoryview]] = []
            for value in args:
                if value is None:
                    values.append(0)
                elif isinstance(value, int):
                    values.append(value & U64)
                elif isinstance(value, str):
                    values.append(memory.path(value))
                else:
                    view = memoryview(value).cast("B")
                    buffer = memory.new(len(view))
                    buffer.view[: len(view)] = view
                    values.append(buffer.address)
                    if not view.readonly:
                        back.append((view, buffer.view))
            try:
                return (yield Request(nr, tuple(values), timeout))
            finally:  # what fails may have written, too, like nanosleep() the time left
                for mine, kernels in back:
                    mine[:] = kernels[: len(mine)]

    # What a process has

    @alone
    def fork(self) -> Process:
        """A child process with a copy of the open files; memory is shared.

        It can unshare() namespaces, change its user and so on, without the others' noticing.
        """
        flags = 0x100
        task = self.run(request(SPAWN, flags))
        child = Process(self.instance, task, self._workers, self)
        child.pid = child.os.getpid()
        return child

    @alone
    def exit(self, status: int = 0) -> None:
        """Ends the process, which then is a zombie until its parent waits for it."""
        if self._parent is None:
            raise UsageError("the first process can't end: the kernel would panic")
        self.check()
        self.note_end((status & 0xFF) << 8)
        with suppress(UsageError, ProcessEnded):  # it may have been killed
            self.instance.post(abi.number("exit_group"), status, task=self.task)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None and self._parent is not None and not self.ended:
            self.exit()

    @property
    def caught(self) -> list[Caught]:
        """The signals that this process caught (os.sigaction()), the last 64 at most."""
        return [
            Caught(time_ns, pysignal.Signals(number) if number < 32 else number)
            for time_ns, task, number in self.instance.signals
            if task == self.task
        ]

    @cached_property
    def os(self) -> Files:
        """File and process calls that mirror Python's os module."""
        from anykernel.kernel.files import Files

        return Files(self)

    @cached_property
    def sysctl(self) -> Sysctl:
        """/proc/sys as a mapping: ``kernel.sysctl["net.ipv4.ip_forward"] = 1``."""
        from anykernel.kernel.sysctl import Sysctl

        return Sysctl(self)

    @cached_property
    def snmp(self) -> Counters:
        """The protocols' counters: ``kernel.snmp["Icmp"]["InCsumErrors"]``."""
        from anykernel.kernel.sysctl import Counters

        return Counters(self)

    def netlink(self, cls: Any = None, **options: Any) -> Any:
        """A new object of a netlink class of pyroute2 (default: IPRoute) over the kernel's netlink.

        For classes that are not for NETLINK_ROUTE, `protocol` is the netlink protocol of the
        socket; other options are the class's own.
        """
        from anykernel.kernel.netlink import open_netlink

        return open_netlink(self, cls, **options)

    def open(self, path: Any, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        """Like the built-in open(), for a file of the kernel."""
        from anykernel.kernel.fileio import open_file

        return open_file(self, path, mode, buffering, **options)

    def read_text(self, path: Any) -> str:
        """The text of a file, /proc's included."""
        return self.read_bytes(path).decode(errors="replace")

    def read_bytes(self, path: Any) -> bytes:
        """The content of a file, /proc's included."""
        # Not open(): each system call is a round trip, and these are read often.
        fd = self.os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while part := self.os.read(fd, READ_SIZE):
                parts.append(part)
        finally:
            self.os.close(fd)
        return b"".join(parts)

    def write_text(self, path: Any, text: str) -> int:
        """Replaces a file's content.  Returns the number of characters."""
        with self.open(path, "wb", buffering=0) as file:
            file.write(text.encode())
        return len(text)

    def socket(
        self,
        family: int = pysocket.AF_INET,
        type: int = pysocket.SOCK_STREAM,
        proto: int = 0,
    ) -> Socket:
        """A socket of the kernel, which behaves like socket.socket; timeouts in virtual time."""
        from anykernel.kernel.sockets import Socket

        return Socket(self, family, type, proto)

    def socketpair(
        self,
        family: int = pysocket.AF_UNIX,
        type: int = pysocket.SOCK_STREAM,
        proto: int = 0,
    ) -> tuple[Socket, Socket]:
        """Two connected sockets."""
        from anykernel.kernel.sockets import Socket

        with self.memory() as memory:
            pair = memory.new(8)
            self.run(request(abi.number("socketpair"), family, type, proto, pair.address))
            first, second = memoryview(pair.view[:8]).cast("i")
        return (
            Socket(self, family, type, proto, fileno=first),
            Socket(self, family, type, proto, fileno=second),
        )

    def capture(self, device: str) -> DeviceCapture:
        """Collects the frames that pass any device of this process' network namespace from now on:
        lo, a bridge, a veth, a tunnel ...; a sequence of frames with time_ns, direction, data.  As
        a with block it ends there.  It is what tcpdump there sees; what goes over the wire of a
        netdev, its own capture() has.  Raises UsageError for a device that isn't there."""
        from anykernel.kernel.capture import DeviceCapture

        return DeviceCapture(self, device)

    def pcap(self, device: str, path: str | Path) -> AbstractContextManager[DeviceCapture]:
        """Writes what passes a device during a with block to a pcap file; see capture()."""
        from anykernel.kernel.capture import device_pcap

        return device_pcap(self, device, path)

    def select(
        self, rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """select.select() in the kernel; timeout in virtual seconds."""
        from anykernel.kernel.poll import select

        return select(self, rlist, wlist, xlist, timeout)

    def poll(self) -> Poll:
        """Like select.poll()."""
        from anykernel.kernel.poll import Poll

        return Poll(self)

    def epoll(self, flags: int = 0) -> Epoll:
        """Like select.epoll()."""
        from anykernel.kernel.poll import Epoll

        return Epoll(self, flags)
