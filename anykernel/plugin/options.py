# SPDX-License-Identifier: GPL-2.0
"""Which kernel a test gets: command line, ini file and the ``kernel`` marker."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

import pytest

DEFAULT_SOURCE = "debian:6.1"
DEFAULT_FLAVOUR = "default"
BASE = "base"
"""The component that every kernel has: alone, it asks for no other."""

MEMORY_STEP = 4 << 20
MEMORY_LEAST = 16 << 20
MEMORY_MOST = 16 << 30
CMDLINE_MOST = 400
"""Characters of a command line that the kernel keeps behind its machine's own
(anykernel/host/cmdline.py)."""
BUDGET_MOST = 1e6
COST_MOST = 1e-3
ALLOWED = ("warnings", "crash")
"""What a marker may allow."""

MARKER = (
    "kernel(source=, flavour=, seed=, memory=, clock=, config=, cmdline=, budget=, cost=, "
    "components=, stubs=, allow_warnings=, allow_crash=): the kernel that the test runs on"
)


@dataclass(frozen=True)
class KernelOptions:
    """Everything that tells one kernel from another; equal options may share a host process."""

    source: str = DEFAULT_SOURCE
    flavour: str = DEFAULT_FLAVOUR
    seed: int = 0
    memory: int = 64 << 20
    """Bytes of RAM."""
    clock: Literal["virtual", "real"] = "virtual"
    config: tuple[tuple[str, str], ...] = ()
    """Kconfig values over the flavour's, sorted by symbol."""
    cmdline: str = ""
    budget: float = 10.0
    """CPU seconds that one request may keep the kernel busy; then it counts as locked up."""
    cost: float = 0.0
    """Virtual seconds that each system call takes, each packet that a device receives and each
    that a netdev sends; 1e-6 is near a real machine's."""
    components: tuple[str, ...] | None = None
    """The parts of a kernel with only some, by name, or a named image of the stub policy; ():
    those that every kernel has; None: a whole kernel."""
    stubs: Literal["strict", "report"] = "strict"
    """What a stub does that is reached and that no policy grants a behaviour: fails the test, or
    returns 0 and is listed in pytest's summary."""

    def describe(self) -> str:
        """One line, for people."""
        plain = KernelOptions()
        parts = [self.source, self.flavour, f"seed {self.seed}"]
        if self.memory != plain.memory:
            parts.append(f"{self.memory >> 20} MiB")
        if self.clock != plain.clock:
            parts.append(f"{self.clock} clock")
        parts += [f"{symbol}={value}" for symbol, value in self.config]
        if self.cmdline:
            parts.append(f"cmdline {self.cmdline!r}")
        if self.components is not None:
            parts.append(f"components {self.named()}")
        if self.stubs != plain.stubs:
            parts.append(f"stubs {self.stubs}")
        if self.cost:
            parts.append(f"cost {self.cost:g} s")
        return " ".join(parts)

    def of_host(self) -> dict[str, Any]:
        """The options that a Host takes, but for its clock."""
        return {
            "memory": self.memory,
            "seed": self.seed,
            "cmdline": self.cmdline,
            "budget": self.budget,
            "cost": self.cost,
            "stubs": self.stubs,
        }

    def named(self) -> str:
        """The components as the command line takes them; '' for a whole kernel."""
        return "" if self.components is None else ",".join(self.components) or BASE

    def replay(self) -> list[str]:
        """The command line options that ask for this kernel."""
        parts = [f"--kernel-source={self.source}", f"--kernel-flavour={self.flavour}"]
        parts.append(f"--kernel-seed={self.seed}")
        parts += [f"--kernel-config={symbol}={value}" for symbol, value in self.config]
        if self.components is not None:
            parts.append(f"--kernel-components={self.named()}")
        if self.stubs != KernelOptions.stubs:
            parts.append(f"--kernel-stubs={self.stubs}")
        if self.cost:
            parts.append(f"--kernel-cost={self.cost!r}")
        return parts


@dataclass(frozen=True)
class Allowed:
    """Failures of the kernel that a test declares as expected."""

    warnings: bool = False
    crash: bool = False


