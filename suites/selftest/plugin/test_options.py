# SPDX-License-Identifier: GPL-2.0
"""Command line, ini file and marker; and what is said when one is wrong."""

from typing import Any

import pytest

from anykernel.plugin.options import KernelOptions, change


def test_marker_goes_before_command_line_goes_before_ini(fake: pytest.Pytester) -> None:
    fake.makeini("[pytest]\nkernel_source = ini\nkernel_flavour = ini\nkernel_seed = 3\n")
    fake.makepyfile(
        """
        import pytest

        @pytest.mark.kernel(seed=5, config={"B": "y", "A": "n"}, clock="real", memory=32 << 20)
        class TestIt:
            @pytest.mark.kernel(seed=6)
            def test_it(self, request, kernel):
                from anykernel.plugin.fixtures import LEASES
                (lease,) = request.node.stash[LEASES]
                assert lease.options.source == "ini"
                assert lease.options.flavour == "line"
                assert lease.options.seed == 6
                assert lease.options.clock == "real"
                assert lease.options.config == (("A", "n"), ("B", "y"))
                assert lease.host.options["memory"] == 32 << 20
        """
    )
    fake.runpytest("--kernel-flavour=line").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (
            "flavor='debug'",
            "unknown option 'flavor' (did you mean flavour?); there are source, flavour, seed, "
            "memory, clock, config, cmdline, budget, cost, components, stubs, allow_warnings, "
            "allow_crash",
        ),
        ("allow_warning=True", "unknown option 'allow_warning' (did you mean allow_warnings?)"),
        ("memory=1 << 60", "from 16 MiB to 16 GiB"),
        ("memory=-(64 << 20)", "from 16 MiB to 16 GiB"),
        ("memory=64e6", "from 16 MiB to 16 GiB"),
        ("cmdline='a' + chr(0)", "at most 400 characters, none of them NUL"),
        ("cmdline='x' * 401", "at most 400 characters, none of them NUL"),
        ("budget=-1", "budget must be a number of seconds above 0"),
        ("budget=float('nan')", "budget must be a number of seconds above 0"),
        ("budget=float('inf')", "budget must be a number of seconds above 0"),
        ("'debian:6.12'", "keyword arguments only"),
        ("seed=-1", "seed must be a whole number from 0"),
        ("seed='7'", "seed must be a whole number from 0"),
        ("seed=True", "seed must be a whole number from 0"),
        ("memory=64", "memory must be bytes: a multiple of 4 MiB"),
        ("clock='sun'", "clock must be 'virtual' or 'real', got 'sun'"),
        ("config=['NET']", "config must be a mapping of Kconfig symbols"),
        ("config={'NET': True}", "config must be a mapping of Kconfig symbols"),
        ("budget=0", "budget must be a number of seconds above 0"),
        ("source=''", "source must be a non-empty string"),
        ("components=[4]", "components must be a list of components, such as ['net/ipv4']"),
        ("components=''", "components must be a list of components, such as ['net/ipv4']"),
        ("stubs='loud'", "stubs must be 'strict' or 'report', got 'loud'"),
        ("allow_warnings=1", "allow_warnings must be True or False"),
    ],
)
def test_wrong_marker_fails_its_test_alone(fake: pytest.Pytester, marker: str, said: str) -> None:
    fake.makepyfile(
        f"""
        import pytest

        @pytest.mark.kernel({marker})
        def test_wrong(kernel): pass

        def test_right(kernel): pass
        """
    )
    result = fake.runpytest()
    result.assert_outcomes(passed=1, errors=1)
    text = result.stdout.str()
    assert "::test_wrong: @pytest.mark.kernel" in text
    assert said in text
    assert text.count("::test_wrong: @pytest.mark.kernel") == 1, "it is said once"
    assert "During handling" not in text
    assert "Traceback" not in text and "options.py:" not in text


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--kernel-seed=many", "--kernel-seed: 'many' is not a whole number"),
        ("--kernel-seed=-1", "--kernel-seed must be a whole number from 0"),
        ("--kernel-components=a,,b", "--kernel-components must be a list of components"),
        ("--kernel-stubs=quiet", "--kernel-stubs must be 'strict' or 'report'"),
        ("--kernel-config=NET_SCH_FQ", "--kernel-config: 'NET_SCH_FQ': write SYMBOL=VALUE, as in"),
        ("--kernel-config=NET SCH=y", "--kernel-config: 'NET SCH=y': write SYMBOL=VALUE, as in"),
        ("--kernel-config=CONFIG_=y", "--kernel-config: 'CONFIG_=y': write SYMBOL=VALUE, as in"),
        ("--kernel-config=NET=", "--kernel-config: 'NET=': write SYMBOL=VALUE, as in"),
    ],
)
def test_wrong_command_line_is_a_usage_error(
    fake: pytest.Pytester, argument: str, said: str
) -> None:
    result = fake.runpytest(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}*"])


def test_wrong_symbols_of_the_ini_file(fake: pytest.Pytester) -> None:
    fake.makeini("[pytest]\nkernel_config =\n  NET=y\n  IPV6\n")
    result = fake.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: kernel_config: 'IPV6': write SYMBOL=VALUE*"])


