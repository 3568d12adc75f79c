# SPDX-License-Identifier: GPL-2.0
"""Whatever a test does, the next one has a pristine kernel that is its alone."""

from __future__ import annotations

import pytest

HEAD = """
import gc, os, signal, socket, sys, threading, time
import pytest
from anykernel.errors import KernelError, UsageError
from anykernel.plugin.fixtures import LEASES, POOL

kept = []

def is_well(kernel):
    assert not kernel.os.exists("/tmp/dirt")
    assert kernel.snapshot() == 2
    kernel.write_text("/tmp/dirt", "dirt")
"""

WAYS = {
    "drops the snapshot of the plugin and takes another": """
    kernel.write_text("/tmp/dirt", "dirt")
    with pytest.raises(UsageError, match="isn't this test's"):
        kernel.drop(1)
    kernel.restore(1)
    is_well(kernel)
""",
    "closes the host": """
    kernel.write_text("/tmp/dirt", "dirt")
    kernel.instance._host.close()
""",
    "leaves a thread that goes on": """
    def work():
        try:
            while True:
                kernel.write_text("/tmp/dirt", "dirt")
        except KernelError:
            pass
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.05)
""",
    "keeps the kernel and its objects": """
    kept.extend([kernel, kernel.socket(), kernel.open("/tmp/dirt", "w")])
""",
    "gives its lease back itself": """
    (lease,) = request.node.stash[LEASES]
    kernel.write_text("/tmp/dirt", "dirt")
    pytestconfig.stash[POOL].give_back(lease)
    pytestconfig.stash[POOL].give_back(lease)
""",
    "is interrupted in the middle of a call": """
    kernel.write_text("/tmp/dirt", "dirt")
    def interrupt(*_):
        raise InterruptedError("of the test")
    before = signal.signal(signal.SIGUSR1, interrupt)
    for _ in range(30):
        timer = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGUSR1))
        with pytest.raises(InterruptedError):
            timer.start()
            while True:
                kernel.read_text("/proc/self/status")
        timer.join()
    signal.signal(signal.SIGUSR1, before)
""",
    "forks, and its child uses and collects the kernel": """
    child = os.fork()
    if not child:
        try:
            kernel.write_text("/tmp/dirt", "dirt")
        except UsageError as error:
            assert "forked" in str(error)
            kernel.instance._host.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    is_well(kernel)
""",
    "skips in the middle": """
    kernel.write_text("/tmp/dirt", "dirt")
    pytest.skip("enough")
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_next_test_is_well_after_one_that(pytester: pytest.Pytester, way: str) -> None:
    pytester.makepyfile(
        HEAD
        + f"""
def test_it(request, pytestconfig, kernel):
{WAYS[way]}

@pytest.mark.parametrize("n", range(2))
def test_next(kernel, kernel_factory, n):
    other = kernel_factory()
    assert other.instance._host is not kernel.instance._host
    is_well(kernel)
    is_well(other)
    gc.collect()
"""
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=200)
    outcomes = result.parseoutcomes()
    closes = way == "closes the host"
    assert outcomes.pop("failed", 0) == closes
    assert outcomes["passed"] + outcomes.get("skipped", 0) == 3 - closes
    assert "errors" not in outcomes
