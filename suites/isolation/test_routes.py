# SPDX-License-Identifier: GPL-2.0
"""IPv4 routing: the longest prefix, the least metric, rules in their order; against ipaddress."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from anykernel.kernel import Kernel

pytestmark = pytest.mark.kernel(components=["net-ipv4"])

MAIN = 254
ERRORS = {"blackhole": errno.EINVAL, "unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES}
"""What route(8) says such a route answers; `throw` sends the search to the next rule."""
RULE_ERRORS = {**ERRORS, "unreachable": errno.ENETUNREACH}


@dataclass(frozen=True)
class Route:
    network: IPv4Network
    metric: int
    table: int = MAIN
    type: str = "unicast"

    @property
    def key(self) -> tuple[int, IPv4Network, int]:
        """Two routes with one key can't be there at once."""
        return self.table, self.network, self.metric


@dataclass(frozen=True)
class Rule:
    priority: int
    network: IPv4Network
    table: int
    action: str = "to_tbl"
    suppress: int = -1
    """Results with a prefix of at most this length don't count."""


@dataclass
class Oracle:
    """All routes in one dict, and a search through all of them."""

    routes: dict[tuple[int, IPv4Network, int], tuple[Route, str]] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)

    def best(self, table: int, address: IPv4Address) -> tuple[Route, str] | None:
        fitting = [
            found
            for found in self.routes.values()
            if found[0].table == table and address in found[0].network
        ]
        order = [(-route.network.prefixlen, route.metric) for route, _ in fitting]
        return fitting[order.index(min(order))] if fitting else None

    def lookup(self, address: IPv4Address) -> str | int:
        """The gateway, or the error's number."""
        main = Rule(32766, IPv4Network("0.0.0.0/0"), MAIN)
        for rule in [*sorted(self.rules, key=lambda rule: rule.priority), main]:
            if address not in rule.network:
                continue
            if rule.action != "to_tbl":
                return RULE_ERRORS[rule.action]
            found = self.best(rule.table, address)
            if found is None or found[0].type == "throw":
                continue
            route, gateway = found
            if route.type in ERRORS:
                return ERRORS[route.type]
            if route.network.prefixlen > rule.suppress:
                return gateway
        return errno.ENETUNREACH


class Router:
    """A kernel with eth0 as 192.0.2.1/24, and what it answers."""

    def __init__(self, kernel: Kernel) -> None:
        self.ip = kernel.iproute
        self.index = kernel.add_netdev("eth0", addresses=["192.0.2.1/24"]).ifindex

    def add(self, route: Route, gateway: str) -> int:
        """0, or the error's number."""
        how: dict[str, Any] = {"type": route.type}
        if route.type == "unicast":
            how |= {"gateway": gateway, "oif": self.index}
        return self._do("add", route, **how)

    def delete(self, route: Route) -> int:
        return self._do("del", route, type=route.type)

    def _do(self, what: str, route: Route, **how: Any) -> int:
        return error_of(
            lambda: self.ip.route(
                what, dst=str(route.network), priority=route.metric, table=route.table, **how
            )
        )

    def add_rule(self, rule: Rule) -> None:
        how: dict[str, Any] = {} if rule.action != "to_tbl" else {"table": rule.table}
        if rule.suppress >= 0:
            how["FRA_SUPPRESS_PREFIXLEN"] = rule.suppress
        if rule.network.prefixlen:
            how["dst"] = str(rule.network)
        self.ip.rule("add", priority=rule.priority, action=rule.action, **how)

    def lookup(self, address: IPv4Address) -> str | int:
        answers: list[Any] = []
        error = error_of(lambda: answers.extend(self.ip.route("get", dst=str(address))))
        return error or str(answers[0].get_attr("RTA_GATEWAY"))


