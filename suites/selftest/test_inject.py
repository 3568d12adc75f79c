# SPDX-License-Identifier: GPL-2.0
"""Code that is put into a kernel runs there, with the kernel's functions, variables and faults."""

from __future__ import annotations

import pytest

from anykernel.errors import BuildError, KernelCrash
from anykernel.kernel import Kernel
from suites.selftest.inject import Injected

SOURCE = """
static long counter = 40, zero;
static const char *const words[] = { "zero", "one" };

long count(long by)
{
	counter += by;
	return counter + zero++;
}

long length_of_word(long which)
{
	char *copy = kstrdup(words[which], GFP_KERNEL);
	long length = strlen(copy);

	kfree(copy);
	return length;
}

long minus(long a, long b) { return a - b; }

long look(long address) { return *(volatile long *)address; }
"""


def test_words_go_in_and_come_back(kernel: Kernel) -> None:
    injected = Injected(kernel, SOURCE)
    assert [injected("count", 2), injected("count", -1)] == [42, 42]
    assert injected("length_of_word", 1) == 3
    assert injected("minus", 1, 3) == -2


@pytest.mark.kernel(allow_crash=True)
def test_it_can_be_wrong(kernel: Kernel) -> None:
    injected = Injected(kernel, SOURCE)
    with pytest.raises(KernelCrash) as crash:
        injected("look", 8)
    assert crash.value.report.address == 8


def test_what_it_lacks_is_named(kernel: Kernel) -> None:
    with pytest.raises(ValueError, match="no nobodys_function"):
        Injected(
            kernel, "long nobodys_function(void); long go(void) { return nobodys_function(); }"
        )
    with pytest.raises(BuildError, match=r"injected\.c"):
        Injected(kernel, "long go(long a) { return b; }")
