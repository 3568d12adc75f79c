# SPDX-License-Identifier: GPL-2.0
"""ci/bench isolation: linking parts of a kernel, loading units, calling them, and how long it takes
from an edited source file to a test's result, with KUnit on UML beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure, Goal, best, figure

if TYPE_CHECKING:
    from anykernel.build import Image

TOUCHED = "net/ipv4/tcp_input.c"
UML = "ANYKERNEL_BENCH_UML"
"""Names a UML kernel's build folder, made by tools/testing/kunit/kunit.py build."""
GOALS = {
    "link_s": Goal("link of net-ipv4, nothing cached but the kernel's objects, s", 3),
    "unit_load_ms": Goal("load of the unit tcp_cubic.c, cached, ms", 50),
    "unit_calls_host_per_s": Goal("calls of a unit's function in a batch, from the host, 1/s", 1e6),
    "unit_calls_python_per_s": Goal("calls one by one, from Python, 1/s", 20_000),
    "touch_rerun_s": Goal(f"{TOUCHED} edited: build, and one kernel test, s", None),
    "touch_rerun_unit_s": Goal("the same, and one test of it as a unit, s", None),
    "touch_rerun_kunit_s": Goal("  rival: KUnit on UML, one suite, s", None),
    "stubs_full": Goal("stubs generated: the whole kernel", 0),
}
STUBS_MOST = 20
KERNEL_TEST = """\
def test_tcp(kernel):
    server = kernel.socket()
    server.bind(("127.0.0.1", 80))
    server.listen()
    client = kernel.socket()
    client.connect(("127.0.0.1", 80))
    accepted, _ = server.accept()
    client.send(b"x")
    assert accepted.recv(1) == b"x"
"""
UNIT_TEST = """\
def test_initial_window(unit):
    tcp = unit("net/ipv4/tcp_input.c")
    sock = tcp.new("struct tcp_sock", snd_cwnd_clamp=100)
    assert tcp.tcp_init_cwnd(sock, None) == 10
"""


def link_s(image: Image) -> float:
    """In a process of its own, which reads all from the disk; the cached result is removed."""
    program = (
        "import sys, time\n"
        "started = time.perf_counter()\n"
        "from anykernel.build import ensure_image\n"
        "from anykernel.link.image import link_image\n"
        "made = link_image(ensure_image(sys.argv[1]), ['net-ipv4'])\n"
        "print(time.perf_counter() - started, made.library)\n"
    )
    least = float("inf")
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program, image.source],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, library = done.stdout.split()
        shutil.rmtree(Path(library).parent)
        least = min(least, float(seconds)) if _ else float("inf")  # the first may find it cached
    return least


class Loaded:
    """A unit in a host of its own."""

    def __init__(self, image: Image, *files: str) -> None:
        from anykernel.host import Host
        from anykernel.link.unit import Spec, link_unit
        from anykernel.unit import Unit

        made = link_unit(image, Spec(files))
        self.host = Host(made, memory=16 << 20)
        self.unit = Unit(self.host.instances[0], made, image)


def unit_load_ms(image: Image) -> float:
    def once() -> None:
        loaded = Loaded(image, "net/ipv4/tcp_cubic.c")
        assert loaded.unit.cubic_root(27) == 3
        loaded.host.close()

    return best(once, 20) * 1e3


def unit_calls_host_per_s(loaded: Loaded) -> float:
    """The same call again and again without Python in between, and its result looked at."""
    from anykernel.host.instance import LIB_SYS_CALL

    host, instance = loaded.host, loaded.unit.instance
    root = loaded.unit.cubic_root
    assert root(27) == 3
    buffer = instance.user.alloc(14 * 8)
    buffer.view[:] = (1000).to_bytes(8, "little") + bytes(13 * 8)
    bench, call = host.commands[0], host.commands[1]
    least = float("inf")
    for _ in range(20):
        bench.op, bench.args[0], bench.args[1] = host.c.HK_BENCH, 1, 10_000
        call.op, call.kernel, call.slot = host.c.HK_SYSCALL, 0, 0
        call.nr, call.timeout = LIB_SYS_CALL, 0
        call.args[0], call.args[1] = root.address, buffer.address
        host.call(2)
        assert call.status == host.c.HK_OK and buffer.view[96] == 10
        least = min(least, bench.extra)
    return 10_000 / (least / 1e9)


def unit_calls_python_per_s(loaded: Loaded) -> float:
    root = loaded.unit.cubic_root

    def once() -> None:
        for _ in range(5000):
            root(1000)

    return 5000 / best(once, 10)


