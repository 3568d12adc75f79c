# SPDX-License-Identifier: GPL-2.0
"""All that pyroute2 offers: served by the kernel under test, or refused with what to take."""

from __future__ import annotations

import asyncio
import inspect
import socket
from typing import Any

import pyroute2
import pytest
from pyroute2.netlink.exceptions import NetlinkError

from anykernel.errors import UsageError
from anykernel.kernel import Kernel

CLASSES = sorted(name for name, one in vars(pyroute2).items() if inspect.isclass(one))
SERVED = {"IPRoute", "RawIPRoute", "IPRSocket", "AsyncIPRoute", "NlEthtool", "DiagSocket"}
SERVED |= {"NFTSocket", "Conntrack", "GenericNetlinkSocket", "IPBatch", "UeventSocket", "MPTCP"}


@pytest.fixture
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may open a socket of the machine."""

    def refused(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a socket of the machine: {args}")

    monkeypatch.setattr(socket.socket, "__init__", refused)


@pytest.mark.usefixtures("no_machine")
@pytest.mark.parametrize("name", CLASSES)
def test_each_class_works_or_is_refused(kernel: Kernel, name: str) -> None:
    before = kernel.os.listdir("/proc/self/fd")
    said = name
    try:
        kernel.netlink(getattr(pyroute2, name)).close()
    except UsageError as error:
        said = str(error)
    assert name in said
    assert name not in SERVED or said == name
    assert len(kernel.os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("NDB", "use IPRoute"),
        ("IPDB", "use IPRoute"),
        ("Ethtool", "use NlEthtool"),
        ("WiSet", r"WiSet\(sock="),
        ("NetNS", r"fork\(\) a process"),
        ("NSPopen", "programs on the machine"),
        ("NetlinkError", "no netlink socket"),
        ("Plan9ClientSocket", "no netlink socket"),
        ("EventSocket", "only a base of others"),
        ("WireGuard", "nobody to talk to in this kernel"),
    ],
)
def test_what_to_take_instead(kernel: Kernel, name: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        kernel.netlink(getattr(pyroute2, name))


def test_what_is_no_class(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match="takes a class of pyroute2"):
        kernel.netlink("IPRoute")


class Own(pyroute2.IPRoute):  # type: ignore[misc]
    """As users derive them."""


@pytest.mark.parametrize("cls", [Own, pyroute2.IPRoute, pyroute2.RawIPRoute])
def test_links_of_this_kernel(kernel: Kernel, cls: Any) -> None:
    kernel.add_netdev("only_here")
    with kernel.netlink(cls) as ip:
        names = {link.get("ifname") for link in ip.get_links()}
    assert "only_here" in names


def test_protocols_are_the_classes_own(kernel: Kernel) -> None:
    ethtool = kernel.netlink(pyroute2.NlEthtool)
    kernel.add_netdev("eth0")
    assert ethtool.is_nlethtool_in_kernel()
    sock = kernel.socket()
    sock.bind(("127.0.0.1", 77))
    sock.listen()
    with kernel.netlink(pyroute2.DiagSocket) as diag:
        diag.bind()
        found = diag.get_sock_stats(family=socket.AF_INET)
        assert 77 in {one["idiag_sport"] for one in found}


def test_coroutines_run_in_asyncio(kernel: Kernel) -> None:
    kernel.add_netdev("eth0")

    async def main() -> tuple[set[str], str]:
        async with kernel.netlink(pyroute2.AsyncIPRoute) as ip:
            await ip.link("add", ifname="dummy9", kind="dummy")
            dumped = await ip.link("dump")
            names = {link.get("ifname") async for link in dumped}
            try:
                await ip.link("get", index=999)
            except NetlinkError as error:
                return names, str(error)
        return names, ""

    names, error = asyncio.run(main())
    assert {"lo", "eth0", "dummy9"} <= names
    assert "No such device" in error


def test_two_coroutines_side_by_side(kernel: Kernel) -> None:
    """One waits for events, which the other's requests cause."""

    async def main() -> str:
        async with (
            kernel.netlink(pyroute2.AsyncIPRoute) as watcher,
            kernel.netlink(pyroute2.AsyncIPRoute) as ip,
        ):
            await watcher.bind()

            async def watch() -> str:
                async for message in watcher.get():
                    return str(message.get("ifname"))
                return ""

            heard, _ = await asyncio.gather(watch(), ip.link("add", ifname="dummy8", kind="dummy"))
            return heard

    assert asyncio.run(main()) == "dummy8"


# Options


REFUSED = {"dst": "10.0.0.0/8", "gateway": "192.0.2.9"}
"""A route that the kernel refuses, with a reason in words."""


@pytest.mark.parametrize("options", [{}, {"ext_ack": True}])
def test_the_kernels_own_words(kernel: Kernel, options: dict[str, Any]) -> None:
    with pytest.raises(NetlinkError, match="Nexthop has invalid gateway"):
        kernel.netlink(**options).route("add", **REFUSED)


def test_not_the_kernels_own_words(kernel: Kernel) -> None:
    with pytest.raises(NetlinkError) as caught:
        kernel.netlink(ext_ack=False).route("add", **REFUSED)
    assert "Nexthop" not in str(caught.value)


def test_strict_check(kernel: Kernel) -> None:
    """A dump with a filter that the kernel doesn't know: ignored, or an error."""
    from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import RTM_GETADDR
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

    async def dump(**options: Any) -> list[Any]:
        message = ifaddrmsg()
        message["prefixlen"] = 7  # no filter
        ip = kernel.netlink(pyroute2.AsyncIPRoute, **options)
        found = await ip.nlm_request(message, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP)
        return [one async for one in found]

    assert asyncio.run(dump())
    with pytest.raises(NetlinkError, match=r"[Ii]nvalid"):
        asyncio.run(dump(strict_check=True))


def test_sizes_of_buffers(kernel: Kernel) -> None:
    ip = kernel.netlink(rcvbuf=5000, sndbuf=6000)
    get = ip.asyncore.getsockopt
    assert get(socket.SOL_SOCKET, socket.SO_RCVBUF) == 10_000  # the kernel doubles them
    assert get(socket.SOL_SOCKET, socket.SO_SNDBUF) == 12_000


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("fileno", 3, "the machine's own kernel"),
        ("netns", "blue", r"fork\(\) a process"),
        ("target", "10.0.0.1", "the machine's own kernel"),
        ("pid", 5, "the kernel chooses"),
        ("port", 5, "the kernel chooses"),
        ("use_socket", None, "one of the kernel's"),
        ("use_event_loop", None, "one of ours"),
        ("async_qsize", 5, "no effect"),
        ("rcvsize", 5, "no effect"),
    ],
)
def test_options_that_cannot_be_had(kernel: Kernel, option: str, value: Any, what: str) -> None:
    with pytest.raises(UsageError, match=rf"{option}=: .*{what}"):
        kernel.netlink(**{option: value})


def test_options_that_are_none(kernel: Kernel) -> None:
    with pytest.raises(UsageError, match=r"IPRoute doesn't take that: .*colour"):
        kernel.netlink(colour="blue")
    with pytest.raises(UsageError, match="no pid="):
        kernel.netlink().bind(pid=5)
