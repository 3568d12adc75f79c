# SPDX-License-Identifier: GPL-2.0
"""Each way to fail of the table ends as a verdict that is right, with a report that says where, and
the next test's kernel is as good as new.  What came out is written to a file that is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anykernel.errors import AnykernelError, BorderError, Deadlock, HostDied, KernelCrash
from anykernel.host import CrashReport, Instance
from anykernel.kernel import Kernel
from suites.selftest.host.failures import ENTRY, WAYS, Way, source
from suites.selftest.inject import Injected
from suites.selftest.optional import HAS_KEYS

pytestmark = pytest.mark.kernel(allow_crash=True, allow_warnings=True, budget=0.5)
FAST = {
    "alignment_left_on",
    "console_of_nowhere",
    "frame_pointer_lost",
    "fs_base_left",
    "interrupt_0x80",
    "pretends_idle_and_loops",
    "stack_pointer_non_canonical",
}
"""Of each kind that once ended the host one that is always tried; the rest is slow."""
CASES = [(way, context) for way in WAYS for context in way.contexts]
PRISTINE: dict[str, int] = {}
"""The hash of the first test's kernel, by its image."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    lines = ["verdict          expected           stack  way, context: what the report says"]
    yield lines
    path = tmp_path_factory.getbasetemp() / "failures.txt"
    path.write_text("\n".join(lines) + "\n")
    print(f"\nthe table of {len(lines) - 1} failures: {path}")


def outcome(kernel: Kernel, way: Way, context: str) -> tuple[str, CrashReport | None, str]:
    """(how it ended, its report, in a word): a crash's kind with '-' for ' ', or 'deadlock',
    'lie' (what the host's memory says can't be), 'died' (no host any more), 'warning', 'silent'."""
    injected = Injected(kernel, source())
    before = kernel.instance.warnings
    try:
        result = injected(ENTRY[context], injected.symbols[f"w_{way.name}"])
    except KernelCrash as crash:
        return crash.report.kind.replace(" ", "-"), crash.report, crash.report.what
    except Deadlock:
        return "deadlock", None, ""
    except BorderError as error:
        return "lie", None, str(error)
    except HostDied as error:
        return "died", None, str(error)
    except AnykernelError as error:
        return type(error).__name__, None, str(error)
    if kernel.instance.warnings != before or kernel.log.failures():
        return "warning", None, "; ".join(record.text for record in kernel.log.failures()[:1])
    return "silent", None, f"returned {result:#x}"


def names_it(report: CrashReport) -> bool:
    """The stack has the code that was put in, which has no symbol, or what it called."""
    return len(report.frames) >= 2


def marks(way: Way, context: str) -> list[pytest.MarkDecorator]:
    return [] if way.name in FAST and context == "process" else [pytest.mark.slow]


@pytest.mark.parametrize(
    ("way", "context"),
    [pytest.param(*case, id=f"{case[0].name}-{case[1]}", marks=marks(*case)) for case in CASES],
)
def test_way(kernel: Kernel, way: Way, context: str, table: list[str]) -> None:
    assert isinstance(kernel.instance, Instance)
    pristine = kernel.instance.memory_hash()
    assert PRISTINE.setdefault(kernel.image.id, pristine) == pristine, "the kernel isn't as new"
    ended, report, said = outcome(kernel, way, context)
    stack = "-" if report is None else "yes" if names_it(report) else "no"
    table.append(f"{ended:16} {way.ends:18} {stack:6} {way.name}, {context}: {said:.100}")
    if way.keys and not HAS_KEYS:
        return  # that pytest goes on, and that the next kernel is as new, is all there is
    assert ended in way.ends.split(), table[-1]
    assert report is None or names_it(report) or not way.stack, report.render()
    if way.name == "frame_pointer_lost" and context == "process":
        assert report is not None
        assert any(frame.startswith("? lib_call+") for frame in report.frames), report.frames
