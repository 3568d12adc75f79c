# SPDX-License-Identifier: GPL-2.0
"""pyroute2 over the kernel's own netlink sockets: its IPRoute, its parser, our transport.

pyroute2 is built on asyncio.  It gets an event loop of ours, which has no selector and no thread:
when nothing else is to do, it reads the kernel's socket, and that lets the kernel run.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anykernel.errors import KernelError, UsageError

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket

MESSAGE_MOST = 1 << 18
_PATCHING = threading.RLock()
"""Held while a class of pyroute2 is changed for a moment."""


class Transport(asyncio.DatagramTransport):
    """A netlink socket of the kernel, for a protocol."""

    def __init__(self, sock: Socket, protocol: Any) -> None:
        super().__init__()
        self.socket, self.protocol = sock, protocol
        self._closing = False

    def receive(self, block: bool) -> bool:
        """Hands one datagram on; False when there is none."""
        if self._closing:
            return False
        try:
            flags = 0 if block else socket.MSG_DONTWAIT
            data, address = self.socket.recvfrom(MESSAGE_MOST, flags)
        except BlockingIOError:
            return False
        except OSError as error:
            self.protocol.error_received(error)
            return True
        self.protocol.datagram_received(data, address)
        return True

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Closes the socket, too."""
        self._closing = True
        with contextlib.suppress(KernelError):
            self.socket.close()

    abort = close


class KernelLoop(asyncio.AbstractEventLoop):
    """The least event loop that runs pyroute2's coroutines, in the caller's thread."""

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self._transports: list[Transport] = []
        self._generators: set[Any] = set()
        self._closed = False
        self._running = False

    # What asyncio's own objects ask for

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing is logged: errors of coroutines reach the caller."""

    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Any, **options: Any
    ) -> Any:
        protocol = protocol_factory()
        transport = Transport(options["sock"], protocol)
        self._transports.append(transport)
        protocol.connection_made(transport)
        return transport, protocol

    # Running

    def run_until_complete(self, future: Any) -> Any:
        """Runs until `future` is done.  Deadlock when the kernel has no answer for it."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        outer = self._leave()
        task = asyncio.ensure_future(future, loop=self)
        self._enter()
        self._running = True
        try:
            while not task.done():
                self._turn(block=True)
            return task.result()
        finally:
            if not task.done():
                # The kernel is dead or deadlocked: end the task, quietly.
                task.cancel()
                with contextlib.suppress(Exception):
                    while self._ready:
                        self._ready.popleft()._run()
            self._running = False
            self._leave(*outer)

    def _enter(self) -> None:
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generators.add, self._finalize)

    @staticmethod
    def _leave(loop: Any = None, hooks: tuple[Any, Any] = (None, None)) -> tuple[Any, Any]:
        """Another loop is the thread's; which was, with its hooks."""
        before = asyncio._get_running_loop(), tuple(sys.get_asyncgen_hooks())
        asyncio._set_running_loop(loop)
        sys.set_asyncgen_hooks(*hooks)
        return before

    def _turn(self, block: bool) -> None:
        if self._ready:
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
            return
        received = [transport.receive(block=False) for transport in self._transports]
        if any(received):
            return
        if not self._transports:
            raise UsageError("this coroutine waits for something that isn't the kernel")
        if block:
            self._leave()  # programs of a network have loops of their own in the same thread
            try:
                self._transports[0].receive(block=True)
            finally:
                self._enter()

    def _finalize(self, generator: Any) -> None:
        self._generators.discard(generator)
        if not self._closed:
            self.create_task(generator.aclose())

    async def shutdown_asyncgens(self) -> None:
        generators, self._generators = list(self._generators), set()
        for generator in generators:
            await generator.aclose()

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._transports.clear()


class _OurTransport:
    """While a class of pyroute2 makes its object: gives it a socket and an event loop of ours.

    Not all of its classes take them as arguments, so they are put in where all of them end up.
    """

    def __init__(self, core: Any, sock: Socket) -> None:
        self._core, self._sock = core, sock
        self._init: Any = None

    def __enter__(self) -> None:
        sock, init = self._sock, self._core.__init__
        address = sock.getsockname()[0]
        self._init = init

        def bind(groups: int = 0, pid: int | None = None, **options: Any) -> None:
            """The socket has its address already; only groups are new."""
            sock.bind((address, groups))

        def begin(core: Any, *args: Any, **options: Any) -> None:
            loop = KernelLoop()  # type: ignore[abstract]  # the rest is NotImplementedError
            init(core, *args, **{**options, "use_socket": sock, "use_event_loop": loop})
            core._sync_bind = bind
            # Requests carry the socket's own address, not the process id of this test run.
            core.status["epid"] = address

        self._core.__init__ = begin

    def __exit__(self, *exc: object) -> None:
        self._core.__init__ = self._init


def _keep_to_this_thread(core: Any) -> None:
    """Refuses other threads before pyroute2 does anything for them with our event loop."""
    owner, loop = threading.get_ident(), core.setup_event_loop

    def setup() -> Any:
        if owner != threading.get_ident():
            raise UsageError(
                "a netlink object is used by the thread that made it: call kernel.netlink() in "
                "each thread (kernel.iproute is of the thread that asks for it)"
            )
        return loop()

    core.setup_event_loop = setup


def open_netlink(process: Process, cls: Any = None, **options: Any) -> Any:
    """An object of a class of pyroute2 (default: IPRoute) that talks to the kernel under test.

    `options` are the class's own; `protocol` is the netlink protocol of its socket, needed for
    classes that aren't for NETLINK_ROUTE: ``kernel.netlink(NFTables, protocol=12)``.  Raises
    UsageError when pyroute2 is too old for an event loop of ours.
    """
    import pyroute2
    from pyroute2.netlink import core

    base = getattr(core, "AsyncCoreSocket", None)
    if base is None:
        raise UsageError(
            f"pyroute2 {pyroute2.__version__} can't use the kernel's sockets: "
            "install pyroute2 0.9.1 or newer"
        )
    protocol = options.pop("protocol", socket.NETLINK_ROUTE)
    sock = process.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    sock.bind((0, 0))
    with _PATCHING, _OurTransport(base, sock):
        made = (pyroute2.IPRoute if cls is None else cls)(**options)
    # Some requests pyroute2 would answer itself, with the machine's own kernel.
    made.asyncore.request_proxy = None
    _keep_to_this_thread(made.asyncore)
    return made
