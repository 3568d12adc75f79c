# SPDX-License-Identifier: GPL-2.0
"""ci/bench kernel: booting, restoring, packets, tests, memory, with AF_PACKET over veth beside."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure, Goal, best, figure
from rivals import echo_request

if TYPE_CHECKING:
    from anykernel.build.image import Image
    from anykernel.host import Host, Instance

HERE = Path(__file__).resolve().parent
MAC = bytes.fromhex("020000000001")
PEER = bytes.fromhex("020000000002")

GOALS = {
    "boot_ms": Goal("cold boot in a fresh host process, ms", 10),
    "restore_ping_us": Goal("restore after a ping, us", 10),
    "restore_handshake_us": Goal("restore after a TCP handshake, us", 20),
    "echo_batch_host_per_s": Goal("ICMP echo in batches, from the host, 1/s", 500_000),
    "echo_batch_python_per_s": Goal("ICMP echo in batches, from Python, 1/s", 100_000),
    "echo_single_python_per_s": Goal("ICMP echo one at a time, from Python, 1/s", None),
    "veth_single_python_per_s": Goal("  rival: AF_PACKET over veth, both ends Python, 1/s", None),
    "veth_icmp_python_per_s": Goal("  rival: AF_PACKET to the host's own ICMP, 1/s", None),
    "test_overhead_ms": Goal("a kernel test over an empty test, ms", 1),
    "rss_per_kernel_mib": Goal("resident memory of a further kernel, booted, MiB", 8),
    "pss_per_kernel_mib": Goal("  its share (PSS) after pings, MiB", 8),
}


def boot_ms(image: Image) -> float:
    from anykernel.host import Host

    least = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        host = Host(image)
        least = min(least, time.perf_counter() - started)
        host.close()
    return least * 1e3


class Wired:
    """A booted kernel with eth0 up as 10.9.0.1 and a peer 10.9.0.2."""

    def __init__(self, host: Host, image: Image, index: int = 0) -> None:
        from anykernel.kernel import Kernel

        self.instance: Instance = host.instances[index]
        self.kernel = Kernel(self.instance, image)
        self.eth0 = self.kernel.add_netdev("eth0", mac=MAC, addresses=["10.9.0.1/24"])
        self.eth0.add_neighbour("10.9.0.2", PEER)
        self.kernel.clock.advance(5)
        self.ping = echo_request(PEER, MAC, "10.9.0.2", "10.9.0.1")
        answers = self.eth0.exchange([self.ping] * 3)
        assert [len(answer) for answer in answers] == [1, 1, 1], "the kernel must answer a ping"


def restore_us(wired: Wired, disturb: Callable[[], object]) -> float:
    snapshot = wired.instance.snapshot()
    least = float("inf")
    for _ in range(2000):
        disturb()
        started = time.perf_counter()
        wired.instance.restore(snapshot)
        least = min(least, time.perf_counter() - started)
    return least * 1e6


def handshake(wired: Wired) -> Callable[[], None]:
    """Makes a listener; the result does a three-way handshake with it."""
    import socket

    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    listener = wired.kernel.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("10.9.0.1", 80))
    listener.listen(5)

    def segment(**fields: object) -> bytes:
        tcp = TCP(sport=4000, dport=80, window=65_535, **fields)
        packet = Ether(src=PEER, dst=MAC) / IP(src="10.9.0.2", dst="10.9.0.1") / tcp
        return bytes(packet)

    syn = segment(flags="S", seq=1000)
    snapshot = wired.instance.snapshot()
    ((answer,),) = wired.eth0.exchange([syn])
    # The sequence number is the same each time: the kernel is restored in between.
    ack = segment(flags="A", seq=1001, ack=Ether(answer)[TCP].seq + 1)
    wired.instance.restore(snapshot)

    def shake() -> None:
        wired.eth0.inject(syn)
        wired.eth0.inject(ack)

    return shake


def batch_host_per_s(host: Host, wired: Wired) -> float:
    """The same batch again and again, without Python in between; every echo is answered."""
    wired.instance.exchange(wired.eth0.dev, [wired.ping] * 256)  # leaves the frames in place
    bench, exchange = host.commands[0], host.commands[1]
    least = float("inf")
    for _ in range(20):
        bench.op, bench.args[0], bench.args[1] = host.c.HK_BENCH, 1, 40
        exchange.op, exchange.slot = host.c.HK_EXCHANGE, wired.eth0.dev
        exchange.kernel = wired.instance.index
        exchange.args[0], exchange.args[1], exchange.args[2] = 0, 256, 0
        host.call(2)
        assert exchange.status == host.c.HK_OK
        least = min(least, bench.extra)
    return 40 * 256 / (least / 1e9)


def batch_python_per_s(wired: Wired) -> float:
    batch = [wired.ping] * 256

    def once() -> None:
        answers = wired.instance.exchange(wired.eth0.dev, batch)
        assert len(answers) == 256

    return 256 / best(once, 200)


def single_python_per_s(wired: Wired) -> float:
    batch = [wired.ping]

    def once() -> None:
        for _ in range(1000):
            ((_answer,),) = wired.instance.exchange(wired.eth0.dev, batch)

    return 1000 / best(once, 20)


def test_overhead_ms(source: str) -> float:
    """Median time of a test with a kernel less that of one without, in one pytest run."""
    count = 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_it.py").write_text(
            "import pytest\n"
            f"@pytest.mark.parametrize('n', range({count}))\n"
            "def test_kernel(kernel, n): pass\n"
            f"@pytest.mark.parametrize('n', range({count}))\n"
            "def test_empty(n): pass\n"
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--kernel-source={source}", str(folder)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pytest failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        medians = json.loads((folder / "medians.json").read_text())
    return float(medians["kernel"] - medians["empty"]) * 1e3


CONFTEST = """
import json, pathlib, statistics, time, pytest

