# SPDX-License-Identifier: GPL-2.0
"""Network: kernels of one host process, their links, their programs and their one clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from anykernel.errors import KernelCrash, UsageError
from anykernel.host.report import CrashReport
from anykernel.host.snapshots import Snapshot, check_above
from anykernel.host.times import nanoseconds
from anykernel.net.engine import Asked, Engine
from anykernel.net.link import KINDS, Cable, Frame, Link, Port, cable
from anykernel.net.node import Node
from anykernel.net.programs import Hub, Program
from anykernel.net.recipes import Recipes
from anykernel.net.running import BUDGET, LIMIT, run
from anykernel.net.wire import Passage, Wire

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.host import Host
    from anykernel.kernel.netdev import Netdev
    from anykernel.kernel.process import Process

R = TypeVar("R")
M = TypeVar("M", bound=Callable[..., Any])
SWITCH_QUEUE = 1000
"""Frames that wait in a switch for each cable, if not said."""
Addresses = str | tuple[str, ...] | list[str]


def _alone(method: M) -> M:
    """Makes a method into which no other thread comes."""

    @wraps(method)
    def taken(self: Network, /, *args: Any, **kwargs: Any) -> Any:
        with self.hub.exclusive():
            return method(self, *args, **kwargs)

    return cast("M", taken)


def _list(addresses: Addresses) -> list[str]:
    return [addresses] if isinstance(addresses, str) else list(addresses)


def _check_mtu(mtu: int) -> int:
    """Before anything is made.  Raises UsageError."""
    if not 68 <= mtu <= 65_535:
        raise UsageError(f"the MTU must be 68 to 65535 bytes, not {mtu}")
    return mtu


class Level(NamedTuple):
    """Python's side of a snapshot."""

    nodes: list[tuple[Node, int]]
    """Each with the snapshot of its kernel."""
    links: list[tuple[Link, Any]]
    ports: list[tuple[Port, Any]]


