# SPDX-License-Identifier: GPL-2.0
"""The fixtures ``kernel``, ``kernel_factory``, ``network`` and ``unit``, all from the session's
pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.plugin import live, progress, stubs, unbuilt
from anykernel.plugin import options as opts
from anykernel.plugin.pool import Lease, Pool

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.kernel import Kernel
    from anykernel.link.unit import Spec
    from anykernel.net import Network
    from anykernel.unit import Unit

OURS = frozenset({"kernel", "kernel_factory", "network", "unit"})
"""Names of the fixtures whose state is restored before each Hypothesis example."""
WIDER = frozenset(
    f"{what}_{scope}" for what in ("kernel", "network") for scope in ("class", "module", "session")
)
"""Those of scopes.py, whose state is restored, too."""

POOL = pytest.StashKey[Pool]()
LEASES = pytest.StashKey[list[Lease]]()
"""On an item: the kernels that its test holds."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A wrong marker is this test's failure, and says so before anything is built."""
    if item.get_closest_marker("kernel") is not None:
        options_of(item)


def pytest_sessionfinish(session: pytest.Session) -> None:
    pool = session.config.stash.get(POOL, None)
    if pool is not None:
        pool.close()


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A booted, pristine Linux kernel, chosen by ``@pytest.mark.kernel`` and --kernel-source.

    It is the same for every test: whatever a test does to it is undone before the next one and,
    with ``@given``, before each example.
    """
    lease = _take(request, options_of(request.node)[0])
    booted: Kernel = lease.kernel
    yield booted
    give_back(request.node, lease)


@pytest.fixture
def kernel_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Kernel]]:
    """``kernel_factory(**options)`` gives a further pristine kernel, in a process of its own.

    The options are those of the ``kernel`` marker; what is not given is as for the ``kernel``
    fixture of the same test.  Raises ValueError for an unknown or senseless option.
    """
    taken: list[Lease] = []
    base = options_of(request.node)[0]

    def make(**values: Any) -> Kernel:
        lease = _take(request, opts.change(base, values))
        taken.append(lease)
        booted: Kernel = lease.kernel
        return booted

    yield make
    for lease in reversed(taken):
        give_back(request.node, lease)


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """An empty network, whose nodes are kernels: ``a, b = network.chain(2, rate="1Gbit")``.

    All its nodes have one virtual clock.  Options as for ``kernel``; each node has `memory`.
    """
    lease = _take(request, options_of(request.node)[0], network=True)
    made: Network = lease.kernel
    yield made
    made.hub.clear()
    give_back(request.node, lease)


@pytest.fixture
def unit(request: pytest.FixtureRequest) -> Iterator[Callable[..., Unit]]:
    """``unit("net/ipv4/tcp_cubic.c")`` loads C files of the kernel without booting it: their
    functions are called from Python, and what they need is mocked.

    ``with_=["lib/rbtree.c"]`` names files or folders whose own code is to run; ``depth=1`` takes
    all that the files need themselves.  Raises UsageError for files that the kernel doesn't have.
    """
    taken: list[Lease] = []
    options = options_of(request.node)[0]

    def load(*files: str, with_: Sequence[str] = (), depth: int = 0) -> Unit:
        from anykernel.link.unit import Spec

        lease = _take(request, options, Spec(files, tuple(with_), depth))
        taken.append(lease)
        loaded: Unit = lease.kernel
        return loaded

    yield load
    for lease in reversed(taken):
        give_back(request.node, lease)


def options_of(item: pytest.Item) -> tuple[opts.KernelOptions, opts.Allowed]:
    try:
        return opts.of_item(item)
    except ValueError as error:
        raise pytest.fail.Exception(f"{item.nodeid}: {error}", pytrace=False) from None


def _take(
    request: pytest.FixtureRequest,
    options: opts.KernelOptions,
    unit: Spec | None = None,
    network: bool = False,
) -> Lease:
    what = "unit of the kernel" if unit is not None else "kernel"
    return lend(request, options, lambda pool: pool.take(options, unit, network), what)


def lend(
    request: pytest.FixtureRequest,
    options: opts.KernelOptions,
    take: Callable[[Pool], Lease],
    what: str = "kernel",
) -> Lease:
    """What `take` gives belongs to the test from now on; give_back() ends that."""
    from anykernel.errors import AnykernelError, KernelError
    from anykernel.places import places

    try:
        lease = take(_pool(request.config))
    except KernelError:
        raise
    except AnykernelError as error:
        # Source, tools, configuration: our stack would only hide what to do.
        lines = [f"no {what} for {options.describe()}", unbuilt.told(request, options, error)]
        lines += [f"  at {place}: {place.source}" for place in places()]
        raise pytest.fail.Exception("\n".join(lines), pytrace=False) from None
    request.node.stash.setdefault(LEASES, []).append(lease)
    stubs.count(request.config, lease, stubs.BOOT)
    live.look(request.config)
    return lease


def give_back(item: pytest.Item, lease: Lease) -> None:
    """Ends a lease of `item`; nothing happens when it has ended already."""
    leases = item.stash.get(LEASES, [])
    if lease in leases:
        leases.remove(lease)
        stubs.count(item.config, lease, item.nodeid)
        _pool(item.config).give_back(lease)


def _pool(config: pytest.Config) -> Pool:
    pool = config.stash.get(POOL, None)
    if pool is None:
        policies = config.getini("kernel_stub_policies")
        pool = config.stash[POOL] = Pool(lambda options: _build(config, options), policies)
    return pool


def _build(config: pytest.Config, options: opts.KernelOptions) -> Image:
    from anykernel.build import ensure_image

    show = progress.of(config, f"{options.source} {options.flavour}")
    with _uncaptured(config):
        image = ensure_image(
            options.source, options.flavour, config=dict(options.config) or None, progress=show
        )
        progress.say(config, image.of_refused())
    return image


def _uncaptured(config: pytest.Config) -> AbstractContextManager[object]:
    """A first build takes minutes: let its progress through pytest's capturing."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return nullcontext()
    manager: AbstractContextManager[object] = capture.global_and_fixture_disabled()
    return manager
