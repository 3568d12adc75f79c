# SPDX-License-Identifier: GPL-2.0
"""The routing trie alone, net/ipv4/fib_trie.c: the longest prefix, with mocks for next hops."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.typed import Pointer
    from anykernel.unit import Unit

NEW = 0x600  # NLM_F_CREATE | NLM_F_EXCL
NOREF = 1  # FIB_LOOKUP_NOREF
DEAD = 1  # RTNH_F_DEAD
UNICAST = 1  # RTN_UNICAST
MAIN = 254

Route = tuple[IPv4Network, int]
"""Where to, and its metric."""


class Table:
    """A routing table whose next hops are the test's."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.routes: dict[Route, Pointer] = {}
        """Each one's struct fib_info."""
        self.device = unit.new("struct net_device")
        self.dying: list[tuple[Pointer, Pointer]] = []
        self.released: list[int] = []
        unit.fib_trie_init()
        unit.mock("call_rcu").does(lambda head, function: self.dying.append((head, function)))
        unit.mock("fib_release_info").does(lambda info: self.released.append(int(info)))
        unit.mock("fib_metrics_match").returns(True)
        unit.mock("call_fib4_notifiers").returns(0)
        unit.mock("rtmsg_fib").returns()
        unit.mock("rt_cache_flush").returns()
        self.table = unit.fib_trie_table(MAIN, None)

    def info(self, metric: int) -> Pointer:
        """What fib_create_info() makes, as far as the trie looks at it: one living next hop."""
        sizes = [self.unit.space.shape(f"struct {name}").size for name in ("fib_info", "fib_nh")]
        info = self.unit.buffer(sum(sizes)).cast("struct fib_info")
        info.fib_priority, info.fib_nhs = metric, 1
        info.fib_nh[0].nh_common.nhc_dev = self.device
        return info

    def config(self, route: Route, kind: int) -> Pointer:
        network, metric = route
        return self.unit.new(
            "struct fib_config",
            fc_dst=int.from_bytes(network.network_address.packed, "little"),
            fc_dst_len=network.prefixlen,
            fc_type=kind,
            fc_priority=metric,
            fc_nlflags=NEW,
            fc_scope=0,
        )

    def add(self, route: Route, kind: int = UNICAST) -> int:
        info = self.info(route[1])
        self.unit.mock("fib_create_info").returns(info)
        error: int = self.unit.fib_table_insert(None, self.table, self.config(route, kind), None)
        if not error:
            self.routes[route] = info
        return error

    def delete(self, route: Route) -> int:
        wanted = self.routes.get(route)
        self.unit.mock("fib_nh_match").does(lambda _n, _c, info, _e: int(info != wanted))
        error: int = self.unit.fib_table_delete(None, self.table, self.config(route, 0), None)
        if not error:
            del self.routes[route]
        return error

    def lookup(self, address: IPv4Address) -> tuple[int, int] | int:
        """(length of the prefix, address of its info), or an error."""
        flow = self.unit.new("struct flowi4", daddr=int.from_bytes(address.packed, "little"))
        result = self.unit.new("struct fib_result")
        error: int = self.unit.fib_table_lookup(self.table, flow, result, NOREF)
        return error or (result.prefixlen, int(result.fi))

    def expected(self, address: IPv4Address) -> tuple[int, int] | int:
        """The same, by looking at all routes."""
        fitting = [route for route in self.routes if address in route[0]]
        if not fitting:
            return -errno.EAGAIN
        best = min(fitting, key=lambda route: (-route[0].prefixlen, route[1]))
        return best[0].prefixlen, int(self.routes[best])

    def free(self) -> None:
        self.unit.fib_free_table(self.table)
        self.grace_period()
        self.unit.assert_no_leaks()

    def grace_period(self) -> None:
        while self.dying:
            head, function = self.dying.pop()
            function(head)


@pytest.fixture
def u(unit: Callable[..., Unit]) -> Unit:
    return unit("net/ipv4/fib_trie.c")


