# SPDX-License-Identifier: GPL-2.0
"""What a host may do once its sandbox has closed: privileges, limits, its parent's life."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from anykernel.build.image import Image
from anykernel.host import Host
from suites.selftest.host.conftest import MEMORY, HostFactory
from suites.selftest.host.fake import Fake
from suites.selftest.host.test_lifetime import gone_within, runs


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def limits(pid: int) -> dict[str, list[str]]:
    """Soft and hard limit by name."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:].split()[:2] for line in lines}


def test_no_capabilities_even_as_root(start: HostFactory) -> None:
    found = status(start().pid)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(found[kind], 16) == 0, kind
    if os.geteuid() == 0:
        assert int(found["CapBnd"], 16) == 0
    assert found["NoNewPrivs"] == "1"


@pytest.mark.parametrize("clock", ["virtual", "real", "network"])
def test_limits(start: HostFactory, clock: str) -> None:
    pid = start(clock=clock, kernels=2).pid
    found = limits(pid)
    assert found["Max core file size"] == ["0", "0"]
    assert found["Max processes"] == ["0", "0"]
    assert found["Max open files"] == ["0", "0"]
    assert found["Max file size"] == [str(1 << 20)] * 2
    space = int(found["Max address space"][0])
    # Where kernels boot later, they and their snapshots are to come.
    later = 2 * 32 * (MEMORY + (64 << 20)) if clock == "network" else 0
    size = int(status(pid)["VmSize"].split()[0]) << 10
    assert space <= size + later + (1 << 20)


def test_survives_the_thread_that_made_it(fake_image: Image) -> None:
    made: list[Host] = []
    thread = threading.Thread(target=lambda: made.append(Host(fake_image, memory=MEMORY)))
    thread.start()
    thread.join()
    with made[0] as host:
        time.sleep(0.6)
        assert host.alive
        assert host.instances[0].syscall(Fake.GLOBAL, 1) == 2


PARENT = """
import sys, threading, time
from pathlib import Path
from anykernel.build.image import Image
from anykernel.host import Host

library = Path(sys.argv[1])
image = Image("fake", library, library, "0.0", "fake", "fake", library, library.parent)
made = []

def make():
    made.append(Host(image, memory=16 << 20, budget=60))
    print(made[0].pid, flush=True)
    if sys.argv[2] == "busy":
        made[0].instances[0].syscall(6)

threading.Thread(target=make).start()
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_made_by_a_thread_it_dies_with_the_process(fake_image: Image, state: str) -> None:
    command = [sys.executable, "-c", PARENT, str(fake_image.library), state]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.5)
        assert runs(pid)
        parent.kill()
        assert gone_within(pid, 10)
