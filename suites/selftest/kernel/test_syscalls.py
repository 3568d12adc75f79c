# SPDX-License-Identifier: GPL-2.0
"""System call numbers: against the machine's own header, and helpful when a name is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anykernel.errors import UsageError
from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import abi

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers on this machine")
def test_all_numbers_of_the_machines_header() -> None:
    header = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text()))
    assert len(header) > 300
    assert {name: NUMBERS.get(name) for name in header} == {
        name: int(number) for name, number in header.items()
    }


def test_numbers_have_names() -> None:
    assert abi.name(45) == "recvfrom"
    assert abi.name(0x10000) == "system call 65536"


def test_no_number_twice() -> None:
    assert len(set(NUMBERS.values())) == len(NUMBERS)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("sendmesg", "sendmsg"), ("getpids", "getpid"), ("epol_wait", "epoll_wait")],
)
def test_a_wrong_name_says_what_may_be_meant(wrong: str, right: str) -> None:
    with pytest.raises(UsageError, match=rf"{wrong}.*{right}"):
        abi.number(wrong)


def test_a_name_like_no_other() -> None:
    with pytest.raises(UsageError, match=r"there is no system call 'xyzzyplugh' on x86-64$"):
        abi.number("xyzzyplugh")
