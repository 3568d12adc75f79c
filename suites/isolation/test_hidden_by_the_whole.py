# SPDX-License-Identifier: GPL-2.0
"""Error paths that a whole kernel never takes, or takes and hides; alone, each can be walked.

A small allocation with GFP_KERNEL never fails in a whole kernel: the allocator would rather wait
("too small to fail"), so what comes after a failed one is code that no user and no test ever ran.
The tests on `kernel` show what the whole one makes of the same; those on `unit` what is behind it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

from anykernel.faults import failing_allocations

if TYPE_CHECKING:
    from anykernel.kernel import Kernel
    from anykernel.typed import Pointer
    from anykernel.unit import Unit

# Queueing disciplines.  When init() fails, the kernel calls reset() and destroy() on what is half
# made (qdisc_create_dflt(), net/sched/sch_generic.c).  Linux 6.1 got `if (!q->tins) return;` in
# cake_reset() for that (51f9a8921cea), and fq_codel and SFB theirs: null pointers all, found by
# fault injection after years, as the whole kernel hides the error twice over: it doesn't come up,
# and if it does, the device comes up with another qdisc.

QDISCS = ["cake", "codel", "fq", "fq_codel", "sfq"]
"""Those that can be a device's default: they need no options."""


NOTHING_TO_DO = (
    "qdisc_watchdog_",
    "timer_delete",
    "del_timer",
    "init_timer",
    "timer_init",
    "__local_bh_enable_ip",
    "rtnl_kfree_skbs",
)


class Queue:
    """A struct Qdisc of a unit, without a kernel around it."""

    def __init__(self, u: Unit, kind: str) -> None:
        self.unit, self.ops = u, u[f"{kind}_qdisc_ops"]
        self.blocks = 0
        """Filter blocks that were got and not put."""
        for name, value in (("rtnl_is_locked", 1), ("get_random_bytes", None)):
            if name in u.mocks:
                u.mock(name).returns(value)
        for name in u.mocks:
            # Timers that never run, a lock's end, packets that nobody sent: nothing to do.
            if name.startswith(NOTHING_TO_DO):
                u.mock(name).returns()
        if "tcf_block_get" in u.mocks:
            u.mock("tcf_block_get").does(self._get)
            u.mock("tcf_block_put").does(self._put)
        device = u.new("struct net_device", mtu=1500, hard_header_len=14)
        queue = u.new("struct netdev_queue", dev=device)
        size = len(u.new("struct Qdisc").bytes()) + int(self.ops.priv_size)
        self.sch: Pointer = u.buffer(size).cast("struct Qdisc")
        self.sch.dev_queue = queue
        queue.qdisc_sleeping = self.sch

    def _get(self, block: Pointer, *rest: object) -> int:
        self.blocks += 1
        block.cast("unsigned long").value = 0
        return 0

    def _put(self, block: Pointer) -> None:
        self.blocks -= 1

    def init(self) -> int:
        return int(self.ops.init(self.sch, None, None))

    def end(self) -> None:
        """As the kernel ends one, whether it was made or not."""
        for step in (self.ops.reset, self.ops.destroy):
            if step:
                step(self.sch)


@pytest.fixture
def queue_unit(unit: Callable[..., Unit], kind: str) -> Unit:
    return unit(f"net/sched/sch_{kind}.c", with_=["lib/rbtree.c"])


@pytest.mark.parametrize("kind", QDISCS)
def test_a_queue_that_finds_no_memory(queue_unit: Unit, kind: str) -> None:
    """For each of its allocations: -ENOMEM, and the reset() and destroy() that follow free all
    that there was, once, and put what was got."""
    results = []
    for fault in failing_allocations(queue_unit):
        with fault:
            queue = Queue(queue_unit, kind)
            results.append(queue.init())
            queue.end()
        assert queue.blocks == 0, fault
    queue_unit.assert_no_leaks()
    *failures, last = results
    assert last == 0 and set(failures) <= {-errno.ENOMEM}
    assert kind == "codel" or failures, "all but CoDel need memory"


@pytest.mark.parametrize("kind", ["cake", "fq_codel", "sfq"])
@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EINVAL])
def test_a_queue_that_gets_no_filter_block(queue_unit: Unit, kind: str, error: int) -> None:
    """tcf_block_get() comes first, and in a whole kernel never fails for a new queue: then
    nothing was made yet, and reset() meets zeroes only.  The error is handed on as it is."""
    queue = Queue(queue_unit, kind)
    queue_unit.mock("tcf_block_get").raises(error)
    assert queue.init() == -error
    queue.end()
    queue_unit.mock("tcf_block_put").assert_called_once()
    (put,) = queue_unit.mock("tcf_block_put").call_args.args
    assert not put, "there is no block to put"
    queue_unit.assert_no_leaks()


def kind_of(kernel: Kernel, ifindex: int) -> str:
    (qdisc,) = kernel.iproute.get_qdiscs(index=ifindex)
    return str(qdisc.get_attr("TCA_KIND"))


