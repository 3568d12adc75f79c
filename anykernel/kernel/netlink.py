# SPDX-License-Identifier: GPL-2.0
"""pyroute2 over the kernel's own netlink sockets: its classes, its parser, our transport.

pyroute2 is built on asyncio; it gets an event loop of ours (loop.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from anykernel.errors import KernelError, UsageError
from anykernel.kernel.loop import KernelLoop

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.kernel.sockets import Socket

_PATCHING = threading.RLock()
"""Held while a class of pyroute2 is changed for a moment."""
SOL_NETLINK, LISTEN_ALL_NSID, EXT_ACK, GET_STRICT_CHK = 270, 8, 11, 12
NAMESPACES = (
    "namespaces are processes' here: fork() a process, unshare() or setns() there, and make the "
    "object with its netlink()"
)
MACHINE = "it would lead to the machine's own kernel"
FIXED = "the kernel chooses a socket's address"
USELESS = "it has no effect"
REFUSED = {
    "fileno": MACHINE,
    "flags": NAMESPACES,
    "libc": MACHINE,
    "netns": NAMESPACES,
    "netns_path": NAMESPACES,
    "async_qsize": USELESS,
    "pid": FIXED,
    "port": FIXED,
    "rcvsize": USELESS,
    "target": MACHINE,
    "telemetry": "it would send to a server of the machine's",
    "use_event_loop": "it has one of ours",
    "use_socket": "it has one of the kernel's",
}
"""Options of pyroute2's classes that can't be served, and why."""
INSTEAD = {
    "NDB": "works with threads of its own: use IPRoute",
    "IPDB": "is no more: use IPRoute",
    "Ethtool": "asks the machine's own kernel, by ioctl: use NlEthtool, or ioctl() on a socket",
    "WiSet": "opens its socket itself: give it one, WiSet(sock=kernel.netlink(IPSet))",
    "NetNS": f"would enter a namespace of the machine: {NAMESPACES}",
    "NSPopen": "starts programs on the machine: it can't reach this kernel",
}
"""Classes of pyroute2 that can't be served, and what can."""


class _OurTransport:
    """While a class of pyroute2 makes its object: gives each of its sockets one of the kernel, an
    event loop and a queue of ours.

    Not all of its classes take them as arguments, so they are put in where all of them end up.
    """

    def __init__(self, core: Any, process: Process, options: _Options) -> None:
        self._core, self._process, self._options = core, process, options
        self._init: Any = None
        self.made: list[Any] = []

    def __enter__(self) -> _OurTransport:
        self._init = self._core.__init__
        self._core.__init__ = self._begin()
        return self

    def __exit__(self, *exc: object) -> None:
        self._core.__init__ = self._init

    def _begin(self) -> Callable[..., None]:
        init, process, options = self._init, self._process, self._options

        def begin(core: Any, *args: Any, **kwargs: Any) -> None:
            family = core.spec.status["family"] if options.protocol is None else options.protocol
            sock = process.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
            sock.bind((0, 0))
            loop = KernelLoop()  # type: ignore[abstract]  # the rest is NotImplementedError
            init(core, *args, **{**kwargs, "use_socket": sock, "use_event_loop": loop})
            address = sock.getsockname()[0]
            # Requests carry the socket's own address, not the process id of this test run.
            core.status["epid"] = address
            core.status["ext_ack"] = options.ext_ack
            options.set(sock, core.status)
            core.local.msg_queue = _queue(core)
            close = core.close

            def bind(groups: int = 0, pid: int | None = None, **unused: Any) -> None:
                """The socket has its address already; only groups are new."""
                if pid is not None:
                    raise UsageError("a netlink socket's address is the kernel's choice: no pid=")
                sock.bind((address, groups & 0xFFFFFFFF))

            def close_all(*args: Any, **kwargs: Any) -> None:
                close(*args, **kwargs)
                with contextlib.suppress(KernelError):
                    sock.close()

            core._sync_bind, core.close = bind, close_all
            self.made.append(core)

        return begin