class Network(Recipes):
    """Nodes, links and programs.  All share one event queue in virtual time, so that the same
    calls with the same seed give the same run, to the bit: `trace` is its hash.

    Raises, throughout, UsageError for what can't be; KernelCrash names the node.
    """

    def __init__(self, host: Host, image: Image) -> None:
        self.host = host
        self.image = image
        self.engine = Engine(host)
        self.wire = Wire(host)
        self.hub = Hub(self)
        self._booted: list[Node] = []
        self._nodes: dict[str, Node] = {}
        self._links: list[Link] = []
        self._ports: dict[int, Port] = {}
        self._levels: list[Level] = []
        self.floor = 0
        """As of a Kernel."""
        self._deciding = False
        host.attend = self._attend

    def __repr__(self) -> str:
        size = f"{len(self._nodes)} nodes, {len(self._links)} links"
        return f"<Network of {size} at {self.seconds:.6f} s>"

    # Nodes

    @property
    def nodes(self) -> Mapping[str, Node]:
        """All nodes by name, in the order in which they were made."""
        return MappingProxyType(self._nodes)

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, in the order in which they were made."""
        return tuple(self._links)

    @_alone
    def node(self, name: str | None = None) -> Node:
        """One more kernel; `name`: n0, n1 ... when not given."""
        index = len(self._nodes)
        name = f"n{index}" if name is None else name
        if not name or name in self._nodes:
            raise UsageError(f"{name!r} is no name for a new node: it is empty, or there is one")
        if index == len(self._booted):
            made = Node(self.host.boot(), self.image)
            if index < self.host.c.HK_FEW:
                # The process may have only so many mappings, of which each page costs some.
                made.keep()
            self._booted.append(made)
        node = self._booted[index]
        self._nodes[name] = node
        self.host.names[index] = name
        self.engine.command("HK_JOIN", kernel=index)
        node.join(name, self.hub)
        return node

    def find(self, node: Node | str) -> Node:
        """The node, or that of this name.  Raises UsageError for one that isn't of this network."""
        if isinstance(node, Node):
            if self._nodes.get(node.name) is node:
                return node
        elif isinstance(node, str) and node in self._nodes:
            return self._nodes[node]
        names = ", ".join(self._nodes) or "none"
        raise UsageError(f"there is no node {node!r} in this network; there are {names}")

    # Links

    @_alone
    def link(
        self,
        a: Node | str,
        b: Node | str,
        *,
        name: str | None = None,
        mtu: int = 1500,
        addresses: tuple[Addresses, Addresses] | tuple[()] = (),
        **options: Any,
    ) -> Link:
        """A cable between new devices of two nodes.

        rate: bits per second, or "1Gbit"; None: no limit.  A frame takes the time that it takes
        on Ethernet, with preamble, FCS and gap.  delay, jitter: seconds, or "100us"; jitter is
        uniform and keeps the order.  loss, duplicate, reorder, corrupt: chance of each frame, 0
        to 1 or "1%"; what is reordered comes `reorder_delay` later; corrupting flips one bit.  At
        most one of these happens to a frame: they are asked in the order loss, corrupt, reorder,
        duplicate.
        queue: frames that may wait, the rest is dropped; None: the kernel's own queue (its qdisc)
        waits, as with a real device.  addresses: of a's and of b's device, each with its prefix
        length.
        """
        one, other = self.find(a), self.find(b)
        if one is other:
            raise UsageError(f"a link of {one.name} to itself: give two nodes")
        if len(addresses) not in (0, 2):
            raise UsageError("addresses= has two parts: those of the first node, of the second")
        new: list[str] = []
        for end, given in zip((one, other), addresses, strict=False):
            self._check_addresses(end, _list(given), new)
            new += _list(given)
        _check_mtu(mtu)
        made = self._link("p2p", name or self._free_name(f"{one.name}-{other.name}"), options)
        for end, given in zip((one, other), addresses or ((), ()), strict=True):
            made.plug(end, addresses=given, mtu=mtu)
        return made

    @_alone
    def segment(self, *nodes: Node | str, **options: Any) -> Link:
        """A shared Ethernet: all hear what one sends, and one sends at a time.  Options: as for
        link(), without addresses (`plug` takes them)."""
        return self._shared("segment", nodes, options)

    @_alone
    def switch(self, *nodes: Node | str, **options: Any) -> Link:
        """A learning switch with a cable to each node; options (of each cable) as for segment().
        Frames that wait in the switch for a cable: `queue`, or 1,000."""
        return self._shared("switch", nodes, options)

    def _shared(self, kind: str, nodes: tuple[Node | str, ...], options: dict[str, Any]) -> Link:
        found = [self.find(node) for node in nodes]
        mtu = _check_mtu(options.pop("mtu", 1500))
        number = sum(link.kind == kind for link in self._links)
        made = self._link(kind, options.pop("name", None) or f"{kind}{number}", options)
        for node in found:
            made.plug(node, mtu=mtu)
        return made

    def _free_name(self, wanted: str) -> str:
        taken = {link.name for link in self._links}
        names = (wanted if i == 1 else f"{wanted}#{i}" for i in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def _link(self, kind: str, name: str, options: dict[str, Any]) -> Link:
        with_ = cable(Cable(), options)
        if any(link.name == name for link in self._links):
            raise UsageError(f"there is a link {name} already")
        number = self.engine.command("HK_LINK", 0, getattr(self.host.c, KINDS[kind]))
        made = Link(self, kind, name, number, with_)
        self._links.append(made)
        return made

    @_alone
    def plug(
        self,
        link: Link,
        node: Node | str,
        netdev: Netdev | None,
        addresses: Addresses,
        mtu: int,
        with_: Cable,
    ) -> Port:
        """Link.plug()."""
        found = self.find(node)
        given = _list(addresses)
        held = [port.given for port in self._ports.values() if port.netdev is netdev]
        has = netdev.addresses if held and netdev is not None else []
        kept = [one for one in held[-1] if one in has] if held else []
        given = [one for one in given if one not in has]
        self._check_addresses(found, kept + given)
        if link.kind == "p2p" and len(link.ports) == 2:
            raise UsageError(f"{link.name} has two ends already: make a segment or a switch")
        fresh = netdev is None
        if netdev is None:
            netdev = found.add_netdev(mtu=mtu, up=False)
        number = self.engine.command("HK_PLUG", netdev.dev, link.number, kernel=found.index)
        made = self._add_port(link, found, netdev, number, kept + given)
        self.set_cable(made, with_)
        if link.rules:
            link.ask()
        made.begin(fresh, given)
        return made

    def _add_port(
        self, link: Link, node: Node, netdev: Netdev, number: int, addresses: list[str]
    ) -> Port:
        made = Port(link, node, netdev, number)
        made.given = addresses
        self._ports[number] = made
        link.ports.append(made)
        node.ports.append(made)
        return made

    def _check_addresses(
        self, node: Node, given: Iterable[str], beside: Iterable[str] = ()
    ) -> None:
        """Raises UsageError for an address that another port has, or that is in `beside`."""
        from anykernel.kernel.rtnl import interface

        for one in given:
            if "/" not in one:
                raise UsageError(f"the address {one!r} has no prefix length: say {one}/24, or so")
        wanted = {found.ip: one for one in given if not (found := interface(one)).ip.is_link_local}
        for port in self._ports.values():
            for held in port.given if wanted and port.plugged else ():
                if interface(held).ip in wanted and held in port.addresses:
                    raise UsageError(
                        f"{wanted[interface(held).ip]} for {node.name} clashes: {port.node.name}'s "
                        f"{port.netdev.name} on {port.link.name} has {held}"
                    )
        for other in beside:
            if interface(other).ip in wanted:
                raise UsageError(f"{other} for {node.name} clashes: the link's other end has it")

    def set_cable(self, port: Port, with_: Cable) -> None:
        """How frames of a port are treated; on a switch, both ways of its cable."""
        raw = with_.raw()
        port.cable = with_
        self.engine.set_pipe(port.number, False, raw)
        if port.link.kind == "switch":
            limit = raw["limit"] or SWITCH_QUEUE
            self.engine.set_pipe(port.number, True, raw | {"limit": limit})

    # Time and programs

    @property
    def now(self) -> int:
        """ns since the boot of the first node."""
        return self.engine.now

    @property
    def seconds(self) -> float:
        """Seconds since then."""
        return self.now / 1e9

    @property
    def trace(self) -> int:
        """A hash of all that was sent on links, with its time and what became of it."""
        return self.engine.trace

    def start(
        self,
        function: Callable[..., R],
        *args: Any,
        on: Node | str | Process,
        name: str | None = None,
        at: float | None = None,
        daemon: bool = False,
    ) -> Program[R]:
        """Runs ``function(process, *args)`` on a node, side by side with other programs.

        It is plain blocking code: `process`, a Process of the node, makes sockets and files;
        ``network.sleep(seconds)`` waits.  It begins in the next run(), or `at` that second of the
        network's time.  `daemon`: run() doesn't wait for it.

        on: a node, or a process of one, such as ``node.fork()`` that has unshared its network
        namespace (a container): `process` is a child of that, in the same namespaces.
        """
        node, parent = self._parent(on)
        begin = self.now if at is None else nanoseconds(at, "at=")
        if begin < self.now:
            raise UsageError(f"at={at}: it is {self.seconds} s already")
        name = name or str(getattr(function, "__name__", "program"))
        return self.launch(function, parent.fork(), node, name, *args, at_ns=begin, daemon=daemon)

    def _parent(self, on: Node | str | Process) -> tuple[Node, Process]:
        """Of which node a program is, and which process is to be its parent."""
        if isinstance(on, Node | str):
            node = self.find(on)
            return node, node
        first = getattr(on, "kernel", on)
        if not isinstance(first, Node):
            raise UsageError(f"{on!r} is neither a node of this network nor a process of one")
        on.check()
        return self.find(first), on

    def launch(
        self,
        function: Callable[..., R],
        process: Process,
        node: Node,
        name: str,
        *args: Any,
        at_ns: int | None = None,
        daemon: bool = False,
    ) -> Program[R]:
        """As start(), in a process that is there already."""
        with self.hub.exclusive():
            run = lambda: function(process, *args)  # noqa: E731
            program = Program(self.hub, name, process, node, run, daemon)
            self.hub.add(program, self.now if at_ns is None else at_ns)
        return program

    def sleep(self, seconds: float) -> None:
        """In a program: waits.  Elsewhere: lets the network run so long."""
        if isinstance(seconds, int | float) and seconds < 0:
            raise UsageError(f"time can't go back ({seconds} s)")
        if self.hub.inside:
            self.hub.sleep(seconds)
        else:
            self.run(seconds)

    def run(
        self,
        seconds: float | None = None,
        *,
        limit: float = LIMIT,
        budget: float = BUDGET,
    ) -> None:
        """Lets time pass: `seconds`, or until all programs that are no daemons have ended.

        Raises what a program raises; Deadlock, with who waits for what, when nothing can ever wake
        those that are left; Unfinished when they have not ended after `limit` virtual seconds or
        `budget` seconds of the wall clock.
        """
        run(self, seconds, limit, budget)

    def run_until(
        self, done: Callable[[], bool], seconds: float | None = None, what: str = ""
    ) -> None:
        """Lets time pass until `done()` or for `seconds`; it is asked when a program, or a call
        of the test, has got on.  `what` waits, for people.  Raises as run()."""
        run(self, seconds, done=done, what=what)

    def _attend(self) -> None:
        """What the host asks for before time goes on."""
        self.wire.drain()
        asked = self.engine.asked()
        if asked and self._deciding:
            raise UsageError("a rule can't wait for a kernel: it decides by what it sees")
        self._deciding = True
        try:
            for one in asked:
                self._answer(one)
        finally:
            self._deciding = False

    def _answer(self, asked: Asked) -> None:
        port = self._ports.get(asked.port)
        if port is None:
            raise self.host.border.lie("hk_asked.port", asked.port, "a port of this network")
        try:
            verdict = port.link.decide(Frame(port.link, port, asked.data, self.now))
        except BaseException:
            self.engine.verdict(asked, "drop")
            raise
        self.engine.verdict(asked, verdict.what, round(verdict.delay * 1e9), verdict.data)

    def ends(self, passage: Passage) -> tuple[str, str]:
        """The names of the link that a frame passed, and of who sent it."""
        port = self._ports.get(passage.port)
        if port is None:
            return "?", "?"
        return port.link.name, port.link.name if passage.towards else port.node.name

    def port(self, number: int) -> Port:
        """The port that a Passage names.  Raises UsageError for one that is gone."""
        if number not in self._ports:
            raise UsageError(f"port {number} is not of this network, or no more")
        return self._ports[number]

    # State

    @_alone
    def snapshot(self) -> Snapshot:
        """Saves all: nodes, links, frames on their way.  restore() comes back to it as often as
        wanted, drop() forgets it; ``with network.snapshot():`` does both at the end of the block.
        Snapshots nest; raises UsageError when there is no room for more of them.  Programs can't
        be saved: raises UsageError while one runs."""
        if any(not program.done for program in self.hub.programs):
            raise UsageError("programs can't be saved: take the snapshot before they start")
        nodes = list(self._nodes.values())
        for node in nodes:
            if node.crashed:
                raise KernelCrash(CrashReport.read(self.host, node.index))
            node.close_collected()
        level = len(self._levels) + 1
        try:
            results = self.engine.batch(
                [("HK_NET_SAVE", 0, level)] + [("HK_SNAPSHOT", node.index, 0) for node in nodes]
            )[1:]
        except UsageError:
            self._undo(level, nodes)
            raise
        depths = list(zip(nodes, results, strict=False))
        for node, depth in depths:
            node.instance.took(depth)
            node._save()
        links = [(link, link.save()) for link in self._links]
        ports = [(port, port.save()) for port in self._ports.values()]
        self._levels.append(Level(depths, links, ports))
        return Snapshot(level, self)

    def _undo(self, level: int, nodes: list[Node]) -> None:
        """A part of a snapshot was taken, and the rest can't be."""
        done = [("HK_FORGET", node.index, node.instance.depth + 1) for node in nodes]
        for command in [("HK_NET_FORGET", 0, level), *done]:
            with suppress(UsageError):
                self.engine.batch([command])

    @_alone
    def drop(self, snapshot: int) -> None:
        """Forgets a snapshot and those inside it; all stays as it is.  Raises UsageError for one
        that is gone."""
        if not 1 <= snapshot <= len(self._levels):
            raise UsageError(f"there is no snapshot {snapshot}: there are {len(self._levels)}")
        check_above(self.floor + 1, snapshot)
        dropped: dict[Node, int] = {}
        for level in self._levels[snapshot - 1 :]:
            for node, depth in level.nodes:
                dropped.setdefault(node, depth)
        commands = [("HK_FORGET", node.index, depth) for node, depth in dropped.items()]
        self.engine.batch([*commands, ("HK_NET_FORGET", 0, snapshot)])
        for node, depth in dropped.items():
            node.instance.dropped(depth)
            node._forget(depth)
        del self._levels[snapshot - 1 :]

    @_alone
    def restore(self, snapshot: int) -> None:
        """Back to a snapshot, which stays; later nodes, links, programs are gone.  0: an empty
        network.  Of more than 128 nodes none can be gone: raises UsageError."""
        if not 0 <= snapshot <= len(self._levels):
            raise UsageError(f"there is no snapshot {snapshot}: there are {len(self._levels)}")
        check_above(self.floor, snapshot)
        level = self._levels[snapshot - 1] if snapshot else Level([], [], [])
        gone = list(self._nodes.values())[len(level.nodes) :]
        if any(not node.kept for node in gone):
            raise UsageError(
                f"nodes behind the first {self.host.c.HK_FEW} can't be taken back: make all of "
                "them before the first snapshot"
            )
        self.hub.clear()
        back = level.nodes + [(node, 1) for node in gone]
        commands = [("HK_RESTORE", node.index, depth) for node, depth in back]
        commands.append(("HK_NET_LOAD", 0, snapshot) if snapshot else ("HK_NET_RESET", 0, 0))
        self.engine.batch(commands)
        for node, depth in back:
            node.instance.came_back(depth)
            node._load(depth)
        del self._levels[snapshot:]
        self._nodes = {node.name: node for node, _ in level.nodes}
        self._links = [link for link, _ in level.links]
        self._ports = {port.number: port for port, _ in level.ports}
        for node in self._nodes.values():
            node.ports = []
        for port, port_state in level.ports:
            port.load(port_state)
        for link, link_state in level.links:
            link.load(link_state)
        self.wire.forget()
