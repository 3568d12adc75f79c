# SPDX-License-Identifier: GPL-2.0
"""The least event loop that runs pyroute2's coroutines over the kernel's netlink sockets.

It has no selector and no thread: when nothing else is to do, it reads the kernel's socket, and that
lets the kernel run.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anykernel.errors import KernelError, UsageError

if TYPE_CHECKING:
    from anykernel.kernel.sockets import Socket

MESSAGE_MOST = 1 << 18


def leave(loop: Any = None, hooks: tuple[Any, Any] = (None, None)) -> tuple[Any, Any]:
    """Another loop is the thread's; which was, with its hooks."""
    before = asyncio._get_running_loop(), tuple(sys.get_asyncgen_hooks())
    asyncio._set_running_loop(loop)
    sys.set_asyncgen_hooks(*hooks)
    return before


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
        # While it blocks, programs of a network run in this thread, with loops of their own.
        loop = leave()
        try:
            flags = 0 if block else socket.MSG_DONTWAIT
            data, address = self.socket.recvfrom(MESSAGE_MOST, flags)
        except BlockingIOError:
            return False
        except OSError as error:
            self.protocol.error_received(error)
            return True
        finally:
            leave(*loop)
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
        outer = leave()
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
            leave(*outer)

    def _enter(self) -> None:
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(self._generators.add, self._finalize)

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
            self._transports[0].receive(block=True)

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