times = {"kernel": [], "empty": []}

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    started = time.perf_counter()
    result = yield
    times["kernel" if "test_kernel" in item.name else "empty"].append(time.perf_counter() - started)
    return result

def pytest_sessionfinish():
    text = json.dumps({name: statistics.median(values) for name, values in times.items()})
    pathlib.Path(__file__).with_name("medians.json").write_text(text)
"""


def memory_mib(image: Image, *, what: str, pinged: bool) -> float:
    """Memory of a host with nine kernels less that of one with one, by eight.

    what: "Rss" counts the code that kernels share for each of them, "Pss" once.
    """
    from anykernel.host import Host

    def memory(kernels: int) -> int:
        host = Host(image, kernels=kernels)
        try:
            for index in range(kernels if pinged else 0):
                Wired(host, image, index)
            rollup = Path(f"/proc/{host.pid}/smaps_rollup").read_text()
        finally:
            host.close()
        line = next(line for line in rollup.splitlines() if line.startswith(f"{what}:"))
        return int(line.split()[1])

    return (memory(9) - memory(1)) / 8 / 1024


def rivals() -> dict[str, tuple[float | None, str]]:
    """Rates by key, or None with the reason."""
    done = subprocess.run(
        [sys.executable, str(HERE / "rivals.py"), "2"], capture_output=True, text=True, timeout=60
    )
    keys = {"veth_single_python_per_s": "loop_per_s", "veth_icmp_python_per_s": "icmp_per_s"}
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = {"reason": done.stderr.strip().splitlines()[-1:] or f"exit {done.returncode}"}
    return {key: (found.get(name), str(found.get("reason", ""))) for key, name in keys.items()}


def measure_all(source: str, say: Callable[[str], None]) -> list[Figure]:
    """All figures of ``ci/bench kernel``."""
    from anykernel.build import ensure_image
    from anykernel.host import Host

    image = ensure_image(source)
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}

    def measure(key: str, action: Callable[[], float]) -> None:
        say(GOALS[key].what.strip())
        values[key] = action()

    measure("boot_ms", lambda: boot_ms(image))
    host = Host(image)
    try:
        wired = Wired(host, image)
        measure("restore_ping_us", lambda: restore_us(wired, lambda: wired.eth0.inject(wired.ping)))
        measure("echo_batch_host_per_s", lambda: batch_host_per_s(host, wired))
        measure("echo_batch_python_per_s", lambda: batch_python_per_s(wired))
        measure("echo_single_python_per_s", lambda: single_python_per_s(wired))
        say("rivals")
        for key, (rate, reason) in rivals().items():
            values[key], reasons[key] = rate, reason
        shake = handshake(wired)
        measure("restore_handshake_us", lambda: restore_us(wired, shake))
    finally:
        host.close()
    measure("test_overhead_ms", lambda: test_overhead_ms(source))
    measure("rss_per_kernel_mib", lambda: memory_mib(image, what="Rss", pinged=False))
    measure("pss_per_kernel_mib", lambda: memory_mib(image, what="Pss", pinged=True))
    # The goal of single packets is what the rival does in the same run.
    rival = values.get("veth_single_python_per_s")
    goals = {**GOALS}
    single = "echo_single_python_per_s"
    goals[single] = replace(goals[single], limit=rival)
    return [figure(key, goal, values, reasons) for key, goal in goals.items()]
