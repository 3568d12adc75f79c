# SPDX-License-Identifier: GPL-2.0
"""The host process: its start and its end, whoever brings it about."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from anykernel.build.image import Image
from anykernel.cache import Damaged
from anykernel.errors import HostDied, UsageError
from anykernel.host import Host
from suites.selftest.host.conftest import MEMORY, HostFactory
from suites.selftest.host.fake import Fake


def exists(pid: int) -> bool:
    """Also true of a zombie."""
    return Path(f"/proc/{pid}").exists()


def runs(pid: int) -> bool:
    """False of a zombie, too: whose orphan it is, init, takes its time to wait for it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while runs(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def test_close(start: HostFactory) -> None:
    host = start()
    pid = host.pid
    assert exists(pid)
    host.close()
    assert not host.alive
    assert not exists(pid), "closed, and its process was waited for"
    host.close()


def test_context_manager(fake_image: Image) -> None:
    with Host(fake_image, memory=MEMORY) as host:
        pid = host.pid
    assert not exists(pid)


def test_use_after_close(start: HostFactory) -> None:
    host = start()
    instance = host.instances[0]
    host.close()
    with pytest.raises(HostDied):
        instance.syscall(Fake.GLOBAL, 1)


def test_killed_between_calls(start: HostFactory) -> None:
    host = start()
    os.kill(host.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(HostDied, match="SIGKILL"):
        host.instances[0].syscall(Fake.GLOBAL, 1)
    assert time.monotonic() - began < 1
    assert not host.alive


def test_killed_in_the_middle(start: HostFactory) -> None:
    host = start(budget=60)
    pid = host.pid
    timer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    timer.start()
    began = time.monotonic()
    with pytest.raises(HostDied, match="SIGKILL"):
        host.instances[0].syscall(Fake.SPIN)
    assert time.monotonic() - began < 1.2
    assert not host.alive
    assert not exists(pid), "no zombie is left"
    timer.join()


PARENT = """
import sys, time
from pathlib import Path
from anykernel.build.image import Image
from anykernel.host import Host

library = Path(sys.argv[1])
image = Image("fake", library, library, "0.0", "fake", "fake", library, library.parent)
host = Host(image, memory=16 << 20)
print(host.pid, flush=True)
if sys.argv[2] == "busy":
    host.instances[0].syscall(6)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_dies_with_its_parent(fake_image: Image, state: str) -> None:
    command = [sys.executable, "-c", PARENT, str(fake_image.library), state]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert exists(pid)
        time.sleep(0.1)
        parent.kill()
        assert gone_within(pid, 1)


def test_interrupt_is_pythons(start: HostFactory) -> None:
    """Ctrl-C goes to the whole terminal group; the host is not in it."""
    host = start()
    assert os.getpgid(host.pid) != os.getpgid(0)


def test_no_core_no_privileges(start: HostFactory) -> None:
    pid = start().pid
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Threads"] == "1"
    limits = Path(f"/proc/{pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core"))
    assert core.split()[4:6] == ["0", "0"]


def test_no_files_but_its_log(start: HostFactory) -> None:
    pid = start().pid
    open_files = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert open_files <= {0, 1, 2}


def test_environment_stays_outside(start: HostFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_USER", "hidden")
    pid = start().pid
    assert b"SECRET_OF_THE_USER" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"memory": 1 << 20},
        {"memory": (16 << 20) + 4096},
        {"memory": 0},
        {"clock": "atomic"},
        {"kernels": 0},
        {"kernels": -1},
    ],
    ids=str,
)
def test_wrong_options(start: HostFactory, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        start(**options)


@pytest.mark.parametrize(
    "content", [b"", b"no library", b"\x7fELF" + b"\0" * 8192], ids=["empty", "text", "zeros"]
)
def test_damaged_library(fake_image: Image, tmp_path: Path, content: bytes) -> None:
    library = tmp_path / "liblinux.so"
    library.write_bytes(content)
    with pytest.raises(HostDied):
        Host(replace(fake_image, library=library), memory=MEMORY)


def test_cut_off_library(fake_image: Image, tmp_path: Path) -> None:
    library = tmp_path / "liblinux.so"
    whole = fake_image.library.read_bytes()
    for size in range(0, len(whole), len(whole) // 8):
        library.write_bytes(whole[:size])
        try:
            Host(replace(fake_image, library=library), memory=MEMORY).close()
        except HostDied:
            continue
        assert size > 0x1100, "what is loaded was all there"


def test_missing_library(fake_image: Image, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=r"none\.so is missing"):
        Host(replace(fake_image, library=tmp_path / "none.so"), memory=MEMORY)


def test_many_hosts(start: HostFactory) -> None:
    hosts = [start() for _ in range(8)]
    assert [host.instances[0].syscall(Fake.GLOBAL, n) for n, host in enumerate(hosts)] == [
        1 + n for n in range(8)
    ]
