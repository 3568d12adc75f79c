# SPDX-License-Identifier: GPL-2.0
"""The command that runs one test again, pasted in any folder: same test, kernel, seeds, options."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anykernel.plugin import options as opts

# What doesn't change a verdict: which tests, in which order, on how many workers, and what is
# printed of them.  All else that was given is given again, so that options of other plugins are.
FLAGS = frozenset({
    "--cache-clear", "--co", "--collect-only", "--continue-on-collection-errors",
    "--disable-warnings", "--exitfirst", "--failed-first", "--ff", "--force-short-summary",
    "--full-trace", "--fulltrace", "--keep-duplicates", "--kernel-gdb", "--kernel-log-live",
    "--last-failed", "--lf", "--new-first", "--nf", "--no-cov", "--no-fold-skipped",
    "--no-header", "--no-showlocals", "--no-summary", "--pdb", "--quiet", "--setup-only",
    "--setup-plan", "--setup-show", "--showlocals", "--stepwise", "--stepwise-reset",
    "--stepwise-skip", "--sw", "--sw-reset", "--sw-skip", "--trace", "--verbose", "--xfail-tb",
    "--hypothesis-show-statistics", "--disable-pytest-warnings",
})  # fmt: skip
VALUED = frozenset({
    "--basetemp", "--capture", "--code-highlight", "--color", "--config-file", "--cov",
    "--cov-config", "--cov-fail-under", "--cov-report", "--debug", "--deselect", "--dist",
    "--durations", "--durations-min", "--hypothesis-seed", "--hypothesis-verbosity", "--ignore",
    "--ignore-glob", "--junit-prefix", "--junit-xml", "--junitprefix", "--junitxml",
    "--last-failed-no-failures", "--lfnf", "--log-file", "--log-file-level",
    "--max-worker-restart", "--maxfail", "--maxprocesses", "--maxschedchunk", "--numprocesses",
    "--pastebin", "--report-log", "--rootdir", "--show-capture", "--tb", "--testrunuid", "--tx",
    "--verbosity", "-c", "-k", "-n", "-r", "--kernel-source", "--kernel-flavour",
    "--kernel-config", "--kernel-seed", "--kernel-components", "--kernel-stubs",
})  # fmt: skip
OF_SUITE = ("--kernel-source=", "--kernel-flavour=", "--kernel-config=")
"""What `anykernel suite` takes, as --source= and so on."""
SHORT = re.compile(r"-[dfhlqsvx]+|-[cknr].+")
"""Short ones that are given together (-xvs), or with their value (-n2)."""
PROFILES = ("default", None)
"""Of Hypothesis: what a run has that asks for none."""


def command(item: pytest.Item, options: opts.KernelOptions) -> str:
    """For a shell.  `options` are those of the test's kernel."""
    from anykernel.places import SUITES

    rest = _rest(item)
    path = Path(item.path).resolve()
    source, flavour = absolute(options.source), _flavour(options.flavour)
    kernel = replace(options, source=source, flavour=flavour).replay()
    kept = [*_given(item.config), *_hypothesis(item)]
    if str(path).startswith(SUITES):
        suite, *inner = path.relative_to(SUITES).parts
        ours = [one for one in kernel if one.startswith(OF_SUITE)]
        words = ["anykernel", "suite", suite, *(one.replace("kernel-", "", 1) for one in ours)]
        words += ["--", "/".join(inner) + rest, *(one for one in kernel if one not in ours), *kept]
    else:
        words = ["pytest", *_root(item.config), f"{path}{rest}", *kernel, *kept]
    return shlex.join(words)


def absolute(source: str) -> str:
    """A specification of a kernel's source that is good in any folder."""
    if source.startswith("git:"):
        folder, at, revision = source.removeprefix("git:").rpartition("@")
        return f"git:{Path(folder).expanduser().resolve()}{at}{revision}" if at else source
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def _flavour(flavour: str) -> str:
    """One that is a file, so that it is good in any folder."""
    path = Path(flavour).expanduser()
    return str(path.resolve()) if path.suffix == ".config" else flavour


def _rest(item: pytest.Item) -> str:
    """Of its node ID, what follows the file."""
    _, colons, rest = item.nodeid.partition("::")
    if item.get_closest_marker("xdist_group") and getattr(item.config.option, "loadgroup", False):
        rest = rest.rpartition("@")[0]  # xdist has put the group there
    return colons + rest


def _root(config: pytest.Config) -> list[str]:
    """So that pytest finds the same ini file, and calls tests the same, wherever it is started."""
    given = getattr(config.option, "rootdir", None)
    words = ["-c", str(config.inipath)] if config.inipath else []
    if given or not words:
        words.append(f"--rootdir={config.rootpath}")
    return words


def _given(config: pytest.Config) -> Iterator[str]:
    """The options of this run that may matter."""
    arguments = _arguments(config)
    files = {str(one) for one in getattr(config.option, "file_or_dir", None) or ()}
    skip = False
    for position, argument in enumerate(arguments):
        if argument == "--":
            return
        name, equals, _ = argument.partition("=")
        if skip or argument in files or name in FLAGS or SHORT.fullmatch(argument):
            skip = False
        elif name in VALUED:
            skip = not equals
        elif argument.startswith("-") or (position and arguments[position - 1].startswith("-")):
            yield argument


def _arguments(config: pytest.Config) -> Sequence[str]:
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:  # of xdist: it was started by another process
        return [str(one) for one in worker.get("mainargv", sys.argv)[1:]]
    return [str(one) for one in config.invocation_params.args]


def _hypothesis(item: pytest.Item) -> Iterator[str]:
    """Its seed, which it may have chosen itself, and the profile that was loaded for it."""
    if "hypothesis" not in sys.modules:
        return
    seed = item.config.getoption("hypothesis_seed", None)
    if seed is None:
        test = getattr(item, "obj", None)
        seed = getattr(test, "_hypothesis_internal_use_generated_seed", None)
    if seed is not None:
        yield f"--hypothesis-seed={seed}"
    from hypothesis import settings

    profile = getattr(settings, "_current_profile", None)
    if profile not in PROFILES and not item.config.getoption("hypothesis_profile", None):
        yield f"--hypothesis-profile={profile}"