def test_symbols_of_the_ini_file_the_command_line_and_markers(fake: pytest.Pytester) -> None:
    """Each adds to the others; of one symbol the nearest counts, however it is spelt."""
    fake.makeini("[pytest]\nkernel_config =\n  A=ini\n  CONFIG_B=ini\n  C=ini\n  D=ini\n")
    fake.makepyfile(
        """
        import pytest

        def config(request):
            from anykernel.plugin.fixtures import LEASES
            (lease,) = request.node.stash[LEASES]
            return dict(lease.options.config)

        @pytest.mark.kernel(config={"CONFIG_C": "mark", "E": "mark"})
        def test_marked(request, kernel):
            assert config(request) == {
                "A": "ini", "B": "line", "C": "mark", "D": "2", "E": "mark", "F": '"a=b"'
            }
            kernel.panic()

        def test_plain(request, kernel):
            assert config(request)["C"] == "line"
        """
    )
    given = ("B=line", "CONFIG_C=line", "D=1", "D=2", 'F="a=b"')
    result = fake.runpytest(*(f"--kernel-config={one}" for one in given))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "anykernel: debian:6.1 default seed 0 A=ini B=line C=line D=2*",
            "*--kernel-seed=0 --kernel-config=A=ini --kernel-config=B=line --kernel-config=C=mark"
            " --kernel-config=D=2 --kernel-config=E=mark '--kernel-config=F=\"a=b\"'*",
        ]
    )


def test_a_flavour_that_is_a_file(fake: pytest.Pytester) -> None:
    """What it has and no library can have is said once, and a replay finds it from anywhere."""
    (fake.path / "my.config").write_text("")
    fake.makepyfile(
        """
        def test_one(kernel):
            pass

        def test_two(kernel):
            kernel.panic()
        """
    )
    result = fake.runpytest("--kernel-flavour=./my.config")
    result.stdout.fnmatch_lines([f"*--kernel-flavour={fake.path}/my.config*"])
    assert result.stdout.str().count("1 of its values can't be had") == 1


def test_factory_says_what_is_wrong(fake: pytest.Pytester) -> None:
    fake.makepyfile(
        """
        import pytest

        def test_it(kernel_factory):
            with pytest.raises(ValueError, match="unknown option 'sede'"):
                kernel_factory(sede=1)
        """
    )
    fake.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "debian:6.1 default seed 0"),
        ({"memory": 128 << 20, "clock": "real"}, "debian:6.1 default seed 0 128 MiB real clock"),
        ({"config": {"A": "y"}, "cmdline": "x"}, "debian:6.1 default seed 0 A=y cmdline 'x'"),
        ({"components": ["b", "a", "b"]}, "debian:6.1 default seed 0 components a,b"),
        ({"components": []}, "debian:6.1 default seed 0 components base"),
        ({"components": "base"}, "debian:6.1 default seed 0 components base"),
        ({"components": None}, "debian:6.1 default seed 0"),
        (
            {"components": "net-ipv4", "stubs": "report"},
            "debian:6.1 default seed 0 components net-ipv4 stubs report",
        ),
    ],
)
def test_description(values: dict[str, Any], line: str) -> None:
    assert change(KernelOptions(), values).describe() == line


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, ""),
        ({"components": []}, " --kernel-components=base"),
        ({"components": ["a", "b"]}, " --kernel-components=a,b"),
        ({"components": ["a"], "stubs": "report"}, " --kernel-components=a --kernel-stubs=report"),
        ({"config": {"CONFIG_B": "2", "A": "y"}}, " --kernel-config=A=y --kernel-config=B=2"),
        ({"cost": 1.23456789e-06}, " --kernel-cost=1.23456789e-06"),
    ],
)
def test_replay(values: dict[str, Any], said: str) -> None:
    line = " ".join(change(KernelOptions(), values).replay())
    assert line == "--kernel-source=debian:6.1 --kernel-flavour=default --kernel-seed=0" + said


def test_components_of_the_command_line_and_of_markers(fake: pytest.Pytester) -> None:
    (fake.path / "policies").mkdir()
    fake.makeini("[pytest]\nkernel_components = ini\nkernel_stub_policies = policies\n")
    fake.makepyfile(
        """
        import pytest

        def test_line(kernel):
            assert kernel.image.id == "part-a,b,policies"

        @pytest.mark.kernel(components=[])
        def test_base(kernel):
            assert kernel.image.id == "part-policies"

        @pytest.mark.kernel(components=None)
        def test_whole(kernel, kernel_factory):
            assert kernel.image.id == "cafe"
            assert kernel_factory(components=("c",)).image.id == "part-c,policies"

        @pytest.mark.kernel(components=["net/ipv5"])
        def test_wrong(kernel):
            pass
        """
    )
    result = fake.runpytest("--kernel-components=b, a")
    result.assert_outcomes(passed=3, errors=1)
    assert "this kernel has no component 'net/ipv5'" in result.stdout.str()
