# SPDX-License-Identifier: GPL-2.0
"""Programs side by side: order, waiting, errors, ends; what never ends is told."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from anykernel.errors import Deadlock, UsageError
from anykernel.kernel import Kernel
from anykernel.net import Unfinished, programs
from anykernel.net.running import QUIET_NS
from suites.selftest.net.raw import gaps, mute

if TYPE_CHECKING:
    from anykernel.kernel.process import Process
    from anykernel.net import Network
    from anykernel.net.node import Node


def two(network: Network, **options: Any) -> list[Node]:
    nodes = mute(network, "a", "b")
    network.link(*nodes, addresses=("10.0.0.1/24", "10.0.0.2/24"), **options)
    for node, peer in (nodes, nodes[::-1]):
        mac = peer.ports[0].netdev.mac
        node.ports[0].netdev.add_neighbour(peer.ports[0].addresses[0][:-3], mac)
    return nodes


def receiver(process: Process, port: int = 7) -> Any:
    sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    return sock


def test_turns_go_by_time_then_by_beginning(network: Network) -> None:
    (a,) = mute(network, "a")
    order: list[tuple[int, int]] = []

    def program(_: Process, number: int) -> None:
        for step in range(3):
            order.append((number, step))
            network.sleep(0.1 if number != 1 else 0.05)

    for number in range(3):
        network.start(program, number, on=a)
    network.run()
    assert order == [
        (0, 0), (1, 0), (2, 0), (1, 1), (0, 1), (2, 1), (1, 2), (0, 2), (2, 2),
    ]  # fmt: skip


def test_at_and_run_in_parts(network: Network) -> None:
    (a,) = mute(network, "a")
    begin = network.now
    made = network.start(lambda _: network.now, on=a, at=3.5, name="late")
    assert "late" in repr(made)
    network.run(2.4999)
    assert network.now == begin + 2_499_900_000
    with pytest.raises(UsageError, match="late has not ended"):
        _ = made.result
    network.run(0.0001)
    assert made.result == 3_500_000_000
    assert (made.started_ns, made.ended_ns) == (3_500_000_000, 3_500_000_000)
    with pytest.raises(UsageError, match=r"at=1: it is 3\.5 s already"):
        network.start(lambda _: None, on=a, at=1)
    with pytest.raises(UsageError, match="can't go back"):
        network.run(-1)


def test_a_timeout_at_the_very_moment_of_the_datagram(network: Network) -> None:
    """The call is over once, and the next waits as long as it says."""
    a, b = two(network, delay=1)

    def server(process: Process) -> tuple[bytes, float, float]:
        sock = receiver(process)
        sock.settimeout(1.0)
        got = sock.recv(10)
        then = network.seconds
        network.sleep(5)
        return got, then, network.seconds

    def client(process: Process) -> None:
        with process.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("10.0.0.2", 7))

    begin = network.seconds
    program = network.start(server, on=b)
    network.start(client, on=a)
    network.run()
    assert program.result == (b"x", begin + 1, begin + 6)


def test_timeouts_are_virtual_and_exact(network: Network) -> None:
    _, b = two(network)

    def server(process: Process) -> list[int]:
        sock = receiver(process)
        times = [network.now]
        for timeout in (1e-9, 0.25, 3600.0, 7200.0):
            sock.settimeout(timeout)
            with pytest.raises(TimeoutError):
                sock.recv(10)
            times.append(network.now)
        return times

    program = network.start(server, on=b)
    network.run()
    times = program.result
    assert gaps(times) == [1, 250_000_000, 3600 * 10**9, 7200 * 10**9]


def test_long_sleeps_are_no_deadlock(network: Network) -> None:
    a, _ = two(network)
    begin = network.now
    network.start(lambda _: network.sleep(80_000), on=a)
    network.run(budget=20)
    assert network.now == begin + 80_000 * 10**9


def test_an_error_says_where_it_was(network: Network) -> None:
    a, _ = two(network)

    def fails(_: Process) -> None:
        network.sleep(0.5)
        raise ZeroDivisionError("on purpose")

    def other(_: Process) -> str:
        network.sleep(1)
        return "went on"

    program, beside = network.start(fails, on=a), network.start(other, on=a)
    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        network.run()
    assert caught.value.__notes__ == ["in program fails on node a, 1.500000000 s"]
    with pytest.raises(ZeroDivisionError):
        _ = program.result
    network.run()
    assert beside.result == "went on"


def test_join_gives_the_result_or_the_error(network: Network) -> None:
    a, _ = two(network)

    def worker(_: Process, fails: bool) -> int:
        network.sleep(2)
        if fails:
            raise KeyError("worker")
        return 42

    def waiter(_: Process) -> tuple[int, float]:
        return good.join(), network.seconds

    def catcher(_: Process) -> str:
        try:
            bad.join()
        except KeyError as error:
            return str(error)
        return "nothing"

    begin = network.seconds
    good, bad = network.start(worker, False, on=a), network.start(worker, True, on=a)
    waits, catches = network.start(waiter, on=a), network.start(catcher, on=a)
    with pytest.raises(KeyError):
        network.run()
    network.run()
    assert waits.result == (42, begin + 2) and catches.result == "'worker'"
    assert good.join() == 42  # it has ended: nobody has to wait
    third = network.start(worker, False, on=a)
    with pytest.raises(UsageError, match="only a program"):
        third.join()


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_stopped_frees_what_it_held(network: Network, begun: bool) -> None:
    a, b = two(network)

    def server(process: Process) -> bytes:
        return bytes(receiver(process).recv(10))

    first = network.start(server, on=b, name="first")
    pid = first.process.os.getpid()
    if begun:
        network.run(1)
    first.stop()
    first.stop()
    assert first.done
    with pytest.raises(InterruptedError, match="first was stopped"):
        _ = first.result
    assert b.os.waitpid(pid)[0] == pid
    second = network.start(server, on=b)  # its port is free
    network.start(
        lambda process: process.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
            b"x", ("10.0.0.2", 7)
        ),
        on=a,
    )
    network.run()
    assert second.result == b"x"


def test_what_is_stopped_may_tidy_up(network: Network) -> None:
    a, _ = two(network)
    said = []

    def tidy(process: Process) -> None:
        with receiver(process):
            try:
                network.sleep(100)
            finally:
                said.append(network.seconds)

    def waiter(_: Process) -> str:
        with pytest.raises(InterruptedError):
            program.join()
        return "told"

    program = network.start(tidy, on=a)
    waits = network.start(waiter, on=a)
    network.run(1)
    program.stop()
    network.run()
    assert said == [2.0] and waits.result == "told"


def test_daemons_are_not_waited_for(network: Network) -> None:
    a, _ = two(network)
    ticks = []

    def daemon(_: Process) -> None:
        while True:
            ticks.append(network.seconds)
            network.sleep(1)

    network.start(daemon, on=a, daemon=True)
    network.start(lambda _: network.sleep(2.5), on=a)
    network.run()
    assert ticks == [1.0, 2.0, 3.0]
    network.run()  # nobody else: at once
    assert network.seconds == 3.5


def test_a_process_has_one_call_at_a_time(network: Network) -> None:
    _, b = two(network)

    def server(process: Process) -> bytes:
        return bytes(receiver(process).recv(10))

    def thief(_: Process) -> None:
        blocked.process.os.getpid()

    blocked = network.start(server, on=b)
    network.start(thief, on=b)
    with pytest.raises(UsageError, match="thief uses a process of server, which is in a call"):
        network.run()
    with pytest.raises(UsageError, match="the test uses a process of server, which is in a call"):
        blocked.process.os.getpid()
    assert not blocked.done


def test_programs_use_all_that_processes_have(network: Network) -> None:
    from pyroute2 import IPRoute

    a, _ = two(network)

    def child(process: Process, name: str) -> None:
        process.write_text(f"/tmp/{name}", name.upper())
        process.os.mkdir(f"/tmp/{name}.d")

    def parent(process: Process) -> tuple[str, list[str], str]:
        programs = [network.launch(child, process.fork(), a, name, name) for name in ("one", "two")]
        for program in programs:
            program.join()
        read, write = process.os.pipe()
        other = process.fork()
        network.launch(lambda own: own.os.write(write, b"through"), other, a, "writer")
        got = process.os.read(read, 100)
        with process.netlink(IPRoute) as ip:
            names = [link.get_attr("IFLA_IFNAME") for link in ip.get_links()]
        return got.decode(), sorted(process.os.listdir("/tmp")), names[-1]

    program = network.start(parent, on=a)
    network.run()
    assert program.result == ("through", ["one", "one.d", "two", "two.d"], "eth0")


def test_two_hundred_programs(network: Network) -> None:
    a, b = two(network, rate="100Mbit")

    def server(process: Process) -> int:
        sock = receiver(process)
        return sum(int(sock.recv(10)) for _ in range(200))

    def client(process: Process, number: int) -> None:
        network.sleep(number % 7 * 1e-3)
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.sendto(b"%d" % number, ("10.0.0.2", 7))

    program = network.start(server, on=b)
    for number in range(200):
        network.start(client, number, on=a)
    network.run()
    assert program.result == sum(range(200))


def test_a_deadlock_says_who_waits_for_what(network: Network) -> None:
    a, b = two(network)
    (link,) = network.links

    def server(process: Process) -> None:
        receiver(process).recv(10)

    def joins(_: Process) -> None:
        waits.join()

    waits = network.start(server, on=b)
    network.start(joins, on=a)
    network.start(lambda process: receiver(process).recv(1), on=a, daemon=True, name="beside")
    link.down()
    begin = network.now
    with pytest.raises(Deadlock) as caught:
        network.run()
    text = str(caught.value)
    assert "2 programs wait" in text
    assert (
        "server on b: recvfrom(fd 0), AF_INET SOCK_DGRAM socket 0.0.0.0:7, since 1.000000 s" in text
    )
    assert "joins on a: the end of server" in text
    assert "beside on a: recvfrom" in text and "link a-b is down" in text
    assert network.now - begin >= QUIET_NS
    waits.stop()
    with pytest.raises(InterruptedError, match="server was stopped"):
        network.run()  # which is what joins got


def test_limit_and_budget(network: Network) -> None:
    a, _ = two(network)

    def ticks(_: Process) -> None:
        while True:
            network.sleep(1e-3)

    network.start(ticks, on=a)
    begin = network.now
    with pytest.raises(Unfinished, match=r"not ended after 3\.5 s:\n  ticks on a: sleep") as one:
        network.run(limit=3.5)
    assert network.now == begin + 3_500_000_000 and isinstance(one.value, TimeoutError)
    with pytest.raises(Unfinished, match=r"within the budget of 0\.1 s of the wall clock"):
        network.run(budget=0.1)
    with pytest.raises(Unfinished, match="wall clock"):
        network.run(50_000, budget=0.1)


@pytest.mark.parametrize("how", ["sleeps", "calls", "passes"])
def test_who_spins_is_stopped(network: Network, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SPINNING", 500)
    a, _ = two(network)

    def spins(process: Process) -> None:
        sock = receiver(process)
        sock.setblocking(False)
        while True:
            if how == "sleeps":
                network.sleep(0)
            elif how == "calls":
                with pytest.raises(BlockingIOError):
                    sock.recv(10)
            else:
                process.os.getpid()

    def good(process: Process) -> str:
        for _ in range(400):
            process.os.getpid()
            network.sleep(1e-6)
            process.os.getpid()
        return "done"

    beside = network.start(good, on=a)
    bad = network.start(spins, on=a, at=network.seconds + 5)
    with pytest.raises(Deadlock, match="spins on a never ends: 500 calls, and no time passes"):
        network.run()
    assert bad.done
    network.run()
    assert beside.result == "done"


def test_a_program_is_no_place_to_run_or_stop_others(network: Network) -> None:
    a, _ = two(network)

    def runs(_: Process) -> None:
        network.run(1)

    def stops(_: Process) -> None:
        waits.stop()

    waits = network.start(lambda _: network.sleep(10), on=a)
    network.start(runs, on=a)
    with pytest.raises(UsageError, match="can't run the network"):
        network.run()
    network.start(stops, on=a)
    with pytest.raises(UsageError, match="can't stop another"):
        network.run()


def test_the_test_itself_is_a_client(network: Network) -> None:
    """A blocking call of the test lets programs take their turns."""
    a, b = network.chain(2, delay="10ms")
    network.address()

    def server(process: Process) -> None:
        listener = process.socket()
        listener.bind(("0.0.0.0", 80))
        listener.listen()
        connection, _ = listener.accept()
        network.sleep(0.5)
        connection.sendall(connection.recv(100).upper())

    program = network.start(server, on=b)
    network.sleep(0.1)
    begin = network.now
    sock = a.socket()
    sock.connect(("10.0.0.2", 80))
    assert network.now - begin == 40_000_000  # ARP, then the handshake
    sock.sendall(b"hello")
    sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        sock.recv(100)
    assert network.now - begin == 340_000_000
    sock.settimeout(None)
    assert sock.recv(100) == b"HELLO"
    network.run()
    assert program.done


def test_the_test_and_a_program_wait_for_each_other(network: Network) -> None:
    a, b = network.chain(2)
    network.address()

    def waits(process: Process) -> None:
        sock = process.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", 7))
        sock.recv(1)

    network.start(waits, on=b)
    mine = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    mine.bind(("0.0.0.0", 7))
    with pytest.raises(Deadlock, match=r"recvfrom\(fd \d+\) of the test, and 1 programs wait") as e:
        mine.recv(1)
    assert "waits on n1: recvfrom" in str(e.value)


CLONE_NEWNET = 0x40000000


def containers(node: Node) -> list[Process]:
    """Two processes of a node in network namespaces of their own, with a cable between them."""
    found = [node.fork(), node.fork()]
    for process in found:
        process.os.unshare(CLONE_NEWNET)
    node.link_add("veth", "left", peer="right", up=False)
    for name, process, address in zip(("left", "right"), found, ("1", "2"), strict=True):
        node.link_set(name, net_ns_pid=process.pid)
        process.link_set(name, state="up")
        process.address_add(name, f"10.9.0.{address}/24")
    return found


def test_containers_on_a_node(network: Network) -> None:
    """Programs in namespaces of their own, which nobody else on the node sees."""
    (a,) = mute(network, "a")
    one, other = containers(a)

    def serve(process: Process) -> tuple[bytes, Any]:
        sock = receiver(process)
        data, peer = sock.recvfrom(100)
        sock.sendto(data.upper(), peer)
        return data, peer

    def ask(process: Process) -> bytes:
        assert process.pid not in (one.pid, other.pid)
        sock = receiver(process, 8)
        sock.sendto(b"hello", ("10.9.0.1", 7))
        answer: bytes = sock.recv(100)
        return answer

    served = network.start(serve, on=one)
    asked = network.start(ask, on=other, at=network.seconds + 1)
    alone = network.start(lambda process: process.read_text("/proc/net/dev"), on=a)
    network.run()
    assert asked.result == b"HELLO"
    assert served.result == (b"hello", ("10.9.0.2", 8))
    assert "left" not in alone.result and "right" not in alone.result
    assert not one.ended  # the container goes on


def test_what_programs_can_t_be_on(network: Network, kernel: Kernel) -> None:
    (a,) = mute(network, "a")
    gone = a.fork()
    gone.exit()
    with pytest.raises(UsageError, match="this process has ended"):
        network.start(lambda _: None, on=gone)
    for stranger in (kernel, kernel.fork(), 5):
        with pytest.raises(UsageError, match="neither a node of this network nor a process of one"):
            network.start(lambda _: None, on=stranger)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="there is no node 'c'"):
        network.start(lambda _: None, on="c")
