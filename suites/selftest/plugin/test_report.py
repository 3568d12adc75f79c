# SPDX-License-Identifier: GPL-2.0
"""What a failing test shows: log, crash, packets and the command that replays it."""

import re
from pathlib import Path

import pytest


def test_sections_of_a_failure(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest
        from fakes import Frame

        @pytest.mark.parametrize("word", ["it's"])
        @pytest.mark.kernel(seed=7)
        def test_it(kernel, word):
            frame = bytes.fromhex("ffffffffffff0200000000010806" + "00" * 28)
            kernel.instance.frames += [Frame(1_500_000_000, 0, "tx", frame)] * 25
            kernel.instance.frames += [Frame(2_000_000_000, 1, "rx", b"")]
            kernel.panic()
        """
    )
    result = fake.runpytest("--hypothesis-seed=4")
    result.stdout.fnmatch_lines(
        [
            "*- Kernel log -*",
            "... 1 lines of its boot",
            "*- Kernel crash -*",
            "*fake_function at fake.c:42",
            "*- Last packets -*",
            "... 6 before",
            "*1.500000000 * 0  out *42  Ether / ARP*",
            "*2.000000000 * 1  in  *0 *",
            "all of them: *.pcap",
            "*- Replay -*",
            "pytest '*::test_it[[]it*s]' --kernel-source=debian:6.1 --kernel-flavour=default"
            " --kernel-seed=7 --hypothesis-seed=4",
            "kernel 6.1.0-fake (image cafe)",
        ]
    )
    path = re.search(r"all of them: (.*\.pcap)", result.stdout.str())
    assert path is not None
    assert Path(path[1]).read_bytes() == b"pcap"


def test_no_sections_for_tests_without_kernel(fake: pytest.Pytester) -> None:
    fake.makepyfile("def test_it(): assert False")
    fake.runpytest().stdout.no_fnmatch_line("*Replay*")


def test_several_kernels_are_told_apart(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        def test_it(kernel, kernel_factory):
            kernel_factory()
            assert False
        """
    )
    fake.runpytest().stdout.fnmatch_lines(
        ["*- Kernel log of kernel 1 -*", "*- Kernel log of kernel 2 -*"]
    )


def test_what_cannot_be_shown_does_not_hide_the_failure(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        def test_it(kernel):
            kernel.log = None
            assert 1 == 2
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2", "(not to be had: AttributeError: *"])
