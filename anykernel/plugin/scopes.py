# SPDX-License-Identifier: GPL-2.0
"""Kernels and networks of a class, a module or the session: set up once by fixtures of that scope,
and as these left them for each test.

Before anything narrower is set up, a snapshot is taken; when that ends, it is restored.  So
fixtures of all scopes see what they would see of any Python object, and tests don't see each other.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.plugin import crash, stubs
from anykernel.plugin import options as opts
from anykernel.plugin.fixtures import LEASES, OURS, WIDER, give_back, lend, options_of
from anykernel.plugin.pool import Lease

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.net import Network

ALIVE = pytest.StashKey["list[Wide]"]()
"""On the config: those that are set up now."""
ITEM = pytest.StashKey[pytest.Item]()
"""On the config: the test that is set up, run or torn down."""
MISMATCH = re.compile(r"access the (\w+) scoped fixture (\w+) with a (\w+) scoped request")


@dataclass(eq=False)
class Wide:
    """A kernel or network that several tests use one after the other."""

    name: str
    """Of its fixture."""
    node: Any
    """Module, class or session."""
    lease: Lease
    finish: Callable[[], object] = lambda: None
    """Tears it down, and before it all fixtures that use it."""
    entered: list[tuple[Any, int]] = field(default_factory=list)
    """Narrower scopes that have begun, each with the snapshot of what was before."""
    clean: int | None = None
    """The snapshot whose state is that of now; None: a fixture may have changed it."""

    def is_named(self, node: Any) -> bool:
        """Whether a test uses it, as far as that can be known."""
        return self.name in getattr(node, "fixturenames", ())

    def is_in(self, node: Any) -> bool:
        """Whether something of the scope of `node` has begun, or of a narrower one in it."""
        return any(node in begun.listchain() for begun, _ in self.entered)

    def enter(self, node: Any) -> None:
        """Something narrower begins: a class, a test."""
        if node is self.node or self.is_in(node):
            return
        if self.lease.crashed and self.clean is None:
            # In its set-up: nothing can be run on it, and nothing brings it back.
            if self.is_named(node):
                crash.check(node, [self.lease])
            return
        if self.clean is None:
            self.clean = self.lease.snapshot()
        self.entered.append((node, self.clean))
        self.lease.begin()
        node.addfinalizer(partial(self.leave, node))

    def leave(self, node: Any) -> None:
        """It ends, and with it all that it did to the kernel.  Raises as crash.check() for what
        went wrong in its teardown."""
        while self.is_in(node):
            begun, before = self.entered.pop()
            if begun is not node:
                continue
            stubs.count(node.config, self.lease, node.nodeid)
            try:
                known = node.stash.get(crash.KNOWN, None)
                if known is not None and all(id(one) in known for _, one, _ in self.lease.kernels):
                    crash.check(node, [self.lease], known)
            finally:
                self._restore(before)

    def _restore(self, snapshot: int) -> None:
        self.clean = None
        if self.lease.strangers():
            self.lease.retired = not self.lease.crashed
        try:
            if not self.lease.retired and not self.lease.dead:
                self.lease.restore(snapshot)
                self.clean = snapshot
        finally:
            if self.clean is None:
                # Its process is gone, or somebody else uses it: the next test sets up another.
                self.lease.host.close()
                with contextlib.suppress(Exception):
                    self.finish()


def _lend(request: pytest.FixtureRequest) -> Iterator[Any]:
    node, config, name = request.node, request.config, str(request.fixturename)
    options = options_of(node)[0]
    network = name.startswith("network")
    lease = lend(request, options, lambda pool: pool.take(options, network=network))
    wide = Wide(name, node, lease)
    config.stash.setdefault(ALIVE, []).append(wide)
    if (item := config.stash.get(ITEM, None)) is not None and item is not node:
        item.stash.setdefault(LEASES, []).append(lease)
    yield lease.kernel
    config.stash[ALIVE].remove(wide)
    if network:
        lease.kernel.hub.clear()
    give_back(node, lease)


@pytest.fixture(scope="class")
def kernel_class(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """As kernel_module, for the tests of a class."""
    yield from _lend(request)


@pytest.fixture(scope="module")
def kernel_module(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel that fixtures of module scope set up, once; each test of the module, and each
    Hypothesis example, has it as they left it.  `pytestmark` chooses it."""
    yield from _lend(request)