NAMES = ("source", "flavour", "seed", "components", "stubs", "cost")
"""Of the options that have a command line option."""
_DEFAULTS = pytest.StashKey[KernelOptions]()


def add(parser: pytest.Parser) -> None:
    """Adds the command line options and their ini equivalents."""
    group = parser.getgroup("anykernel", "Linux kernel under test")
    group.addoption(
        "--kernel-source",
        metavar="SPEC",
        help=f"kernel source: debian:6.1, a directory, a tarball, ... (default: {DEFAULT_SOURCE})",
    )
    group.addoption(
        "--kernel-flavour",
        metavar="NAME",
        help="kernel configuration to build: a flavour's name, or the path of a fragment or a "
        f"whole .config (default: {DEFAULT_FLAVOUR})",
    )
    group.addoption(
        "--kernel-config",
        action="append",
        metavar="SYMBOL=VALUE",
        help="a Kconfig value over the flavour's, as in NET_SCH_FQ=y; may be given again",
    )
    group.addoption(
        "--kernel-seed", metavar="N", help="seed of the kernel's randomness (default: 0)"
    )
    group.addoption(
        "--kernel-components",
        metavar="A,B",
        help="a kernel with these parts only: components (anykernel components) or a named image "
        "(anykernel stubs); base alone is the smallest (default: the whole kernel)",
    )
    group.addoption(
        "--kernel-stubs",
        metavar="MODE",
        help="strict: a test fails that reaches what its kernel's parts can't do without; report: "
        "that returns 0 and is listed in the summary (default: strict)",
    )
    group.addoption(
        "--kernel-cost",
        metavar="SECONDS",
        help="virtual time that each system call and each packet takes; 1e-6 is near a real "
        "machine's (default: 0)",
    )
    group.addoption(
        "--kernel-log-live",
        action="store_true",
        help="show what kernels print at once, as -s does (not with -n)",
    )
    group.addoption(
        "--kernel-gdb",
        action="store_true",
        help="where a kernel fails, attach gdb to it before its test is torn down",
    )
    for name in NAMES:
        parser.addini(f"kernel_{name}", f"default for --kernel-{name}")
    parser.addini("kernel_config", "defaults for --kernel-config, one a line", type="linelist")
    parser.addini("kernel_log_live", "as --kernel-log-live", type="bool", default=False)
    parser.addini(
        "kernel_stub_policies",
        "folders of further stub policies, relative to the ini file",
        type="paths",
    )


def configure(config: pytest.Config) -> None:
    """Checks the options and registers the marker.  Raises pytest.UsageError."""
    config.addinivalue_line("markers", MARKER)
    given = {
        name: config.getoption(f"kernel_{name}") or config.getini(f"kernel_{name}") or None
        for name in NAMES
    }
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "seed" in values:
        try:
            values["seed"] = int(values["seed"], 0)
        except ValueError:
            raise pytest.UsageError(
                f"--kernel-seed: {values['seed']!r} is not a whole number"
            ) from None
    if "cost" in values:
        try:
            values["cost"] = float(values["cost"])
        except ValueError:
            raise pytest.UsageError(
                f"--kernel-cost: {values['cost']!r} is not a number of seconds"
            ) from None
    if "components" in values:
        values["components"] = [name.strip() for name in values["components"].split(",")]
    values["config"] = {
        **_assignments("kernel_config", config.getini("kernel_config")),
        **_assignments("--kernel-config", config.getoption("kernel_config") or ()),
    }
    try:
        config.stash[_DEFAULTS] = change(KernelOptions(), values)
    except ValueError as error:
        raise pytest.UsageError(f"--kernel-{error}") from None


def _assignments(option: str, items: Sequence[str]) -> dict[str, str]:
    """Raises pytest.UsageError."""
    if not items:
        return {}
    from anykernel.errors import UsageError
    from anykernel.symbols import assignments

    try:
        return assignments(items)
    except UsageError as error:
        raise pytest.UsageError(f"{option}: {error}") from None


def defaults(config: pytest.Config) -> KernelOptions:
    """What a test without a marker gets."""
    return config.stash[_DEFAULTS]