# Few bits that vary, so that prefixes lie within each other and addresses meet them.
ADDRESSES = st.builds(
    lambda high, low, spread: IPv4Address(high << 28 | low << (24 if spread else 0)),
    st.integers(0, 15),
    st.integers(0, 15),
    st.booleans(),
) | st.integers(0, 2**32 - 1).map(IPv4Address)
ROUTES = st.builds(
    lambda address, length, metric: (IPv4Network((address, length), strict=False), metric),
    ADDRESSES,
    st.integers(0, 32),
    st.integers(0, 2),
)


def edges(routes: list[Route]) -> set[IPv4Address]:
    """The first and last addresses of all networks, and their neighbours."""
    found = set()
    for network, _ in routes:
        for at in (int(network.network_address), int(network.broadcast_address)):
            found |= {IPv4Address((at + by) % 2**32) for by in (-1, 0, 1)}
    return found


@settings(max_examples=80, deadline=None)
@given(routes=st.lists(ROUTES, max_size=25), more=st.lists(ADDRESSES, max_size=5))
def test_longest_prefix(u: Unit, routes: list[Route], more: list[IPv4Address]) -> None:
    table = Table(u)
    for route in routes:
        expected = -errno.EEXIST if route in table.routes else 0
        assert table.add(route) == expected
    for address in {*edges(routes), *more}:
        assert table.lookup(address) == table.expected(address)


@settings(max_examples=80, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), ROUTES, ADDRESSES), max_size=40))
def test_routes_come_and_go(u: Unit, steps: list[tuple[bool, Route, IPv4Address]]) -> None:
    table = Table(u)
    present: list[Route] = []
    gone = 0
    for number, (adds, route, address) in enumerate(steps):
        if adds or not present:
            if route not in present:
                assert table.add(route) == 0
                present.append(route)
        else:
            assert table.delete(present.pop(number * 7 % len(present))) == 0
            gone += 1
            table.grace_period()
        assert table.lookup(address) == table.expected(address)
    for address in edges(present):
        assert table.lookup(address) == table.expected(address)
    absent = (IPv4Network("203.0.113.77/32"), 9)
    assert table.delete(absent) == -errno.ESRCH
    for route in present:
        assert table.delete(route) == 0
    assert len(table.released) == gone + len(present), "each next hop was released once"
    assert table.lookup(IPv4Address("0.0.0.0")) == -errno.EAGAIN
    table.free()


@settings(max_examples=60, deadline=None)
@given(routes=st.lists(ROUTES, unique=True, max_size=20), dead=st.sets(st.integers(0, 19)))
def test_flush_removes_what_is_dead(u: Unit, routes: list[Route], dead: set[int]) -> None:
    table = Table(u)
    for route in routes:
        table.add(route)
    doomed = [route for number, route in enumerate(routes) if number in dead]
    for route in doomed:
        table.routes[route].fib_flags = DEAD
    addresses = edges(routes)
    infos = {int(table.routes.pop(route)) for route in doomed}
    before = {address: table.lookup(address) for address in addresses}
    assert u.fib_table_flush(None, table.table, False) == len(doomed)
    assert set(table.released) == infos
    table.grace_period()
    # Dead ones weren't found before, either; what remains is found as it was.
    assert {address: table.lookup(address) for address in addresses} == before
    assert before == {address: table.expected(address) for address in addresses}
    for info in table.routes.values():
        info.fib_flags = DEAD
    assert u.fib_table_flush(None, table.table, True) == len(table.routes)
    table.free()


@settings(max_examples=40, deadline=None)
@given(route=ROUTES, failing=st.sampled_from([errno.EINVAL, errno.ENOMEM, errno.ENODEV]))
def test_a_route_that_nobody_wants(u: Unit, route: Route, failing: int) -> None:
    """Wrong next hops, and an offload that refuses: the table is as it was."""
    table = Table(u)
    address = route[0].network_address
    u.mock("fib_create_info").raises(failing)
    refused = u.fib_table_insert(None, table.table, table.config(route, UNICAST), None)
    assert refused == -failing
    u.mock("call_fib4_notifiers").returns(-failing)
    assert table.add(route) == -failing
    assert len(table.released) == 1
    assert table.lookup(address) == -errno.EAGAIN
    u.mock("call_fib4_notifiers").returns(0)
    assert table.add(route) == 0
    assert table.lookup(address) == table.expected(address)
    assert table.delete(route) == 0
    table.free()
