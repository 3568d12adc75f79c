# SPDX-License-Identifier: GPL-2.0
"""A debugger's user takes his time: no budget counts while one is attached."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from anykernel.errors import KernelCrash
from suites.selftest.host.conftest import HostFactory
from suites.selftest.host.fake import Fake

TRACER = """
import ctypes, os, sys, time

SEIZE, INTERRUPT, DETACH, CONT = 0x4206, 0x4207, 17, 7
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
pid = int(sys.argv[1])
if ptrace(SEIZE, pid, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
print("seized", flush=True)
sys.stdin.readline()
end = time.monotonic() + 0.7
while time.monotonic() < end:  # it runs, and has its signals
    found, status = os.waitpid(pid, 0x40000000 | os.WNOHANG)
    if found:
        ptrace(CONT, pid, 0, os.WSTOPSIG(status))
    time.sleep(0.01)
ptrace(INTERRUPT, pid, 0, 0)
os.waitpid(pid, 0x40000000)
time.sleep(0.7)  # it stands
print(time.monotonic(), flush=True)
ptrace(DETACH, pid, 0, 0)
"""


def test_a_lockup_is_one_when_the_debugger_has_gone(start: HostFactory) -> None:
    host = start(budget=0.1)
    with subprocess.Popen(
        [sys.executable, "-c", TRACER, str(host.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tracer:
        assert tracer.stdout is not None and tracer.stdin is not None
        assert tracer.stdout.readline() == "seized\n"
        tracer.stdin.write("\n")
        tracer.stdin.flush()
        with pytest.raises(KernelCrash) as caught:
            host.instances[0].syscall(Fake.SPIN)
        ended = time.monotonic()
        assert ended > float(tracer.stdout.readline())
    assert caught.value.report.kind == "lockup"