@pytest.mark.parametrize("kind", ["fq_codel", "sfq"])
def test_what_a_whole_kernel_tells_of_it(kernel: Kernel, kind: str) -> None:
    """By itself it always has the memory.  Even where its allocations are made to fail, nobody
    is told: the device comes up, without an error, and with no queue at all."""
    kernel.sysctl["net.core.default_qdisc"] = kind
    eth0 = kernel.add_netdev("eth0", up=False)
    silent: set[str] = set()
    for fault in failing_allocations(kernel, leaks=False):
        with fault:
            eth0.up()
        if fault.error is None:
            found = kind_of(kernel, eth0.ifindex)
            if fault.failed:
                silent.add(found)
            else:
                assert found == kind, "with all its memory"
    assert "noqueue" in silent


# Reassembly.  Each network namespace makes a hash table for its fragments: fqdir_init() hands
# rhashtable_init()'s error on.  In a whole kernel there is none to hand on: the parameters are
# constants, and without memory rhashtable_init() tries again, with a smaller table and
# __GFP_NOFAIL (lib/rhashtable.c).


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EINVAL])
def test_fragments_without_a_table(unit: Callable[..., Unit], error: int) -> None:
    """What was allocated before is freed, and the caller's pointer stays as it was."""
    u = unit("net/ipv4/inet_fragment.c")
    # Since 6.10 with a suffix, as allocations are profiled; later with a key of lockdep's.
    names = {"rhashtable_init", "rhashtable_init_noprof", "__rhashtable_init_noprof"}
    (init,) = names & set(u.mocks)
    u.mock(init).raises(error)
    place = u.array("struct fqdir *", [None])
    frags = u.new("struct inet_frags")
    assert u.fqdir_init(place, frags, u.new("struct net")) == -error
    u.mock(init).assert_called_once()
    u.assert_no_leaks()
    assert not place[0]


def test_a_namespace_of_the_whole_kernel_always_has_its_table(kernel: Kernel) -> None:
    """So its namespaces begin with one, and the error above can't be asked for."""
    with kernel.fork() as child:
        child.os.unshare(0x40000000)  # CLONE_NEWNET
        assert "FRAG: inuse 0 memory 0" in child.read_text("/proc/net/sockstat")


# Address lists.  A bridge or VLAN hands its addresses down with dev_uc_sync(), from
# ndo_set_rx_mode(), which returns nothing: a whole kernel drops the error, and the lower device
# lacks an address until the next change.  Alone, the function says what it did.

ADDRESSES = [bytes.fromhex(f"0200000000{number:02x}") for number in range(1, 6)]


class Device:
    """A struct net_device that has a list of unicast addresses and nothing else."""

    def __init__(self, u: Unit) -> None:
        self.unit, self.pointer = u, u.new("struct net_device", addr_len=6)
        u.dev_uc_init(self.pointer)

    def add(self, address: bytes) -> int:
        return int(self.unit.dev_uc_add(self.pointer, self.unit.buffer(address)))

    def addresses(self) -> list[bytes]:
        head = self.pointer.uc.list
        found, at = [], head.next
        while int(at) != int(head):
            found.append(at.container("struct netdev_hw_addr", "list").addr.bytes()[:6])
            at = at.next
        assert len(found) == self.pointer.uc.count
        return found


def drop(dropped: list[int], head: Pointer, offset: Pointer) -> None:
    """What kfree_rcu() would free: a mock can't call the unit."""
    dropped.append(int(head) - int(offset))


@pytest.mark.parametrize("multiple", [False, True])
def test_addresses_that_are_handed_down_by_half(unit: Callable[..., Unit], multiple: bool) -> None:
    """Whichever allocation fails: what was handed down is counted right, the next time brings the
    rest, and taking all back leaves neither an address nor memory."""
    u = unit("net/core/dev_addr_lists.c", with_=["lib/rbtree.c"])
    if "__dev_set_rx_mode" not in u.mocks:
        pytest.skip("this kernel hands addresses down later, from a work of its own")
    sync = u.dev_uc_sync_multiple if multiple else u.dev_uc_sync
    halves = 0
    for fault in failing_allocations(u, leaks=False):
        with fault:
            u.mock("__dev_set_rx_mode").returns()
            if "__local_bh_enable_ip" in u.mocks:
                u.mock("__local_bh_enable_ip").returns()
            dropped: list[int] = []
            if "call_rcu" in u.mocks:  # kfree_rcu() of a kernel with one CPU: head, its offset
                u.mock("call_rcu").does(partial(drop, dropped))
            upper, lower = Device(u), Device(u)
            has = [address for address in ADDRESSES if upper.add(address) == 0]
            assert upper.addresses() == has
            first = sync(lower.pointer, upper.pointer)
            assert first in (0, -errno.ENOMEM)
            got = lower.addresses()
            assert got == has[: len(got)] and (first == 0) == (got == has)
            halves += first != 0
            assert sync(lower.pointer, upper.pointer) == 0
            assert lower.addresses() == has
            u.dev_uc_unsync(lower.pointer, upper.pointer)
            assert lower.addresses() == [] and upper.addresses() == has
            u.dev_uc_flush(upper.pointer)
            assert upper.addresses() == []
        # With kfree_rcu() mocked, what it was given is all that there still is.
        assert sorted(one.address for one in u.live) == sorted(dropped), fault
    assert halves == len(ADDRESSES)
