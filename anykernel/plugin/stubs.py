# SPDX-License-Identifier: GPL-2.0
"""Which test reached which stub, for kernels of some components: counted, and summed up at the
end of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anykernel.plugin.pool import Lease

BOOT = "boot"
"""Who reached what a kernel reached before its first test had it."""
OUTPUT = "anykernel_stubs"
"""In an xdist worker's output."""
SHOWN = 3
"""Tests that are named for one stub."""

Summary = dict[str, Any]
"""Of one image; plain values, as xdist sends them:

name, release; generated, variants, bodies: how many; granted: symbol to why; counted: the granted
symbols that are counted; ungranted: symbols that fail a test; report: whether they were let pass;
reached: symbol to test to count."""
LEDGER = pytest.StashKey[dict[str, Summary]]()
"""Image id to its summary."""


def count(config: pytest.Config, lease: Lease, who: str) -> None:
    """Notes for `who` what the kernel reached since the last call.  Whole kernels have none."""
    if lease.options.components is None:
        return
    summary = _summary(config, lease)
    now: dict[int, int] = {}
    for instance in lease.host.instances:
        for number, reached in instance.stubs.items():
            now[number] = now.get(number, 0) + reached
    if now == lease.stubs:
        return
    names = _numbered(lease)
    for number, reached in now.items():
        if more := reached - lease.stubs.get(number, 0):
            tests = summary["reached"].setdefault(names.get(number, f"stub {number}"), {})
            tests[who] = tests.get(who, 0) + more
    lease.stubs = now


def _summary(config: pytest.Config, lease: Lease) -> Summary:
    summaries = config.stash.setdefault(LEDGER, {})
    image = lease.image
    if image.id not in summaries:
        from anykernel.link.image import ledger

        stubs = ledger(image)
        granted = [one for one in stubs if one.why and one.kind != "variant"]
        summaries[image.id] = {
            "name": lease.options.named(),
            "release": image.release,
            "generated": sum(one.generated for one in stubs),
            "variants": sum(one.kind == "variant" for one in stubs),
            "bodies": sum(one.kind == "body" for one in stubs),
            "granted": {one.symbol: one.why for one in granted},
            "counted": [one.symbol for one in granted if one.number >= 0],
            "ungranted": [one.symbol for one in stubs if one.number >= 0 and not one.why],
            "report": False,
            "reached": {},
        }
    summaries[image.id]["report"] |= lease.options.stubs == "report"
    return summaries[image.id]


def _numbered(lease: Lease) -> dict[int, str]:
    from anykernel.link.image import ledger

    return {one.number: one.symbol for one in ledger(lease.image) if one.number >= 0}


def merge(into: dict[str, Summary], other: dict[str, Summary]) -> None:
    """Adds what another process counted."""
    for key, summary in other.items():
        if key not in into:
            into[key] = summary
            continue
        mine = into[key]
        mine["report"] |= summary["report"]
        mine["name"] = min(mine["name"], summary["name"])
        for symbol, tests in summary["reached"].items():
            have = mine["reached"].setdefault(symbol, {})
            for test, reached in tests.items():
                have[test] = have.get(test, 0) + reached


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[OUTPUT] = session.config.stash.get(LEDGER, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of xdist has ended; one that crashed has no output."""
    found = getattr(node, "workeroutput", {}).get(OUTPUT, {})
    merge(node.config.stash.setdefault(LEDGER, {}), found)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    summaries = config.stash.get(LEDGER, {})
    if not summaries:
        return
    terminalreporter.section("stubs of kernels with some components")
    for key in sorted(summaries, key=lambda one: (summaries[one]["name"], one)):
        passed = _let_pass(summaries[key])
        for line in lines(key, summaries[key], config.get_verbosity() >= 0):
            loud = bool(passed) and line.startswith(("  ungranted", "  reached ungranted"))
            terminalreporter.write_line(line, red=loud, bold=loud)


def lines(key: str, summary: Summary, why: bool = True) -> list[str]:
    """What there is to say of one image.  why: with the reasons of its grants."""
    granted, reached = summary["granted"], summary["reached"]
    text = [
        f"{summary['name']} ({summary['release']}, image {key}): generated "
        f"{summary['generated']}, granted {len(granted)}, variants {summary['variants']}, "
        f"bodies {summary['bodies']}"
    ]
    if why:
        text += [f"  granted {symbol}: {granted[symbol]}" for symbol in sorted(granted)]
    for symbol in sorted(reached, key=lambda one: (one in granted, one)):
        kind = "" if symbol in granted else "ungranted "
        text.append(f"  reached {kind}{symbol} x {_by(reached[symbol])}")
    if unused := sorted(set(summary["counted"]) - reached.keys()):
        text.append(f"  granted, but not reached in this run: {', '.join(unused)}")
    if summary["report"]:
        count = len(_let_pass(summary))
        text.append(f"  ungranted stubs returned 0 (--kernel-stubs=report): {count} were reached")
    return text


def _let_pass(summary: Summary) -> list[str]:
    ungranted = set(summary["ungranted"])
    return [symbol for symbol in summary["reached"] if symbol in ungranted]


def _by(tests: dict[str, int]) -> str:
    """ "5 by boot, test_a (3)": most first."""
    order = sorted(tests, key=lambda one: (one != BOOT, -tests[one], one))
    named = [f"{one} ({tests[one]})" if len(tests) > 1 else one for one in order[:SHOWN]]
    if len(order) > SHOWN:
        named.append(f"{len(order) - SHOWN} more tests")
    return f"{sum(tests.values())} by {', '.join(named)}"
