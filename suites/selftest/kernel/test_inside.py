# SPDX-License-Identifier: GPL-2.0
"""The kernel's own state, by drgn and by name, against what its system calls say."""

from __future__ import annotations

from typing import Any

import pytest
from drgn import FaultError, Object, cast
from drgn.helpers.linux.fs import fget
from drgn.helpers.linux.net import SOCKET_I, for_each_netdev, netdev_get_by_name
from drgn.helpers.linux.pid import find_task, for_each_task

from anykernel.errors import KernelCrash
from anykernel.kernel import Kernel
from anykernel.kernel.sockets import Socket


def tcp_sock(kernel: Kernel, sock: Socket) -> Object:
    file = fget(find_task(kernel.prog, 1), sock.fileno())
    return cast("struct tcp_sock *", SOCKET_I(file.f_inode).sk)


def connected(kernel: Kernel) -> tuple[Socket, Socket]:
    with kernel.socket() as server:
        server.bind(("127.0.0.1", 80))
        server.listen()
        client = kernel.socket()
        client.connect(("127.0.0.1", 80))
        accepted, _ = server.accept()
    return client, accepted


def test_a_connections_state(kernel: Kernel) -> None:
    client, accepted = connected(kernel)
    tcp = tcp_sock(kernel, client)
    common = tcp.inet_conn.icsk_inet.sk.__sk_common
    assert common.skc_state == kernel.prog.constant("TCP_ESTABLISHED")
    assert int.from_bytes(int(common.skc_dport).to_bytes(2, "little")) == 80
    assert common.skc_num == client.getsockname()[1]
    before = tcp.bytes_acked.value_()
    client.send(bytes(3000))
    accepted.recv(3000)
    kernel.clock.advance(1)
    assert tcp.bytes_acked.value_() == before + 3000
    client.close()
    kernel.clock.run_until_idle(1)


def test_netdevs(kernel: Kernel) -> None:
    start = kernel.snapshot()
    kernel.add_netdev("eth7", mtu=1280, mac="02:00:00:00:00:07")
    device = netdev_get_by_name(kernel.prog, "eth7")
    assert device.mtu == 1280
    said = {line.split(":")[0].strip() for line in kernel.open("/proc/net/dev") if ":" in line}
    names = {one.name.string_().decode() for one in for_each_netdev(kernel.prog["init_net"])}
    assert names == said
    kernel.restore(start)
    assert not netdev_get_by_name(kernel.prog, "eth7")


def test_tasks(kernel: Kernel) -> None:
    found = {task.pid.value_() for task in for_each_task(kernel.prog)}
    assert found >= {int(name) for name in kernel.os.listdir("/proc") if name.isdigit()}


def test_variables_are_those_that_sysctls_set(kernel: Kernel) -> None:
    kernel.sysctl["net.ipv4.ip_default_ttl"] = 77
    assert kernel.prog["init_net"].ipv4.sysctl_ip_default_ttl == 77
    assert kernel.inside.init_net.ipv4.sysctl_ip_default_ttl == 77
    kernel.inside.init_net.ipv4.sysctl_ip_default_ttl = 78
    assert kernel.sysctl["net.ipv4.ip_default_ttl"] == "78"


@pytest.mark.kernel(components=["net/ipv4"])
def test_a_kernel_of_some_components(kernel: Kernel) -> None:
    client, _ = connected(kernel)
    assert tcp_sock(kernel, client).snd_cwnd == 10
    with pytest.raises(LookupError):
        kernel.prog["inet6_stream_ops"]


def test_addresses_that_are_nobodys(kernel: Kernel) -> None:
    with pytest.raises(FaultError):
        kernel.prog.read(8, 8)


@pytest.mark.kernel(allow_crash=True)
def test_the_memory_of_a_dead_kernel(kernel: Kernel) -> None:
    with pytest.raises(KernelCrash):
        kernel.inside.memset(16, 0, 16)
    assert kernel.prog["init_task"].comm.string_().startswith(b"swapper")
    any_task: Any = find_task(kernel.prog, 1)
    assert any_task.comm.string_() == b"init"