def of_item(item: pytest.Item) -> tuple[KernelOptions, Allowed]:
    """The options of one test: markers, the nearest last, over the defaults.

    Raises ValueError with a text that names what is wrong and what is possible.
    """
    options = defaults(item.config)
    allowed: dict[str, bool] = {}
    for marker in reversed(list(item.iter_markers("kernel"))):
        if marker.args:
            raise ValueError(
                "@pytest.mark.kernel takes keyword arguments only, "
                f"for example @pytest.mark.kernel(source={marker.args[0]!r})"
            )
        values = dict(marker.kwargs)
        for name in ALLOWED:
            if f"allow_{name}" in values:
                flag = values.pop(f"allow_{name}")
                if not isinstance(flag, bool):
                    raise ValueError(
                        f"@pytest.mark.kernel: allow_{name} must be True or False, got {flag!r}"
                    )
                allowed[name] = flag
        try:
            options = change(options, values, more=[f"allow_{name}" for name in ALLOWED])
        except ValueError as error:
            raise ValueError(f"@pytest.mark.kernel: {error}") from None
    return options, Allowed(**allowed)


def change(
    base: KernelOptions, values: Mapping[str, Any], more: Sequence[str] = ()
) -> KernelOptions:
    """`base` with `values` over it; raises ValueError when one is unknown or makes no sense.
    more: options that could have been given, too."""
    known = [field.name for field in fields(KernelOptions)]
    for name, value in values.items():
        if name not in known:
            raise ValueError(_unknown(name, [*known, *more]))
        _check(name, value)
    new = dict(values)
    if "config" in new:
        given = {
            symbol.removeprefix("CONFIG_"): value
            for symbol, value in cast("Mapping[str, str]", new["config"]).items()
        }
        new["config"] = tuple(sorted({**dict(base.config), **given}.items()))
    if new.get("components") is not None:
        names = [new["components"]] if isinstance(new["components"], str) else new["components"]
        new["components"] = tuple(sorted(set(names) - {BASE}))
    for name in ("budget", "cost"):
        if name in new:
            new[name] = float(new[name])
    return replace(base, **new)


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown option {name!r}{hint}; there are {', '.join(known)}"


def _check(name: str, value: object) -> None:
    def need(fine: bool, what: str) -> None:
        if not fine:
            raise ValueError(f"{name} must be {what}, got {value!r}")

    number = isinstance(value, int) and not isinstance(value, bool)
    match name:
        case "source" | "flavour":
            need(isinstance(value, str) and value != "", "a non-empty string")
        case "cmdline":
            fine = isinstance(value, str) and "\0" not in value and len(value) <= CMDLINE_MOST
            need(fine, f"a string of at most {CMDLINE_MOST} characters, none of them NUL")
        case "seed":
            need(number and 0 <= cast("int", value) < 1 << 63, "a whole number from 0 to 2^63 - 1")
        case "memory":
            fine = (
                number
                and MEMORY_LEAST <= cast("int", value) <= MEMORY_MOST
                and not cast("int", value) % MEMORY_STEP
            )
            need(fine, "bytes: a multiple of 4 MiB, from 16 MiB to 16 GiB (64 << 20 is 64 MiB)")
        case "clock":
            need(value in ("virtual", "real"), "'virtual' or 'real'")
        case "budget":
            fine = (number or isinstance(value, float)) and (
                0 < cast("float", value) <= BUDGET_MOST
            )
            need(fine, "a number of seconds above 0, 1,000,000 at most")
        case "cost":
            fine = (number or isinstance(value, float)) and 0 <= cast("float", value) <= COST_MOST
            need(fine, "a number of seconds from 0 to 0.001")
        case "stubs":
            need(value in ("strict", "report"), "'strict' or 'report'")
        case "components":
            names = value if isinstance(value, list | tuple) else [value]
            fine = value is None or all(isinstance(one, str) and one for one in names)
            need(fine, "a list of components, such as ['net/ipv4'], an image's name, or None")
        case "config":
            fine = isinstance(value, Mapping) and all(
                isinstance(part, str) for pair in value.items() for part in pair
            )
            need(fine, "a mapping of Kconfig symbols to values, such as {'NET_SCH_NETEM': 'y'}")
