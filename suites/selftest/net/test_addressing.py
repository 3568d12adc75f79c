# SPDX-License-Identifier: GPL-2.0
"""Plans of addresses, against the ipaddress module."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anykernel.errors import UsageError
from anykernel.net import topology
from anykernel.net.addressing import End, Wire, check, parse, plan_addresses
from suites.selftest.net.builder import Recorder

A0, A1, B0, B1, C0 = (End(*name.split()) for name in ("a e0", "a e1", "b e0", "b e1", "c e0"))
AB, AB2, BC = Wire("ab", (A0, B0)), Wire("ab2", (A1, B1)), Wire("bc", (B1, C0))


def texts(plan: Any) -> dict[End, list[str]]:
    return {end: [str(item) for item in items] for end, items in plan.items()}


def test_a_chain() -> None:
    network = Recorder()
    topology.chain(network, 3)
    assert texts(plan_addresses(network.wires, ipv6=True)) == {
        End("n0", "eth0"): ["10.0.0.1/30", "fd00::1/64"],
        End("n1", "eth0"): ["10.0.0.2/30", "fd00::2/64"],
        End("n1", "eth1"): ["10.0.0.5/30", "fd00:0:0:1::1/64"],
        End("n2", "eth0"): ["10.0.0.6/30", "fd00:0:0:1::2/64"],
    }
    only = plan_addresses(network.wires, None, "2001:db8::/32")
    assert texts(only)[End("n2", "eth0")] == ["2001:db8:0:1::2/64"]


@pytest.mark.parametrize(("ports", "length"), [(1, 30), (2, 30), (3, 29), (6, 29), (7, 28)])
def test_the_smallest_subnet(ports: int, length: int) -> None:
    wire = Wire("lan", tuple(End(f"n{index}", "eth0") for index in range(ports)))
    assert {item.network.prefixlen for (item,) in plan_addresses([wire]).values()} == {length}


HOSTS = st.integers(0, (1 << 16) - 1)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=12),
    st.lists(st.tuples(HOSTS, st.integers(17, 30)), max_size=6),
)
def test_no_overlaps(sizes: list[int], by_hand: list[tuple[int, int]]) -> None:
    """Ports of several wires, some with addresses by hand; ipaddress is the oracle."""
    wires = [
        Wire(f"w{number}", tuple(End(f"n{number}-{index}", "eth0") for index in range(size)))
        for number, size in enumerate(sizes)
    ]
    known = {
        wires[number].ends[0]: [f"10.0.{host >> 8}.{host & 255}/{length}"]
        for number, (host, length) in zip(range(len(wires)), by_hand, strict=False)
    }
    try:
        plan = plan_addresses(wires, "10.0.0.0/15", None, known)
    except UsageError as error:
        problem = str(error)
    else:
        problem = ""
    if problem:
        assert known and re.search("same address|lies within|no address left", problem)
        return
    assert set(plan) == {end for wire in wires for end in wire.ends}
    subnets = []
    for wire in wires:
        (subnet,) = {plan[end][0].network for end in wire.ends}
        subnets.append(subnet)
        addresses = [plan[end][0].ip for end in wire.ends]
        assert len(set(addresses)) == len(addresses)
        automatic = [plan[end][0].ip for end in wire.ends if end not in known]
        assert not {subnet.network_address, subnet.broadcast_address} & set(automatic)
    for a, b in itertools.combinations(subnets, 2):
        assert a == b or not a.overlaps(b)
    for end, items in known.items():
        assert texts(plan)[end] == items
    check(wires, plan)


def test_by_hand_goes_first() -> None:
    known = {A0: ["10.0.0.1/24", "fd00::9/64"], C0: ["192.0.2.200/24"]}
    assert texts(plan_addresses([AB, BC], ipv6=True, given=known)) == {
        A0: ["10.0.0.1/24", "fd00::9/64"],
        B0: ["10.0.0.2/24", "fd00::1/64"],
        B1: ["192.0.2.1/24", "fd00:0:0:1::1/64"],
        C0: ["192.0.2.200/24", "fd00:0:0:1::2/64"],
    }


def test_subnets_that_are_taken_are_skipped() -> None:
    known = {B1: ["10.0.0.5/24"], C0: ["10.0.0.6/24"]}
    assert texts(plan_addresses([AB, BC], given=known))[A0] == ["10.0.1.1/30"]


def test_what_is_no_subnet_gets_one() -> None:
    known = {A0: ["192.0.2.1/32", "fe80::1/64"]}
    found = texts(plan_addresses([AB], ipv6=True, given=known))
    assert found[A0] == ["192.0.2.1/32", "fe80::1/64", "10.0.0.1/30", "fd00::1/64"]
    assert found[B0] == ["10.0.0.2/30", "fd00::2/64"]


def test_the_other_end_of_a_31() -> None:
    assert texts(plan_addresses([AB], given={B0: ["10.0.0.0/31"]}))[A0] == ["10.0.0.1/31"]


def test_no_room() -> None:
    with pytest.raises(UsageError, match=r"10.0.0.0/30 has no /30 left for the 2 ports of bc"):
        plan_addresses([AB, BC], "10.0.0.0/30")
    wire = Wire("lan", (A0, B0, C0))
    with pytest.raises(UsageError, match=r"which lan has by hand, has no address left for c e0"):
        plan_addresses([wire], given={A0: ["10.0.0.1/30"]})


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"ipv4": None}, "no addresses were asked for"),
        ({"ipv4": "10.0.0.0/31"}, "too small"),
        ({"ipv4": "10.0.0.1/8"}, "is no network, such as 10.0.0.0/8: .*host bits"),
        ({"ipv4": "fd00::/48"}, "is an IPv6 network"),
        ({"ipv6": "fd00::/65"}, "too small"),
        ({"ipv6": "x"}, "is no network, such as fd00::/48"),
        ({"given": {A0: ["10.0.0.1"]}}, None),
        ({"given": {A0: ["host/24"]}}, "such as 10.0.0.1/24"),
        ({"given": {C0: ["10.0.0.1/24"]}}, "c e0 has addresses but no link"),
    ],
)
def test_bad_pools(options: Any, what: str | None) -> None:
    if what is None:
        plan_addresses([AB], **options)
        return
    with pytest.raises(UsageError, match=what):
        plan_addresses([AB], **options)


CLASHES: list[tuple[dict[End, list[str]], str | None]] = [
    ({A0: ["10.0.0.1/24"], B0: ["10.0.0.1/24"]}, "a e0 and b e0 .* same address 10.0.0.1 on ab"),
    ({A0: ["10.0.0.1/24"], B0: ["10.0.0.1/16"]}, "a e0 and b e0 .* same address"),
    ({A0: ["fe80::1/64"], B0: ["fe80::1/64"]}, "a e0 and b e0 .* same address fe80::1 on ab"),
    ({A0: ["10.0.0.1/24"], B1: ["10.0.0.1/24"]}, r"a e0 and b e1 .* same address 10.0.0.1:"),
    ({A0: ["10.0.0.1/24"], B1: ["10.0.0.2/16"]}, "a e0 on ab lies within .* of b e1 on ab2"),
    ({A0: ["fd00::1/64"], B1: ["fd00::2/48"]}, "a e0 on ab lies within .* of b e1 on ab2"),
    ({A0: ["fe80::1/64"], B1: ["fe80::1/64"]}, None),
    ({A0: ["10.0.0.1/24"], A1: ["10.0.0.1/24"]}, None),
    ({A0: ["10.0.0.1/24"], B1: ["10.0.0.2/24"]}, None),
    ({A0: ["10.0.0.1/24"], B0: ["10.0.0.2/16"]}, None),
    ({A0: ["10.0.0.1/24"], B1: ["10.0.0.2/32"]}, None),
    ({A0: ["10.0.0.1/24", "10.0.0.1/24"]}, None),
]


@pytest.mark.parametrize(("addresses", "what"), CLASHES)
def test_clashes(addresses: dict[End, list[str]], what: str | None) -> None:
    if what is None:
        check([AB, AB2], addresses)
        return
    with pytest.raises(UsageError, match=what):
        check([AB, AB2], addresses)
    with pytest.raises(UsageError, match=what):
        plan_addresses([AB, AB2], given=addresses)


@given(st.lists(st.tuples(HOSTS, st.integers(16, 31)), min_size=2, max_size=8))
def test_overlaps_are_found(items: list[tuple[int, int]]) -> None:
    """Each address on a wire of its own; every pair is compared by ipaddress."""
    ends = [End(f"n{number}", "eth0") for number in range(len(items))]
    wires = [Wire(end.node, (end,)) for end in ends]
    plan = parse(
        {
            end: [f"10.0.{host >> 8}.{host & 255}/{length}"]
            for end, (host, length) in zip(ends, items, strict=True)
        }
    )
    flat = [item for (item,) in plan.values()]
    clash = any(
        a.ip == b.ip or (a.network != b.network and a.network.overlaps(b.network))
        for a, b in itertools.combinations(flat, 2)
    )
    try:
        check(wires, plan)
    except UsageError:
        assert clash
    else:
        assert not clash
