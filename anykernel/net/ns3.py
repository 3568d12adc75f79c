# SPDX-License-Identifier: GPL-2.0
"""Library kernels on the channels of a real ns-3 simulation, whose scheduler is the clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from anykernel.errors import UsageError
from anykernel.host import Host
from anykernel.host import ns3 as installed
from anykernel.net import units
from anykernel.net.link import Cable, Link, Port
from anykernel.net.network import Network

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.kernel.netdev import Netdev
    from anykernel.net.network import Addresses
    from anykernel.net.node import Node

Place = Sequence[float]
"""x, y, z in metres; what is left out is 0."""
APART = 10.0
"""Metres between stations that were given no position."""
OFDM = (6, 9, 12, 18, 24, 36, 48, 54)
BASIC = (6, 12, 24)
WIFI = {
    "a": {rate * 10**6: f"OfdmRate{rate}Mbps" for rate in OFDM},
    "b": {
        1_000_000: "DsssRate1Mbps",
        2_000_000: "DsssRate2Mbps",
        5_500_000: "DsssRate5_5Mbps",
        11_000_000: "DsssRate11Mbps",
    },
    "g": {rate * 10**6: f"ErpOfdmRate{rate}Mbps" for rate in OFDM},
}
"""Rates of each 802.11 standard, and what ns-3 calls them."""
LONGEST = {"csma": 65_535, "wifi": 2296}
"""The largest MTU."""
SEEDS = 4294944442
"""ns-3's generator takes seeds from 1 to this."""


def vector(what: str, place: Place) -> str:
    """As ns-3 reads it.  Raises UsageError."""
    values = [float(value) for value in place]
    if len(values) > 3 or not all(math.isfinite(value) for value in values):
        raise UsageError(f"{what}={place!r}: up to three finite numbers, x, y and z")
    return f"{what}=" + ":".join(repr(value) for value in [*values, 0.0, 0.0, 0.0][:3])


class Channel(Link):
    """An ns-3 channel and the devices on it; made by csma() and wifi()."""

    network: Ns3Network

    def plug(
        self,
        node: Node | str,
        *,
        netdev: Netdev | None = None,
        addresses: Addresses = (),
        mtu: int = 1500,
        position: Place | None = None,
        **options: Any,
    ) -> Port:
        """Adds a node, with a new device; position: where the node is, in metres.  A node is
        in one place, whatever channels it is on.  Raises UsageError."""
        if options:
            raise UsageError(f"{self.name} is the same for all its nodes: {', '.join(options)}")
        if not 68 <= mtu <= LONGEST[self.kind]:
            raise UsageError(f"mtu={mtu}: {self.kind} carries from 68 to {LONGEST[self.kind]}")
        return self.network.attach(self, node, netdev, addresses, mtu, position)

    def move(
        self, node: Node | str, position: Place | None = None, velocity: Place = (0.0,)
    ) -> None:
        """Puts a node somewhere, from now on moving at `velocity`, in metres per second."""
        where = [vector("position", position)] if position is not None else []
        text = " ".join(["move", *where, vector("velocity", velocity)])
        self.network.say("HK_PIPE", self.port(node).number, 0, text)

    def set(self, **options: Any) -> NoReturn:
        raise UsageError("an ns-3 channel stays as it was made; move() changes where nodes are")

    def rule(self, decide: Any, **options: Any) -> NoReturn:
        raise UsageError("ns-3 decides what becomes of frames: rules are for links of `network`")