def error_of(call: Any) -> int:
    """The number of the error that a call of pyroute2 raises; 0 for none."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        call()
    except NetlinkError as error:
        return int(error.code)
    return 0


def gateways() -> list[str]:
    return [f"192.0.2.{number}" for number in range(2, 255)]


@st.composite
def addresses(draw: st.DrawFn) -> IPv4Address:
    """Within 10.0.0.0/7, and close together: a few bits differ, so that networks nest."""
    base = int(IPv4Address("10.128.0.0"))
    for bit in draw(st.sets(st.sampled_from([0, 1, 2, 7, 8, 9, 15, 16, 23, 24]), max_size=3)):
        base ^= 1 << bit
    return IPv4Address(base)


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network:
    length = draw(st.one_of(st.sampled_from([0, 8, 16, 24, 31, 32]), st.integers(0, 32)))
    return IPv4Network((draw(addresses()), length), strict=False)


TYPES = st.sampled_from(["unicast"] * 6 + ["throw", *ERRORS])
ROUTES = st.builds(Route, networks(), st.integers(1, 3), type=TYPES)
ROUTES_IN_TABLES = st.builds(
    Route, networks(), st.integers(1, 2), st.sampled_from([MAIN, 100, 101, 1000]), TYPES
)
RULES = st.builds(
    Rule,
    st.integers(1, 30000),
    networks(),
    st.sampled_from([100, 101, 1000, MAIN]),
    st.sampled_from(["to_tbl"] * 6 + ["blackhole", "unreachable", "prohibit"]),
    st.sampled_from([-1, -1, -1, 0, 8, 24]),
)


def probes(oracle: Oracle, drawn: list[IPv4Address]) -> list[IPv4Address]:
    """The drawn addresses, and the first and last of each network where a search may go wrong."""
    edges = {
        edge
        for route, _ in oracle.routes.values()
        for edge in (route.network[0], route.network[-1])
        if edge in IPv4Network("10.0.0.0/7")
    }
    return drawn + sorted(edges)[:16]


def agree(router: Router, oracle: Oracle, drawn: list[IPv4Address]) -> None:
    for address in probes(oracle, drawn):
        assert router.lookup(address) == oracle.lookup(address), address


@settings(max_examples=40, deadline=None)
@given(
    routes=st.lists(ROUTES, min_size=1, max_size=16),
    drawn=st.lists(addresses(), min_size=4, max_size=10),
    deleted=st.lists(st.integers(0, 15), max_size=8),
)
def test_the_longest_prefix_wins_then_the_least_metric(
    kernel: Kernel, routes: list[Route], drawn: list[IPv4Address], deleted: list[int]
) -> None:
    """Also after some were deleted; a second route with the same key is refused."""
    router, oracle = Router(kernel), Oracle()
    for route, gateway in zip(routes, gateways(), strict=False):
        there = route.key in oracle.routes
        assert router.add(route, gateway) == (errno.EEXIST if there else 0)
        oracle.routes.setdefault(route.key, (route, gateway))
    agree(router, oracle, drawn)
    for number in deleted:
        wanted = routes[number % len(routes)]
        found = oracle.routes.get(wanted.key)
        gone = found is None or found[0].type != wanted.type
        assert router.delete(wanted) == (errno.ESRCH if gone else 0)
        if not gone:
            del oracle.routes[wanted.key]
    agree(router, oracle, drawn)


@settings(max_examples=30, deadline=None)
@given(
    routes=st.lists(ROUTES_IN_TABLES, min_size=2, max_size=14, unique_by=lambda r: r.key),
    rules=st.lists(RULES, min_size=1, max_size=5, unique_by=lambda rule: rule.priority),
    drawn=st.lists(addresses(), min_size=4, max_size=10),
)
def test_rules_choose_the_tables(
    kernel: Kernel, routes: list[Route], rules: list[Rule], drawn: list[IPv4Address]
) -> None:
    """By priority; `throw`, a miss and a suppressed result go on with the next rule."""
    router, oracle = Router(kernel), Oracle()
    for route, gateway in zip(routes, gateways(), strict=False):
        assert router.add(route, gateway) == 0
        oracle.routes[route.key] = (route, gateway)
    for rule in rules:
        router.add_rule(rule)
        oracle.rules.append(rule)
    agree(router, oracle, drawn)


@settings(max_examples=10, deadline=None)
@given(routes=st.lists(ROUTES, min_size=1, max_size=12, unique_by=lambda r: r.key))
def test_a_link_that_goes_takes_its_routes_along(kernel: Kernel, routes: list[Route]) -> None:
    """What needs no device stays, and so does what the trie says of the other routes."""
    router, oracle = Router(kernel), Oracle()
    for route, gateway in zip(routes, gateways(), strict=False):
        assert router.add(route, gateway) == 0
        oracle.routes[route.key] = (route, gateway)
    kernel.netdevs["eth0"].down()
    oracle.routes = {
        key: found for key, found in oracle.routes.items() if found[0].type != "unicast"
    }
    agree(router, oracle, [])
    left = [
        route
        for route in kernel.iproute.get_routes(family=socket.AF_INET, table=MAIN)
        if route.get_attr("RTA_TABLE") == MAIN
    ]
    assert len(left) == len(oracle.routes)
