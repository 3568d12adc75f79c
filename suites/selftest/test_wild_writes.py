# SPDX-License-Identifier: GPL-2.0
"""A kernel that writes into what Python trusts: its test fails and says why, the report is made,
and the next test has a pristine kernel."""

from __future__ import annotations

import re

import pytest

CASES = {
    # Offsets are those of protocol.h, which the test computes.
    "capture head": 'write(kernel, "capture_head", ALL)\n    assert False, "and its packets?"',
    "capture tail": 'write(kernel, "capture_tail", ALL)\n    assert False, "and its packets?"',
    "console head": 'write(kernel, "console_head", ALL)\n    kernel.log.text()',
    "console head, unread": 'write(kernel, "console_head", ALL)',
    "crash flag": 'write(kernel, "crash", 1)',
    "crash flag, then a call": 'write(kernel, "crash", 1)\n    kernel.os.getpid()',
    "stack bytes": 'write(kernel, "stack_bytes", ALL)\n    write(kernel, "crash", 1)',
    "signals": 'write(kernel, "signals_head", ALL)\n    assert not kernel.caught',
    "image": 'write(kernel, "image_base", 0x1000)',
    "bell": "header(kernel, 8, 77)\n    kernel.os.getpid()",
    "index of the crashed": "index(kernel)",
    "done too early": "early(kernel)\n    assert kernel.os.getpid() == 1",
}
HELPERS = '''
import pytest
from suites.selftest.inject import Injected

ALL = (1 << 64) - 1
W = """long go(long at, long value) { *(volatile unsigned long *)at = value; return 0; }"""

def write(kernel, field, value):
    instance = kernel.instance
    ffi, c = instance._border.ffi, instance._c
    at = c.HK_BASE + c.HK_KERNELS_AT + ffi.offsetof("struct hk_kernel", field)
    Injected(kernel, W)("go", at, value)

def header(kernel, offset, value):
    Injected(kernel, W)("go", kernel.instance._c.HK_BASE + offset, value)

def index(kernel):
    """The host's own structs of kernels, in which it looks up who crashed."""
    Injected(kernel, "long go(void) { *(volatile unsigned *)0x1e0000000 = 0x7ffffff0; BUG(); }")()

def early(kernel):
    Injected(kernel, """
        long go(void)
        {
            volatile unsigned *h = (void *)0x20000000000;

            h[3] = h[2];
            for (long i = 0; i < 200000000; i++)
                barrier();
            return 7;
        }""")()
'''


def test_each_fails_alone(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    pytester.syspathinsert(request.config.rootpath)
    text = HELPERS
    for number, body in enumerate(CASES.values()):
        text += (
            f"\ndef test_wild_{number}(kernel):\n    {body}\n"
            f"\ndef test_next_{number}(kernel):\n"
            "    assert kernel.os.getpid() == 1 and kernel.clock.seconds == 1.0\n"
            "    assert kernel.instance.crash is None and not kernel.log.failures()\n"
        )
    pytester.makepyfile(text)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=300)
    assert "INTERNALERROR" not in result.stdout.str()
    result.assert_outcomes(passed=len(CASES), failed=len(CASES))
    # Where the processor can protect that memory, the write itself crashes the kernel.
    said = re.compile(r"^E .*(can't be believed any more|crashed: |and its packets)", re.M)
    reports = re.split(r"^_+ test_wild_\d+ _+$", result.stdout.str(), flags=re.M)[1:]
    assert len(reports) == len(CASES)
    for name, report in zip(CASES, reports, strict=True):
        assert said.search(report), f"{name}: {report}"
        assert "- Replay -" in report, name


DAMAGE = """
import pytest
from anykernel.link.symbols import Symbols
from suites.selftest.host.test_protection import find
from suites.selftest.inject import Injected

WRITE = "long go(long at) { *(volatile unsigned long *)at ^= 1; return 0; }"

def damage(kernel):
    instance = kernel.instance
    ticks = Symbols.of(kernel.image.vmlinux).addresses["jiffies_64"]
    page = instance.image_base + ticks & ~4095
    saved = instance.read_memory(page, 4096)
    kernel.clock.advance(1)
    places = [at for at in find(instance._host, saved) if at % 4096 == 0]
    assert places
    for at in places:
        Injected(kernel, WRITE)("go", at)

def test_damages(kernel):
    damage(kernel)

def test_next(kernel):
    assert kernel.os.getpid() == 1 and kernel.clock.seconds == 1.0

class TestModule:
    def test_damages(self, kernel_module):
        damage(kernel_module)

    def test_next(self, kernel_module):
        assert kernel_module.os.getpid() == 1 and kernel_module.clock.seconds == 1.0
"""


def test_damage_to_what_is_saved_is_an_error_of_its_test(
    pytester: pytest.Pytester,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no protection key keeps the kernel from it."""
    monkeypatch.setenv("ANYKERNEL_HIDE", "keys")
    pytester.syspathinsert(request.config.rootpath)
    pytester.makepyfile(DAMAGE)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=300)
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_damages*", "*HostDied: *", "*snapshot damaged: a saved page*"]
    )
    result.stdout.fnmatch_lines(["*ERROR at teardown of TestModule.test_damages*"])