class Ns3Network(Network):
    """As Network, but ns-3's channels join the nodes: csma() and wifi().

    link() and segment() make a CSMA channel, so that chains and stars can be had, too.  The state
    of ns-3 can't be saved: there are no snapshots.
    """

    def __init__(self, host: Host, image: Image, *, seed: int = 0) -> None:
        super().__init__(host, image)
        self._seed = seed
        self._run = 1

    def random(self, run: int) -> None:
        """ns-3's RngRun, 1 if not given: another one gives other backoffs, losses and so on.
        Before the first channel.  Raises UsageError."""
        if self._links or not 0 < run < 1 << 31:
            raise UsageError(f"random({run}): a number from 1, before the first channel is made")
        self._run = run

    def csma(
        self,
        *nodes: Node | str,
        name: str | None = None,
        rate: float | str = "100Mbit",
        delay: float | str = "1us",
        mtu: int = 1500,
        addresses: Sequence[Addresses] = (),
    ) -> Channel:
        """ns-3's Ethernet bus: half duplex, one sends at a time.  delay: from any to any.
        addresses: of each node's device.  Raises UsageError."""
        made = self._channel("csma", name, self._csma(rate, delay))
        self._plug_all(made, nodes, addresses, [None] * len(nodes), mtu)
        return made

    def wifi(
        self,
        *nodes: Node | str,
        name: str | None = None,
        standard: str = "a",
        rate: float | str | None = "54Mbit",
        range: float | None = None,
        positions: Sequence[Place] = (),
        mtu: int = 1500,
        addresses: Sequence[Addresses] = (),
    ) -> Channel:
        """ns-3's 802.11 in ad-hoc mode.

        standard: a, b or g.  rate: at which data is sent, None: what ns-3 finds best for each
        station.  range: metres, behind which nothing is heard; None: the signal fades with the
        logarithm of the distance.  positions: of the nodes; 10 m apart in a row if not given.
        Raises UsageError.
        """
        modes = WIFI.get(standard)
        if modes is None:
            raise UsageError(f"standard={standard!r}: it is {', '.join(WIFI)}")
        words = [f"standard={standard}", "mode=ideal"]
        if rate is not None:
            bits = units.rate(rate)
            if bits not in modes:
                known = ", ".join(f"{one / 1e6:g}Mbit" for one in modes)
                raise UsageError(f"802.11{standard} has no rate {rate!r}; it has {known}")
            basic = [one * 10**6 for one in BASIC] if standard != "b" else [1_000_000]
            control = max(one for one in basic if one <= bits)
            words[1:] = [f"mode={modes[bits]}", f"control={modes[control]}"]
        if range is not None:
            if not 0 < range < math.inf:
                raise UsageError(f"range={range!r}: metres, above 0")
            words.append(f"range={float(range)}")
        if len(positions) not in (0, len(nodes)):
            raise UsageError(f"{len(positions)} positions of {len(nodes)} nodes")
        made = self._channel("wifi", name, words)
        self._plug_all(made, nodes, addresses, list(positions) or [None] * len(nodes), mtu)
        return made

    @staticmethod
    def _csma(rate: float | str | None, delay: float | str) -> list[str]:
        bits = units.rate(10**9 if rate is None else rate)
        return [f"rate={bits}bps", f"delay={units.duration(delay)}ns"]

    def _channel(self, kind: str, name: str | None, words: list[str]) -> Channel:
        if name is None:
            name = f"{kind}{sum(link.kind == kind for link in self._links)}"
        if any(link.name == name for link in self._links):
            raise UsageError(f"there is a link {name} already")
        if not self._links:
            seed = 1 + self._seed % SEEDS
            self.say("HK_LINK", 0, self.host.c.HK_CHANNEL, f"random seed={seed} run={self._run}")
        text = " ".join([kind, *words])
        number = self.say("HK_LINK", 0, self.host.c.HK_CHANNEL, text)
        made = Channel(self, kind, name, number, Cable())
        self._links.append(made)
        return made

    def _plug_all(
        self,
        channel: Channel,
        nodes: Sequence[Node | str],
        addresses: Sequence[Addresses],
        positions: Sequence[Place | None],
        mtu: int,
    ) -> None:
        if len(addresses) not in (0, len(nodes)):
            raise UsageError(f"addresses= of {len(addresses)} devices for {len(nodes)} nodes")
        given = addresses or [()] * len(nodes)
        for node, theirs, position in zip(nodes, given, positions, strict=True):
            channel.plug(node, addresses=theirs, mtu=mtu, position=position)

    def _link(self, kind: str, name: str, options: dict[str, Any]) -> Link:
        """What link(), segment() and the topologies ask for."""
        if kind == "switch":
            raise UsageError("ns-3's channels are no switches: csma() joins several nodes")
        for option in options:
            if option not in ("rate", "delay"):
                raise UsageError(f"an ns-3 channel has no {option}: it has rate and delay")
        words = self._csma(options.get("rate"), options.get("delay", 0))
        return self._channel("csma", name, words)

    def say(self, op: str, slot: int, first: int, text: str, *, kernel: int = 0) -> int:
        """A command with text for ns-3's side; what it returns."""
        data = text.encode()
        at = self.host.c.HK_IN_AT
        self.host.view[at : at + len(data)] = data
        return self.engine.command(op, slot, first, len(data), kernel=kernel)

    def attach(
        self,
        channel: Channel,
        node: Node | str,
        netdev: Netdev | None,
        addresses: Addresses,
        mtu: int,
        position: Place | None,
    ) -> Port:
        """Channel.plug()."""
        found = self.find(node)
        given = [addresses] if isinstance(addresses, str) else list(addresses)
        self._check_addresses(found, given)
        fresh = netdev is None
        if netdev is None:
            netdev = found.add_netdev(mtu=mtu, up=False)
        words = ["plug", f"mac={netdev.mac}", f"mtu={mtu}"]
        if position is not None:
            words.append(vector("position", position))
        elif channel.kind == "wifi" and not any(p.link.kind == "wifi" for p in found.ports):
            words.append(vector("position", (APART * len(channel.ports),)))
        text = " ".join(words)
        number = self.say("HK_PLUG", netdev.dev, channel.number, text, kernel=found.index)
        made = self._add_port(channel, found, netdev, number, given)
        made.begin(fresh, given)
        return made

    def snapshot(self) -> NoReturn:
        raise UsageError("an ns-3 simulation can't be saved: start from the beginning")

    def restore(self, snapshot: int) -> NoReturn:
        raise UsageError("an ns-3 simulation can't be restored: start from the beginning")

    def drop(self, snapshot: int) -> NoReturn:
        raise UsageError("an ns-3 simulation has no snapshots")


def simulation(image: Image, *, kernels: int = 4096, **options: Any) -> Ns3Network:
    """A network of up to `kernels` nodes in a new host process, which is the caller's to close;
    options are Host's.  Raises UsageError where ns-3 is missing, ToolError when its program
    doesn't compile."""
    if reason := installed.missing():
        raise UsageError(reason)
    program = installed.host_program()
    host = Host(image, kernels=kernels, clock="network", program=program, **options)
    return Ns3Network(host, image, seed=int(options.get("seed", 0)))
