# SPDX-License-Identifier: GPL-2.0
"""A bridge of three ports against a model of a learning switch, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.kernel.netdev import Netdev

pytestmark = pytest.mark.kernel(components=["net-bridge"])

PORTS = 3
AGEING = 10.5
"""Seconds; steps wait whole ones, so that no frame meets an address at the moment that it goes."""
TYPE = b"\x88\xb5"
BROADCAST = b"\xff" * 6
HOSTS = [bytes.fromhex(f"0200000000{number:02x}") for number in (0xA1, 0xA2, 0xA3, 0xA4)]
GROUPS = [bytes.fromhex("030000000001"), bytes.fromhex("01005e000001")]
PAUSE = bytes.fromhex("0180c2000001")
RESERVED = bytes.fromhex("0180c200000d")
"""IEEE 802.1D, table 7-10: what a bridge never forwards."""
PORT_MACS = [bytes.fromhex(f"0200000001{number:02x}") for number in range(PORTS)]


@dataclass(frozen=True)
class Send:
    port: int
    target: bytes
    source: bytes

    def frame(self, number: int) -> bytes:
        return self.target + self.source + TYPE + number.to_bytes(4, "big").ljust(46, b".")


@dataclass(frozen=True)
class Wait:
    seconds: int


@dataclass(frozen=True)
class Unplug:
    """A port goes down and comes up again: what was learnt there is forgotten."""

    port: int


Step = Send | Wait | Unplug


@dataclass
class Switch:
    """The model: which port an address was last seen at, and when."""

    isolated: frozenset[int]
    now: int = 0
    seen: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def at(self, address: bytes) -> int | None:
        port, when = self.seen.get(address, (None, 0))
        return port if self.now - when < AGEING else None

    def send(self, step: Send) -> set[int]:
        """The ports where the frame comes out."""
        others = {port for port in range(PORTS) if port != step.port}
        if step.port in self.isolated:
            others -= self.isolated
        if step.source[0] & 1 or step.target == PAUSE:
            return set()  # no station sends from a group; PAUSE is for the link's other end
        self.seen[step.source] = step.port, self.now
        if step.target == RESERVED or step.target in PORT_MACS:
            return set()
        known = None if step.target[0] & 1 else self.at(step.target)
        return others if known is None else others & {known}

    def forget(self, port: int) -> None:
        self.seen = {address: entry for address, entry in self.seen.items() if entry[0] != port}

    def table(self) -> dict[bytes, int]:
        live = {address: self.at(address) for address in self.seen}
        return {address: port for address, port in live.items() if port is not None}


class Bridge:
    """br0, without spanning tree and its delays, over three devices whose other ends are ours."""

    def __init__(self, kernel: Kernel, isolated: frozenset[int]) -> None:
        self.kernel = kernel
        self.ip = kernel.iproute
        self.ip.link("add", ifname="br0", kind="bridge", br_stp_state=0, br_forward_delay=0)
        (bridge,) = self.ip.link_lookup(ifname="br0")
        kernel.write_text("/sys/class/net/br0/bridge/ageing_time", str(round(AGEING * 100)))
        # Its own questions after groups would lie between our frames.
        kernel.write_text("/sys/class/net/br0/bridge/multicast_snooping", "0")
        self.ports: list[Netdev] = []
        for number, mac in enumerate(PORT_MACS):
            port = kernel.add_netdev(f"port{number}", mac=mac)
            self.ip.link("set", index=port.ifindex, master=bridge)
            kernel.write_text(
                f"/sys/class/net/port{number}/brport/isolated", str(int(number in isolated))
            )
            self.ports.append(port)
        self.ip.link("set", index=bridge, state="up")
        kernel.clock.advance(1)

    def send(self, step: Send, number: int) -> set[int]:
        """The ports where the frame comes out, unchanged and once."""
        sent = step.frame(number)
        captures = [port.capture() for port in self.ports]
        self.ports[step.port].inject(sent)
        came = [[out for out in one.sent if out[12:14] == TYPE] for one in captures]
        assert all(out in ([], [sent]) for out in came)
        return {port for port, out in enumerate(came) if out}

    def unplug(self, port: int) -> None:
        self.ports[port].down()
        self.ports[port].up()

    def table(self) -> dict[bytes, int]:
        """What was learnt: `bridge fdb`, without the ports' own addresses."""
        numbers = {port.ifindex: number for number, port in enumerate(self.ports)}
        found = {}
        for entry in self.ip.fdb("dump"):
            mac = bytes.fromhex(entry.get_attr("NDA_LLADDR").replace(":", " "))
            if mac in HOSTS and entry["ifindex"] in numbers:
                found[mac] = numbers[entry["ifindex"]]
        return found


TARGETS = st.sampled_from([*HOSTS * 3, BROADCAST, *GROUPS, PAUSE, RESERVED, PORT_MACS[0]])
SOURCES = st.sampled_from([*HOSTS * 4, GROUPS[0]])
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Send, st.integers(0, PORTS - 1), TARGETS, SOURCES),
    st.builds(Send, st.integers(0, PORTS - 1), st.sampled_from(HOSTS), st.sampled_from(HOSTS)),
    st.builds(Wait, st.sampled_from([1, 5, 9, 10, 11, 20])),
    st.builds(Unplug, st.integers(0, PORTS - 1)),
)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(STEPS, min_size=4, max_size=30),
    isolated=st.frozensets(st.integers(0, PORTS - 1)),
)
def test_it_is_a_learning_switch(
    kernel: Kernel, steps: list[Step], isolated: frozenset[int]
) -> None:
    """Learns, floods, forwards, ages, forgets a port that goes down, keeps isolated ports apart."""
    bridge, model = Bridge(kernel, isolated), Switch(isolated)
    for number, step in enumerate(steps):
        match step:
            case Send():
                assert bridge.send(step, number) == model.send(step), (number, step)
            case Wait():
                kernel.clock.advance(step.seconds)
                model.now += step.seconds
            case Unplug():
                bridge.unplug(step.port)
                model.forget(step.port)
                # A link that comes up is noticed within a second.
                kernel.clock.advance(2)
                model.now += 2
        assert bridge.table() == model.table(), (number, step)


@settings(max_examples=20, deadline=None)
@given(limit=st.integers(0, 6), hosts=st.integers(1, 10))
def test_what_is_not_learnt_is_flooded(kernel: Kernel, limit: int, hosts: int) -> None:
    """With learning off at a port, its hosts stay unknown, however often they speak."""
    bridge = Bridge(kernel, frozenset())
    kernel.write_text("/sys/class/net/port1/brport/learning", "0")
    for number in range(hosts):
        deaf = bytes.fromhex(f"0200000002{number:02x}")
        assert bridge.send(Send(1, BROADCAST, deaf), 2 * number) == {0, 2}
        port = 0 if number < limit else 2
        assert bridge.send(Send(port, deaf, HOSTS[0]), 2 * number + 1) == {0, 1, 2} - {port}
    assert bridge.table() == {HOSTS[0]: 0 if hosts <= limit else 2}