@pytest.fixture(scope="session")
def kernel_session(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """As kernel_module, for all tests of a run; its options are those of the command line."""
    yield from _lend(request)


@pytest.fixture(scope="class")
def network_class(request: pytest.FixtureRequest) -> Iterator[Network]:
    """As network_module, for the tests of a class."""
    yield from _lend(request)


@pytest.fixture(scope="module")
def network_module(request: pytest.FixtureRequest) -> Iterator[Network]:
    """A network that fixtures of module scope set up, once; each test of the module has it as
    they left it.  No program may run when the set-up ends."""
    yield from _lend(request)


@pytest.fixture(scope="session")
def network_session(request: pytest.FixtureRequest) -> Iterator[Network]:
    """As network_module, for all tests of a run."""
    yield from _lend(request)


def _around(node: Any) -> list[Wide]:
    """Those that are alive where `node` is."""
    alive = node.config.stash.get(ALIVE, ())
    return [wide for wide in alive if wide.node in node.listchain()] if alive else []


# When what begins


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[ITEM] = item
    item.stash[LEASES] = [
        wide.lease for wide in _around(item) if wide.is_named(item) or not wide.lease.crashed
    ]
    result = yield
    item.stash[LEASES].clear()
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A marker that would have no effect is refused."""
    names = set(getattr(item, "fixturenames", ()))
    wider = sorted(names & WIDER)
    if not wider or names & OURS or not item.own_markers:
        return
    scope = wider[0].partition("_")[2]
    kinds: dict[str, Any] = {
        "class": pytest.Class,
        "module": pytest.Module,
        "session": pytest.Session,
    }
    node = item.getparent(kinds[scope])
    if node is not None and opts.of_item(node)[0] != options_of(item)[0]:
        where = "the command line" if scope == "session" else f"the {scope} (its mark, pytestmark)"
        pytest.fail(
            f"{item.nodeid}: {wider[0]} is the same kernel for all tests of the {scope}, so this "
            f"test's own @pytest.mark.kernel can't choose another: choose it for {where}, or "
            f"use the fixture {wider[0].partition('_')[0]}",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: Any
) -> Generator[None, object, object]:
    __tracebackhide__ = True
    node = request.node
    for wide in _around(node):
        if wide.node is not node and not wide.is_in(node):
            wide.enter(node)
        elif not isinstance(node, pytest.Item) and wide.is_in(node):
            _check_not_late(wide, fixturedef, request)
    result = yield
    if isinstance(node, pytest.Item):
        return result
    for wide in _around(node):
        if fixturedef.argname == wide.name and wide.node is node:
            wide.finish = partial(fixturedef.finish, request)
        if wide.entered and wide.entered[-1][0] is not node:
            continue  # it is another's
        wide.clean = None
        try:
            crash.check(node, [wide.lease])
        except Exception as error:
            # As if the fixture itself had raised it: all tests that use it have this error.
            if fixturedef.cached_result is not None:
                key = fixturedef.cached_result[1]
                fixturedef.cached_result = (None, key, (error, error.__traceback__))
            raise
    return result


def _check_not_late(wide: Wide, fixturedef: pytest.FixtureDef[Any], request: Any) -> None:
    """A fixture that getfixturevalue() asks for in the middle of a test can't add to the set-up:
    what the test did is in between.  Raises UsageError."""
    from anykernel.errors import UsageError

    begun = wide.entered[-1][0]
    if begun is not request.node and _uses(fixturedef, wide.name, request):
        raise UsageError(
            f"the fixture {fixturedef.argname} (scope {fixturedef.scope}) uses {wide.name}, but is "
            f"set up when {begun.nodeid} has begun already: name it among that test's arguments "
            "or in @pytest.mark.usefixtures, so that it is set up before"
        )


def _uses(fixturedef: pytest.FixtureDef[Any], name: str, request: Any) -> bool:
    for argument in fixturedef.argnames:
        if argument == name:
            return True
        found = request._fixturemanager.getfixturedefs(argument, request.node) or ()
        if any(one is not fixturedef and _uses(one, name, request) for one in found):
            return True
    return False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    for wide in _around(item):
        wide.enter(item)
    return (yield)


# What is said


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, pytest.fail.Exception) and error.msg and "ScopeMismatch" in error.msg:
        error.msg = _mismatch(error.msg)
    return (yield)


def _mismatch(text: str) -> str:
    """pytest's words about fixtures of ours as ours."""
    found = MISMATCH.search(text)
    if found is None or found[2] not in OURS | WIDER:
        return text
    name, wanted = found[2], found[3]
    what = name.partition("_")[0]
    lines = [f"{name} is of scope {found[1]}: a fixture of scope {wanted} can't use it."]
    if f"{what}_{wanted}" in WIDER and name != "kernel_factory":
        lines.append(
            f"Use {what}_{wanted} instead: it is set up once, and each test has it as the "
            f"fixtures of scope {wanted} left it."
        )
    else:
        lines.append(f"There is none of scope {wanted}: make the fixture one of scope {found[1]}.")
    stack = text.partition("Requesting fixture stack:\n")[2].partition("\nRequested fixture")[0]
    return "\n".join([*lines, *(["It is asked for by", stack] if stack else [])])