def _queue(core: Any) -> Any:
    """Where a socket's messages wait.  Who asks for one that isn't there reads the socket, whatever
    event loop it runs in: asyncio's own can't watch sockets of the kernel."""
    from pyroute2.netlink.core import CoreMessageQueue

    class Queue(CoreMessageQueue):  # type: ignore[misc]
        async def get(self, tag: int) -> Any:
            queue = self.queues[tag]
            if queue.empty() and not core.local.transport.receive(block=False):
                await asyncio.sleep(0)  # another task may be about to ask for what comes
            while queue.empty():
                core.local.transport.receive(block=True)
            message = queue.get_nowait()
            queue.task_done()
            return message

    return Queue(event_loop=core.use_event_loop)


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


class _Options(NamedTuple):
    """What is set on each socket."""

    protocol: int | None
    """Of the socket, if not the class's own."""
    ext_ack: bool
    buffers: dict[int, int]
    """By SO_SNDBUF, SO_RCVBUF."""

    def set(self, sock: Socket, status: Any) -> None:
        for option, value in self.buffers.items():
            sock.setsockopt(socket.SOL_SOCKET, option, value)
        wanted = {
            EXT_ACK: self.ext_ack,
            LISTEN_ALL_NSID: status["all_ns"],
            GET_STRICT_CHK: status["strict_check"],
        }
        for option, on in wanted.items():
            if on:
                sock.setsockopt(SOL_NETLINK, option, 1)


def _check_class(cls: Any) -> None:
    """Raises UsageError for what doesn't work over sockets of ours, and says what to take."""
    from pyroute2.netlink.core import SyncAPI
    from pyroute2.netlink.nlsocket import AsyncNetlinkSocket

    if not isinstance(cls, type):
        raise UsageError(f"netlink() takes a class of pyroute2, such as IPRoute, not {cls!r}")
    for base in cls.__mro__:
        if base.__name__ in INSTEAD and base.__module__.startswith("pyroute2"):
            raise UsageError(f"pyroute2's {cls.__name__} {INSTEAD[base.__name__]}")
    if not issubclass(cls, (SyncAPI, AsyncNetlinkSocket)):
        raise UsageError(
            f"{cls.__name__} is no netlink socket: netlink() takes a class of pyroute2 such as "
            "IPRoute, NFTSocket or WireGuard"
        )


def open_netlink(process: Process, cls: Any = None, **options: Any) -> Any:
    """An object of a class of pyroute2 (default: IPRoute) that talks to the kernel under test.

    `options` are the class's own; `protocol`: the netlink protocol of its socket, where it isn't
    the class's own.  The kernel's extended error texts are part of errors unless ext_ack=False.
    The methods of Async classes are coroutines for any event loop, asyncio.run() included.  Raises
    UsageError for classes and options that can't be served, when the kernel lacks what the class
    talks to, and when pyroute2 is too old for an event loop of ours.
    """
    import pyroute2
    from pyroute2.netlink import core
    from pyroute2.netlink.exceptions import NetlinkError

    base = getattr(core, "AsyncCoreSocket", None)
    if base is None:
        raise UsageError(
            f"pyroute2 {pyroute2.__version__} can't use the kernel's sockets: "
            "install pyroute2 0.9.1 or newer"
        )
    cls = pyroute2.IPRoute if cls is None else cls
    _check_class(cls)
    for name in options:
        if name in REFUSED:
            raise UsageError(f"netlink() can't have {name}=: {REFUSED[name]}")
    buffers = {
        option: options[name]
        for name, option in (("sndbuf", socket.SO_SNDBUF), ("rcvbuf", socket.SO_RCVBUF))
        if name in options
    }
    common = _Options(options.pop("protocol", None), bool(options.pop("ext_ack", True)), buffers)
    transport = _OurTransport(base, process, common)
    try:
        with _PATCHING, transport:
            made = cls(**options)
    except TypeError as error:
        raise UsageError(f"pyroute2's {cls.__name__} doesn't take that: {error}") from error
    except (OSError, NetlinkError, LookupError) as error:
        for one in transport.made:
            one.close()
        raise UsageError(
            f"pyroute2's {cls.__name__} finds nobody to talk to in this kernel, lacks a right "
            f"there, or is only a base of others: {error!r}"
        ) from error
    if not transport.made:
        raise UsageError(f"pyroute2's {cls.__name__} opens no netlink socket of its own")
    for one in transport.made:
        # Some requests pyroute2 would answer itself, with the machine's own kernel.
        one.request_proxy = None
        _keep_to_this_thread(one)
    return made