def touch_rerun_s(source: Path, test: str) -> float:
    """An edited file in a user's own tree, to the result of pytest; the median of three."""
    text = (source / TOUCHED).read_text()
    taken = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_it.py").write_text(test)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        for turn in range(4):
            (source / TOUCHED).write_text(f"{text}\n/* {time.time_ns()} */\n")
            started = time.perf_counter()
            done = subprocess.run(
                [*command, f"--kernel-source={source}", str(folder)],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise RuntimeError(f"pytest failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            if turn:  # the first may have built the whole kernel
                taken.append(time.perf_counter() - started)
    return sorted(taken)[1]


def own_tree(image: Image, source: str) -> Path:
    """A user's folder: the pristine source in hard links, but for one file that is edited.

    It stays, and so does its build: the next run needs minutes less.
    """
    from anykernel import cache
    from anykernel.source import fetch

    pristine = fetch(source).path
    tree = cache.directory("bench") / image.release
    if not (tree / "Makefile").exists():
        shutil.copytree(pristine, tree, copy_function=os.link, symlinks=True)
        (tree / TOUCHED).unlink()
    shutil.copyfile(pristine / TOUCHED, tree / TOUCHED)
    return tree


def kunit_s() -> tuple[float | None, str]:
    """KUnit's own way, where somebody built it: edit the file, and `kunit.py run` of one suite; the
    median of three."""
    named = os.environ.get(UML)
    if not named:
        return None, f"no UML kernel with KUnit was built; {UML} names its build folder"
    build = Path(named)
    tree = (build / "source").resolve()
    text = (tree / TOUCHED).read_text()
    jobs = str(len(os.sched_getaffinity(0)))
    kunit = [sys.executable, "tools/testing/kunit/kunit.py", "run", "--arch", "um"]
    kunit += [f"--build_dir={build}", "--jobs", jobs, "list-kunit-test"]
    taken = []
    try:
        for turn in range(4):
            (tree / TOUCHED).write_text(f"{text}\n/* {time.time_ns()} */\n")
            started = time.perf_counter()
            done = subprocess.run(kunit, cwd=tree, capture_output=True, stdin=subprocess.DEVNULL)
            if done.returncode or b"Testing complete" not in done.stdout:
                return None, "KUnit on UML fails: " + done.stdout.decode(errors="replace")[-200:]
            if turn:
                taken.append(time.perf_counter() - started)
    finally:
        (tree / TOUCHED).write_text(text)
    return sorted(taken)[1], ""


def stubs(image: Image) -> dict[str, float]:
    """How many stubs each named image has that the generator made."""
    from anykernel.link.image import ledger, link_image
    from anykernel.link.policy import load

    found = {"stubs_full": float(sum(stub.generated for stub in ledger(image)))}
    for name in load().images:
        made = link_image(image, [name])
        key = f"stubs_{name}"
        found[key] = float(sum(stub.generated for stub in ledger(made)))
    return found


def measure_all(source: str, say: Callable[[str], None]) -> list[Figure]:
    """All figures of ``ci/bench isolation``."""
    from anykernel.build import ensure_image

    image = ensure_image(source)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    goals = dict(GOALS)

    def measure(key: str, action: Callable[[], float]) -> None:
        say(GOALS[key].what.strip())
        values[key] = action()

    measure("link_s", lambda: link_s(image))
    measure("unit_load_ms", lambda: unit_load_ms(image))
    loaded = Loaded(image, "net/ipv4/tcp_cubic.c")
    try:
        measure("unit_calls_host_per_s", lambda: unit_calls_host_per_s(loaded))
        measure("unit_calls_python_per_s", lambda: unit_calls_python_per_s(loaded))
    finally:
        loaded.host.close()
    tree = own_tree(image, source)
    measure("touch_rerun_s", lambda: touch_rerun_s(tree, KERNEL_TEST))
    measure("touch_rerun_unit_s", lambda: touch_rerun_s(tree, UNIT_TEST))
    say(GOALS["touch_rerun_kunit_s"].what.strip())
    values["touch_rerun_kunit_s"], reasons["touch_rerun_kunit_s"] = kunit_s()
    rival = values["touch_rerun_kunit_s"]
    if rival:  # a third of its time
        for key in ("touch_rerun_s", "touch_rerun_unit_s"):
            goals[key] = replace(goals[key], limit=rival / 3)
    say("stubs")
    counted = stubs(image)
    for key, count in counted.items():
        values[key] = count
        network = "net" in key
        limit = STUBS_MOST if network else None
        goals.setdefault(key, Goal(f"stubs generated: {key.removeprefix('stubs_')}", limit))
    return [figure(key, goal, values, reasons) for key, goal in goals.items()]
