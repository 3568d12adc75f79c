# SPDX-License-Identifier: GPL-2.0
"""What the environment may say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anykernel.errors import UsageError
from anykernel.settings import settings

NAMES = (
    "ANYKERNEL_CACHE",
    "ANYKERNEL_JOBS",
    "ANYKERNEL_MIRROR",
    "ANYKERNEL_HIDE",
    "CCACHE_DIR",
    "XDG_CACHE_HOME",
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> pytest.MonkeyPatch:
    """Without any of our variables; own_cache sees to it that nobody else gets these settings."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    return monkeypatch


def test_defaults(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("HOME", str(tmp_path))
    environment.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    found = settings()
    assert found.cache_dir == tmp_path / "xdg/anykernel"
    assert found.ccache_dir == found.cache_dir / "ccache"
    assert found.jobs == len(os.sched_getaffinity(0))
    assert found.mirror is None
    assert not found.cache_dir.exists(), "looking at settings makes no folder"


def test_the_user_decides(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("HOME", str(tmp_path))
    environment.setenv("ANYKERNEL_CACHE", "~/kernels")
    environment.setenv("ANYKERNEL_JOBS", "7")
    environment.setenv("ANYKERNEL_MIRROR", "file:/mirror")
    environment.setenv("CCACHE_DIR", "/ccache")
    found = settings()
    assert found.cache_dir == tmp_path / "kernels"
    assert (found.jobs, found.mirror, found.ccache_dir) == (7, "file:/mirror", Path("/ccache"))


def test_a_relative_cache_is_made_absolute(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """make runs elsewhere."""
    environment.chdir(tmp_path)
    environment.setenv("ANYKERNEL_CACHE", "here")
    assert settings().cache_dir == tmp_path / "here"


@pytest.mark.parametrize("jobs", ["0", "-1", "many", "1.5", " 2"])
def test_jobs_is_a_number(environment: pytest.MonkeyPatch, jobs: str) -> None:
    environment.setenv("ANYKERNEL_JOBS", jobs)
    with pytest.raises(UsageError, match=r"ANYKERNEL_JOBS=.*1 or more"):
        settings()
