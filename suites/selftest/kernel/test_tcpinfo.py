# SPDX-License-Identifier: GPL-2.0
"""TCP_INFO whole: every field of the running kernel, against its own headers and its state."""

from __future__ import annotations

import re

import pytest

from anykernel.kernel import Kernel
from anykernel.kernel.sockets import Socket


def pair(kernel: Kernel) -> tuple[Socket, Socket]:
    with kernel.socket() as server:
        server.bind(("127.0.0.1", 80))
        server.listen()
        client = kernel.socket()
        client.connect(("127.0.0.1", 80))
        return client, server.accept()[0]


def test_all_fields_with_their_values(kernel: Kernel) -> None:
    """As C that was compiled with the kernel's headers sees the same bytes."""
    client, accepted = pair(kernel)
    client.send(bytes(100_000))
    accepted.recv(50_000)
    text = (kernel.image.tree / "include/uapi/linux/tcp.h").read_text()
    body = text.split("struct tcp_info {")[1].split("};")[0]
    names = re.findall(r"\b(tcpi_\w+)", re.sub(r"/\*.*?\*/", "", body, flags=re.S))
    info = client.tcp_info()
    assert [f"tcpi_{name}" for name in info] == names and len(names) > 50
    cases = "\n".join(f"case {at}: return info->{name};" for at, name in enumerate(names))
    code = kernel.c(f"""#include <linux/tcp.h>
        u64 field(const struct tcp_info *info, int at) {{ switch (at) {{ {cases} }} return 0; }}
        u64 size(void) {{ return sizeof(struct tcp_info); }}
    """)
    raw = client.getsockopt(6, 11, 1024)
    assert len(raw) == code.size()
    assert [code.field(raw, at) for at in range(len(names))] == list(info.values())
    assert info["state"] == 1 and info["bytes_sent"] == 100_000 and info["snd_mss"] > 1000
    assert info["snd_wscale"] == accepted.tcp_info()["rcv_wscale"] > 0


@pytest.mark.parametrize("times", [1, 2])
def test_of_a_child_process_too(kernel: Kernel, times: int) -> None:
    with kernel.fork() as child:
        client, accepted = pair(child)  # type: ignore[arg-type]
        with client, accepted:
            for _ in range(times):
                assert client.tcp_info()["state"] == 1
