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
    result = fake.runpytest("--hypothesis-seed=4", "-p", "no:doctest", "-v")
    result.stdout.fnmatch_lines(
        [
            "*KernelCrash: panic: cardboard burns*",
            "*fake_function at fake.c:42",
            "*- Last packets -*",
            "... 20 before",
            "*1.500000000 * 0  out *42  Ether / ARP*",
            "*2.000000000 * 1  in  *0 *",
            "*- Replay -*",
            "pytest -c */tox.ini '/*::test_it[[]it*s]' --kernel-source=debian:6.1"
            " --kernel-flavour=default --kernel-seed=7 -p no:doctest --hypothesis-seed=4*",
            "kernel 6.1.0-fake (image cafe)",
            "all of it: *.txt",
            "all packets: *.pcap",
        ]
    )
    assert result.stdout.str().count("fake_function at fake.c") == 1, "nothing is said twice"
    path = re.search(r"all packets: (.*\.pcap)", result.stdout.str())
    assert path is not None
    assert Path(path[1]).read_bytes() == b"pcap"
    text = Path(path[1]).with_suffix(".txt").read_text()
    assert "registers: of cardboard" in text and "Linux version 6.1.0-fake" in text


def test_no_sections_for_tests_without_kernel(fake: pytest.Pytester) -> None:
    fake.makepyfile("def test_it(): assert False")
    fake.runpytest().stdout.no_fnmatch_line("*Replay*")


def test_several_kernels_are_told_apart(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        def test_it(kernel, kernel_factory):
            for number, one in enumerate((kernel, kernel_factory())):
                one.log.lines.append(f"line of {number}")
            assert False
        """
    )
    fake.runpytest().stdout.fnmatch_lines(
        [
            "*- Kernel log of kernel 1 -*",
            "line of 0",
            "*- Kernel log of kernel 2 -*",
            "line of 1",
        ]
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


def test_what_a_kernel_says_is_no_command_for_the_terminal(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        r"""
        def test_it(kernel):
            kernel.log.lines.append("\x1b]0;owned\x07 \x9b2J \u202e name\rover")
            assert False
        """
    )
    shown = fake.runpytest().stdout.str()
    assert r"\x1b]0;owned\x07 \x9b2J \u202e name\rover" in shown
    assert not {"\x07", "\x9b", "\u202e"} & set(shown)


def test_a_failure_in_a_fixture_has_its_kernel(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        @pytest.fixture
        def before(kernel):
            kernel.log.lines.append("in the setup")
            assert False, "one"

        @pytest.fixture
        def after(kernel):
            yield
            kernel.log.lines.append("in the teardown")
            assert False, "two"

        def test_setup(before): pass
        def test_teardown(after): pass
        def test_next(kernel): assert len(kernel.log.lines) == 1
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(errors=2, passed=2)
    for where in ("setup", "teardown"):
        result.stdout.fnmatch_lines(
            [f"*at {where} of*", f"in the {where}", "*- Replay -*", f"pytest *::test_{where} *"]
        )


def test_the_workers_of_xdist_keep_theirs_apart(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(kernel, number):
            kernel.log.lines.append(f"number {number}")
            assert False
        """
    )
    shown = fake.runpytest_subprocess("-n2", "-W", "default::UserWarning").stdout.str()
    files = re.findall(r"all of it: (.*)", shown)
    assert len(set(files)) == 4
    for file in files:
        (number,) = re.findall(r"test_it-(\d)", file)
        assert f"number {number}\n" in Path(file).read_text()
    assert len(re.findall(r"^pytest -c .* -W default::UserWarning$", shown, re.M)) == 4
